"""Whose maps depend on the device? The largest difference of each method, a panel per setting."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from wallcheck.plots._style import BLACK, WIDTH, family_of, in_order, look, need, styled

LEAST = 1e-9


@styled
def devices(table: pd.DataFrame, bound: float) -> Figure:
    """Methods by family along the axis, the difference as a share of the peak, on a log scale; equal maps at its foot.

    table: setting, method, apart. bound: a line.
    """
    need(table, ["setting", "method", "apart"])
    settings, methods = list(dict.fromkeys(table["setting"])), in_order(table["method"])
    figure = Figure(figsize=(WIDTH, 0.6 + 1.5 * len(settings)), layout="constrained")
    panels = figure.subplots(len(settings), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, setting in zip(panels, settings, strict=True):
        found = table[table["setting"] == setting].set_index("method")["apart"].reindex(methods)
        for place, (method, apart) in enumerate(found.items()):
            axes.plot(place, max(apart, LEAST), ls="", ms=4, **look(method).mark)
        axes.axhline(bound, color=BLACK, lw=0.6, ls=":")
        axes.set(yscale="log", title=setting, ylim=(LEAST / 2, 10))
    families = [family_of(method) for method in methods]
    starts = [i for i, family in enumerate(families) if i == 0 or families[i - 1] != family]
    middle = [np.mean([start, stop - 1]) for start, stop in zip(starts, [*starts[1:], len(methods)], strict=True)]
    panels[-1].set_xticks(middle, [families[i] for i in starts], rotation=35, ha="right")
    panels[-1].tick_params(axis="x", length=0)
    figure.supylabel("largest difference / peak", fontsize=8)
    figure.supxlabel("equal maps stand at the foot; the dotted line is the bound", fontsize=8)
    return figure

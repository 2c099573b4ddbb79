"""Changes by method, a panel per metric: what a training or a repair does to maps."""

import pandas as pd
from matplotlib.figure import Figure

from wallcheck.cams import called
from wallcheck.plots._style import GREY, WIDTH, in_order, look, need, styled


@styled
def paired_changes(table: pd.DataFrame, label: str) -> Figure:
    """table: method, metric, change, low, high. One panel per metric, a line per method, 0 marked."""
    need(table, ["method", "metric", "change", "low", "high"])
    metrics, methods = list(dict.fromkeys(table["metric"])), in_order(table["method"].unique())
    columns = min(4, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(WIDTH, rows * (0.16 * len(methods) + 0.5) + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for axes, metric in zip(panels, metrics, strict=False):
        of = table[table["metric"] == metric].set_index("method").reindex(methods)
        axes.hlines(range(len(methods)), of["low"], of["high"], color=GREY, lw=1.2)
        for place, (method, value) in enumerate(of["change"].items()):
            axes.plot([value], [place], ls="", ms=4, gid=f"change:{metric}:{method}", **look(method).mark)
        axes.axvline(0, color=GREY, lw=0.6, zorder=0)
        axes.set(title=metric, yticks=range(len(methods)), ylim=(len(methods) - 0.4, -0.6))
        axes.set_yticklabels([called(method) for method in methods], fontsize=6.5)
    for axes in list(panels):
        axes.set_visible(False)
    figure.supxlabel(label, fontsize=8)
    return figure

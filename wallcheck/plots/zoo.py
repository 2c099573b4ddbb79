"""Families of networks behind walls: how much of each method's attribution lies where the network cannot see."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wallcheck.cams import called
from wallcheck.plots._style import BLACK, GREY, WIDTH, in_order, marks, need, styled
from wallcheck.statistics import interval, over_nets


@styled
def zoo(rows: pd.DataFrame) -> Figure:
    """A panel for each wall and state of the nets, families side by side: mean share on unseen cells with its 95 % interval.

    rows: family, kind, state, seed, image, method, value. The grey bar is what a constant map scores; intervals are for new nets
    and images where there are three nets, for new images where there is one.
    """
    need(rows, ["family", "kind", "state", "seed", "image", "method", "value"])
    kinds, states = list(dict.fromkeys(rows["kind"])), list(dict.fromkeys(rows["state"]))
    families = list(dict.fromkeys(rows["family"]))
    figure = Figure(figsize=(WIDTH, 1.9 * len(kinds) * len(states) + 0.9), layout="constrained")
    panels = figure.subplots(len(kinds) * len(states), 1, sharex=True, squeeze=False)[:, 0]
    methods = [name for name in in_order(rows["method"]) if name != "constant"]
    places = [(kind, state) for kind in kinds for state in states]
    for axes, (kind, state) in zip(panels, places, strict=True):
        part = rows[(rows["kind"] == kind) & (rows["state"] == state)]
        _panel(axes, part, families, methods)
        axes.set_title(f"{kind} wall, {state}", loc="left")
    panels[-1].set_xticks(range(len(families)), families, rotation=30, ha="right")
    handles, labels = panels[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique, loc="outside upper center", ncols=min(len(unique), 5))
    figure.supylabel("share of attribution on unseen cells", fontsize=8)
    return figure


def _panel(axes: Axes, part: pd.DataFrame, families: list[str], methods: list[str]) -> None:
    for place, family in enumerate(families):
        of = part[part["family"] == family]
        constant = of.loc[of["method"] == "constant", "value"]
        if len(constant):
            axes.hlines(
                constant.mean(), place - 0.45, place + 0.45, color=GREY, lw=3, alpha=0.5, label="a constant map"
            )
        for number, (method, mark) in enumerate(marks(methods).items()):
            found = _found(of[of["method"] == method])
            if found is None:
                continue
            at = place + 0.8 * ((number + 0.5) / len(methods) - 0.5)
            bar = (
                [[found["mean"] - found["low"]], [found["high"] - found["mean"]]] if np.isfinite(found["low"]) else None
            )
            told = dict(ms=4, label=called(method), gid=f"{family}:{method}", ls="", elinewidth=0.7)
            axes.errorbar([at], [found["mean"]], bar, **told, **mark)
    axes.axhline(0, color=BLACK, lw=0.5, zorder=0)
    axes.set_ylim(-0.03, 1.03)


def _found(rows: pd.DataFrame) -> dict | None:
    """Mean and interval; None where there is nothing."""
    if rows["value"].notna().sum() == 0:
        return None
    values = rows.pivot_table(index="image", columns="seed", values="value", dropna=False).to_numpy()
    return over_nets(values) if values.shape[1] > 1 else interval(values[:, 0])

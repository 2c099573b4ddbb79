"""Every explainer of other libraries on one net: what leaks, what the library's own view adds, what a constant map scores."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wallcheck.plots._style import BLACK, GREY, RED, SKY, WIDTH, need, styled

ROW = 0.155  # inches a method
_LEAKS = dict(marker="D", s=14, color=RED, label="the method's own leakage")
_CAME = "as handed over, where it differs"
_BLIND = dict(marker="s", s=14, color=SKY, edgecolor=BLACK, lw=0.5, label="exactly 0")


@styled
def peers(table: pd.DataFrame) -> Figure:
    """A panel for each library, a line for each explainer: its own leakage with the 95 % interval, that of the map as handed over
    where it is another, and what a constant map scores on the same cells or pixels.

    table: library, name, value, low, high, came, constant; NaN where an explainer does not apply. Libraries fill two columns.
    """
    need(table, ["library", "name", "value", "low", "high", "came", "constant"])
    parts = dict(list(table.dropna(subset=["value"]).groupby("library", sort=False)))
    columns = _columns({name: len(part) for name, part in parts.items()})
    tallest = max(sum(len(parts[name]) + 3 for name in column) for column in columns)
    figure = Figure(figsize=(WIDTH, ROW * tallest + 0.5), layout="constrained")
    for side, column in zip(figure.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True):
        heights = [len(parts[name]) + 1 for name in column]
        spare = tallest - sum(height + 2 for height in heights)
        shape = dict(height_ratios=[*heights, spare]) if spare > 0 else dict(height_ratios=heights)
        panels = side.subplots(len(shape["height_ratios"]), 1, gridspec_kw=shape, squeeze=False)[:, 0]
        for axes, name in zip(panels, column, strict=False):
            _panel(axes, parts[name], name)
        for axes in panels[len(column) :]:
            axes.set_axis_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.supxlabel("share of positive attribution that is unseen", fontsize=8)
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def _columns(counts: dict[str, int]) -> list[list[str]]:
    """Libraries in two columns of much the same height, in their order.

    >>> _columns(dict(a=19, b=9, c=29, d=12, e=20))
    [['a', 'b', 'e'], ['c', 'd']]
    """
    columns: list[list[str]] = [[], []]
    heights = [0, 0]
    for name in sorted(counts, key=counts.get, reverse=True):
        place = heights.index(min(heights))
        columns[place].append(name)
        heights[place] += counts[name]
    order = list(counts)
    return sorted([sorted(column, key=order.index) for column in columns if column], key=lambda c: order.index(c[0]))


def _panel(axes: Axes, part: pd.DataFrame, library: str) -> None:
    places = np.arange(len(part))
    value = part["value"].to_numpy()
    ends = [value - part["low"].fillna(part["value"]), part["high"].fillna(part["value"]) - value]
    axes.scatter(part["constant"], places, marker="|", s=40, color=GREY, label="a constant map", zorder=1)
    came = part["came"].where(
        ~np.isclose(part["came"], value, atol=0.005)
    )  # a ring around each mark would tell nothing
    axes.scatter(came, places, marker="o", s=22, facecolor="white", edgecolor=BLACK, lw=0.6, label=_CAME)
    leaks, ends = value > 0, np.clip(ends, 0, None)
    for some, look in ((leaks, _LEAKS), (~leaks, _BLIND)):
        bar = dict(ls="", color=look["color"], elinewidth=0.7, zorder=3)
        axes.errorbar(value[some], places[some], xerr=ends[:, some], **bar)
        axes.scatter(value[some], places[some], zorder=4, **look)
    axes.set_yticks(places, part["name"], fontsize=6.5)
    axes.set_ylim(len(part) - 0.4, -0.6)
    axes.set_xlim(-0.03, 1.03)
    axes.set_title(library, loc="left")
    axes.grid(axis="x", color=GREY, alpha=0.3, lw=0.4)

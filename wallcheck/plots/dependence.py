"""Leakage by what is changed, one thing at a time."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wallcheck.cams import called
from wallcheck.plots._style import WIDTH, marks, need, styled


@styled
def dependence(table: pd.DataFrame) -> Figure:
    """One panel per factor, its levels on the left, a mark per method with its interval over nets and images.

    table: factor, level, method, mean, low, high.
    """
    need(table, ["factor", "level", "method", "mean", "low", "high"])
    factors, looks = list(dict.fromkeys(table["factor"])), marks(table["method"].unique())
    columns = 2
    rows = -(-len(factors) // columns)
    figure = Figure(figsize=(WIDTH, 1.35 * rows + 0.4), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    for axes, factor in zip(panels, factors, strict=False):
        part = table[table["factor"] == factor]
        levels = list(dict.fromkeys(part["level"]))
        for shift, (method, mark) in zip(np.linspace(-0.3, 0.3, len(looks)), looks.items(), strict=True):
            of = part[part["method"] == method].set_index("level").reindex(levels)
            places = np.arange(len(levels)) + shift
            axes.hlines(places, of["low"], of["high"], color=mark["color"], lw=0.8)
            axes.plot(of["mean"], places, ls="", ms=3, gid=f"mean:{factor}:{method}", **mark)
        axes.set(title=factor, yticks=range(len(levels)), ylim=(len(levels) - 0.5, -0.5), xlim=(-0.02, 1.02))
        axes.set_yticklabels(levels, fontsize=6)
    for axes in panels[len(factors) :]:
        axes.set_visible(False)
    figure.supxlabel("share of positive attribution on unseen cells", fontsize=8)
    handles = [Line2D([], [], ls="", ms=4, label=called(method), **mark) for method, mark in looks.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure

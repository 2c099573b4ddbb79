"""Which metrics see the wall? Change under paint on unseen pixels, and rank correlation with leakage, by metric."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wallcheck.metrics import named
from wallcheck.plots._style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, WIDTH, need, styled

KIND = {
    "leakage": (RED, "o"),
    "localisation": (GREEN, "s"),
    "faithfulness": (BLUE, "^"),
    "consistency": (PURPLE, "D"),
    "combined": (ORANGE, "v"),
}


@styled
def blindness(changes: pd.DataFrame, ranks: pd.DataFrame) -> Figure:
    """Left: the largest mean change under any paint, hollow where no map changes at all; right: Spearman's correlation. A colour and
    a mark for each kind of metric.

    changes: metric, paint, change, same; ranks: metric, mean, low, high.
    """
    need(changes, ["metric", "paint", "change", "same"])
    need(ranks, ["metric", "mean", "low", "high"])
    metrics = list(dict.fromkeys(changes["metric"]))
    last = changes["paint"].iloc[-1]
    figure = Figure(figsize=(WIDTH, 0.17 * len(metrics) + 1.3), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for place, metric in enumerate(metrics):
        of, (colour, mark) = changes[changes["metric"] == metric], KIND[named(metric).kind]
        fixed = of[of["paint"] != last]
        most = fixed["change"].abs().max()
        blind = (fixed["same"] == 1).all()
        inside = "white" if blind else colour
        left.plot([most], [place], mark, color=colour, mfc=inside, ms=4.5, gid=f"painted:{metric}")
        left.plot(of.loc[of["paint"] == last, "change"].abs(), [place], "|", color=BLACK, ms=6)
        line = ranks[ranks["metric"] == metric]
        if len(line):
            right.hlines([place], line["low"], line["high"], color=colour, lw=1.2)
            right.plot(line["mean"], [place], mark, color=colour, ms=4, gid=f"rank:{metric}")
    left.set(yticks=np.arange(len(metrics)), yticklabels=metrics, ylim=(len(metrics) - 0.4, -0.6))
    left.set(
        title="painted where the net cannot see",
        xlabel="largest mean change\n(hollow: no map changes; |: brighter than all, stretched)",
    )
    right.set(
        title="does it rank methods as leakage does?",
        xlabel="rank correlation with leak_mass\nover methods",
        xlim=(-1, 1),
    )
    for axes in (left, right):
        axes.axvline(0, color=GREY, lw=0.6, zorder=0)
    kinds = dict.fromkeys(named(metric).kind for metric in metrics)
    handles = [Line2D([], [], ls="", color=KIND[kind][0], marker=KIND[kind][1], ms=4.5, label=kind) for kind in kinds]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure

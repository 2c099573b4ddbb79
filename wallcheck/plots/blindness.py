"""Which metrics see the wall? Change under paint on unseen pixels, and rank correlation with leakage, by metric."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from wallcheck.metrics import named
from wallcheck.plots._style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, WIDTH, need, styled

KIND = {"leakage": RED, "localisation": GREEN, "faithfulness": BLUE, "consistency": PURPLE, "combined": ORANGE}


@styled
def blindness(changes: pd.DataFrame, ranks: pd.DataFrame) -> Figure:
    """Left: the largest mean change under any paint, a ring where no map changes at all; right: Spearman's correlation.

    changes: metric, paint, change, same; ranks: metric, mean, low, high.
    """
    need(changes, ["metric", "paint", "change", "same"])
    need(ranks, ["metric", "mean", "low", "high"])
    metrics = list(dict.fromkeys(changes["metric"]))
    last = changes["paint"].iloc[-1]
    figure = Figure(figsize=(WIDTH, 0.17 * len(metrics) + 1), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for place, metric in enumerate(metrics):
        of, colour = changes[changes["metric"] == metric], KIND[named(metric).kind]
        fixed = of[of["paint"] != last]
        most = fixed["change"].abs().max()
        blind = (fixed["same"] == 1).all()
        left.plot([most], [place], "o", color=colour, mfc="white" if blind else colour, ms=4.5, gid=f"painted:{metric}")
        left.plot(of.loc[of["paint"] == last, "change"].abs(), [place], "|", color=BLACK, ms=6)
        line = ranks[ranks["metric"] == metric]
        if len(line):
            right.hlines([place], line["low"], line["high"], color=colour, lw=1.2)
            right.plot(line["mean"], [place], "o", color=colour, ms=4, gid=f"rank:{metric}")
    left.set(yticks=np.arange(len(metrics)), yticklabels=metrics, ylim=(len(metrics) - 0.4, -0.6))
    left.set(
        title="painted where the net cannot see",
        xlabel="largest mean change\n(ring: no map changes; |: brighter than all, stretched)",
    )
    right.set(
        title="does it rank methods as leakage does?",
        xlabel="rank correlation with leak_mass\nover methods",
        xlim=(-1, 1),
    )
    for axes in (left, right):
        axes.axvline(0, color=GREY, lw=0.6, zorder=0)
    return figure

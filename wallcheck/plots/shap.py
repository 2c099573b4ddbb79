"""Whose channel weights are SHAP's? Cosine with SHAP values by method, a panel per kind of net."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from wallcheck.cams import called
from wallcheck.plots._style import BLUE, GREY, RED, WIDTH, need, styled

STATES = {"untrained": (GREY, "o", -0.15), "trained": (BLUE, "s", 0.15)}


@styled
def shap_agreement(table: pd.DataFrame, measure: str = "cosine") -> Figure:
    """One panel per head and number of channels, a line per method: mean with its interval over nets and images.

    table: head, channels, state, method, measure, mean, low, high.
    """
    need(table, ["head", "channels", "state", "method", "measure", "mean", "low", "high"])
    part = table[table["measure"] == measure]
    kinds = list(dict.fromkeys(zip(part["head"], part["channels"], strict=True)))
    methods = list(dict.fromkeys(part["method"]))
    figure = Figure(figsize=(WIDTH, 0.6 + 0.24 * len(methods)), layout="constrained")
    for axes, (head, channels) in zip(
        figure.subplots(1, len(kinds), sharex=True, sharey=True, squeeze=False)[0], kinds, strict=True
    ):
        of_kind = part[(part["head"] == head) & (part["channels"] == channels)]
        for state, (colour, marker, shift) in STATES.items():
            of = of_kind[of_kind["state"] == state].set_index("method").reindex(methods)
            places = np.arange(len(methods)) + shift
            axes.hlines(places, of["low"], of["high"], color=colour, lw=1.2)
            axes.plot(of["mean"], places, ls="", marker=marker, color=colour, ms=4, label=state)
        axes.axvline(1, color=RED, lw=0.6, zorder=0)
        axes.set(
            title=f"{head}, K = {channels}", yticks=range(len(methods)), yticklabels=[called(name) for name in methods]
        )
    figure.axes[0].invert_yaxis()
    figure.supxlabel(f"{measure} with SHAP values; 1 is SHAP", fontsize=8)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(STATES))
    return figure

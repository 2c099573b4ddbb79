"""Predicted against measured leakage, from initialisation through training."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from wallcheck.cams import called
from wallcheck.plots._style import BLACK, WIDTH, emptiness, marks, need, styled
from wallcheck.statistics import interval

METRICS = {"leak_mass": "share of attribution", "leak_l2": "share of L2 norm"}


@styled
def prediction(table: pd.DataFrame) -> Figure:
    """One panel per metric: mean over images by training step; the black line is predicted with no parameter.

    table: step, image, method, metric, measured, predicted, as python -m experiments.prediction writes it.
    Bars are 95 % intervals; "∅12%" says that as many maps were empty, and left out. The step axis is linear up to 1, then logarithmic, so that step 0 is on it.
    """
    need(table, ["step", "image", "method", "metric", "measured", "predicted"])
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    for axes, (metric, label) in zip(figure.subplots(1, len(METRICS)), METRICS.items(), strict=True):
        part = table[table["metric"] == metric]
        for method, mark in marks(part["method"]).items():
            steps, means, bars, empty = _course(part[part["method"] == method])
            axes.errorbar(steps, means, bars, ms=3.8, lw=0.9, elinewidth=0.7, label=called(method), **mark)
            for step, mean, share in zip(steps, means, empty, strict=True):
                axes.annotate(emptiness(share), (step, mean), fontsize=5.5, color=mark["color"], annotation_clip=True)
        expected = part.groupby("step")["predicted"].mean()
        axes.plot(expected.index, expected, color=BLACK, lw=1.8, ls="--", label="predicted (T3)", zorder=5)
        axes.set_xscale("symlog", linthresh=1, linscale=0.5)
        axes.set(xlabel="training step", ylabel=f"{label} on unseen cells")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _course(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps, means, the two lengths of the interval's bars, and the shares of empty maps, which the means leave out."""
    found = {step: interval(values.to_numpy()) for step, values in rows.groupby("step")["measured"]}
    means = np.array([f["mean"] for f in found.values()])
    ends = np.array([[f["mean"] - f["low"], f["high"] - f["mean"]] for f in found.values()]).T
    return np.array(list(found)), means, ends, np.array([f["empty"] for f in found.values()])

"""Model randomisation: how similar a map stays while the net's weights are drawn anew, layer by layer."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wallcheck.cams import called
from wallcheck.plots._style import BLACK, WIDTH, emptiness, marks, need, styled
from wallcheck.statistics import SHARE, interval

LABELS = {
    "spearman": "rank correlation",
    "spearman_absolute": "rank corr., magnitudes",
    "pearson": "correlation",
    "ssim": "SSIM, displayed",
    "leak_mass": "share on unseen cells",
}


@styled
def randomisation(rows: pd.DataFrame) -> Figure:
    """A row of panels per mode, a column per measure: mean over images with 95 % interval, by the layers drawn anew.

    rows: mode, stage, layer, method, measure, image, value, as python -m experiments.randomisation writes them; stage 0
    is the trained net. "∅12%" says that as many maps were empty, and left out.
    """
    need(rows, ["mode", "stage", "layer", "method", "measure", "image", "value"])
    modes, measures = list(dict.fromkeys(rows["mode"])), [m for m in LABELS if m in set(rows["measure"])]
    figure = Figure(figsize=(WIDTH, 1.9 * len(modes) + 0.9), layout="constrained")
    panels = figure.subplots(len(modes), len(measures), sharex="row", squeeze=False)
    for line, mode in zip(panels, modes, strict=True):
        for axes, measure in zip(line, measures, strict=True):
            part = rows[(rows["mode"] == mode) & (rows["measure"] == measure)]
            _panel(axes, part)
            axes.set_title(LABELS[measure], fontsize=7.5)
        line[0].set_ylabel(mode)
        names = rows[rows["mode"] == mode].drop_duplicates("stage").sort_values("stage")
        for axes in line:
            axes.set_xticks(names["stage"], names["layer"], rotation=90, fontsize=5.5)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 7))
    figure.supxlabel("layer drawn anew, from the logits down", fontsize=8)
    return figure


def _panel(axes: Axes, part: pd.DataFrame) -> None:
    for method, mark in marks(part["method"]).items():
        groups = part[part["method"] == method].groupby("stage")["value"]
        scale = SHARE if (part["measure"] == "leak_mass").all() else None
        found = {stage: interval(values.to_numpy(), scale) for stage, values in groups}
        means, low, high = (np.array([one[key] for one in found.values()]) for key in ("mean", "low", "high"))
        axes.plot(list(found), means, label=called(method), gid=f"means:{method}", ms=3.5, lw=0.9, **mark)
        axes.fill_between(list(found), low, high, color=mark["color"], alpha=0.2, lw=0)
        for stage, one in found.items():
            if one["empty"] and np.isfinite(one["mean"]):
                axes.annotate(emptiness(one["empty"]).strip(), (stage, one["mean"]), fontsize=5, color=mark["color"])
    axes.axhline(0, color=BLACK, lw=0.5, zorder=0)

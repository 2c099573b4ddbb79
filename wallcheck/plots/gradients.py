"""Does training for interpretable gradients work? Standard against guided input gradients on held-out images."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from wallcheck.plots._style import BLACK, BLUE, GREY, RED, WIDTH, need, styled

LINES = ((GREY, ":", "o"), (BLUE, "-", "s"), (RED, "--", "^"))


@styled
def gradients(rows: pd.DataFrame) -> Figure:
    """Left: the share of images whose gradients agree less than so much; right: accuracy against agreement, a mark a net.

    rows: pixels, weight, seed, image, cosine, correct; weight 0 is training without the regulariser.
    """
    need(rows, ["pixels", "weight", "seed", "image", "cosine", "correct"])
    sizes = sorted(rows["pixels"].unique())
    figure = Figure(figsize=(WIDTH, 2.3 * len(sizes)), layout="constrained")
    for pixels, (shares, nets) in zip(sizes, figure.subplots(len(sizes), 2, squeeze=False), strict=True):
        of_size = rows[rows["pixels"] == pixels]
        weights = sorted(of_size["weight"].unique())
        for weight, (colour, line, mark) in zip(weights, LINES * len(weights), strict=False):
            part = of_size[of_size["weight"] == weight]
            values = np.sort(part["cosine"].to_numpy())
            told = f"weight {weight:g}"
            shares.plot(values, np.arange(1, len(values) + 1) / len(values), color=colour, ls=line, lw=1.4, label=told)
            means = part.groupby("seed")[["cosine", "correct"]].mean()
            nets.plot(means["cosine"], means["correct"], mark, color=colour, mec=BLACK, mew=0.5, ms=5, label=told)
        shares.set(xlabel="cosine of standard and guided gradient", ylabel=f"share of images, {pixels} px", ylim=(0, 1))
        nets.set(xlabel="mean cosine of a net", ylabel="accuracy")
        for axes in (shares, nets):
            axes.legend(loc="best")
    return figure

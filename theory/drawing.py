"""Figures of the theory, from verdicts alone: nothing is simulated here.

Okabe-Ito colours, told apart by marker and line style too, so they read in grey. `draw_all` draws those of `pictures`
whose claims were judged, and the z-scores of all.
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from theory.pictures import BLACK, BLUE, ORANGE, PICTURES

STYLE = {
    "font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "legend.fontsize": 8, "svg.hashsalt": "theory", "svg.fonttype": "none",
    "figure.constrained_layout.use": True, "savefig.dpi": 130,
}  # fmt: skip


def draw_all(verdicts: dict, folder: Path) -> list[Path]:
    """Every picture whose claim is among the verdicts, as PNG and SVG; and the z-scores of all."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        drawn = {
            name: picture(verdicts[claim].outcome.data)
            for name, (claim, picture) in PICTURES.items()
            if claim in verdicts
        }
        drawn["z_scores"] = z_scores(verdicts)
        for name, picture in drawn.items():
            picture.savefig(folder / f"{name}.png")
            picture.savefig(folder / f"{name}.svg", metadata={"Date": None})
    return [folder / f"{name}.png" for name in drawn]


def z_scores(verdicts: dict) -> Figure:
    """One panel per claim: its z-scores against the quantiles of the standard normal."""
    columns = min(3, len(verdicts))
    rows = -(-len(verdicts) // columns)
    picture = Figure(figsize=(2.3 * columns + 0.4, 2.1 * rows + 0.4))
    panels = picture.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, (claim, verdict) in zip(panels, verdicts.items(), strict=False):
        z = verdict.outcome.z
        quantiles = stats.norm.ppf((np.arange(z.count) + 0.5) / z.count)
        ax.axline((0, 0), slope=1, color=BLACK, lw=0.8, ls="--")
        ax.plot(quantiles, np.clip(np.sort(z.values), -5, 5), "o", ms=3, color=BLUE, mec="none")
        ax.set(xlim=(-3.6, 3.6), ylim=(-4.6, 4.6), title=f"{claim}: {z.count} z, KS p = {z.ks_p:.2f}")
        ax.axhspan(-4, 4, color=ORANGE, alpha=0.08, lw=0)
    for ax in panels[len(verdicts) :]:
        ax.set_axis_off()
    picture.supxlabel("standard normal quantile", fontsize=9)
    picture.supylabel("z-score of the simulation", fontsize=9)
    return picture

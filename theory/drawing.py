"""Figures of the theory, from verdicts alone: nothing is simulated here.

Okabe-Ito colours, told apart by marker and line style too, so they read in grey. Each figure is one function from
verdicts to a matplotlib Figure; `draw_all` draws those whose claims were judged.
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK, YELLOW)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE = {
    "font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "legend.fontsize": 8, "svg.hashsalt": "theory", "svg.fonttype": "none",
    "figure.constrained_layout.use": True, "savefig.dpi": 130,
}  # fmt: skip

FIGURES: dict[str, tuple[tuple[str, ...], Callable[..., Figure]]] = {}


def figure(name: str, *claims: str):
    """Register a drawing under `name`; it is given the verdicts on `claims`."""

    def register(function):
        FIGURES[name] = (claims, function)
        return function

    return register


def draw_all(verdicts: dict, folder: Path) -> list[Path]:
    """Every figure whose claims are among the verdicts, as PNG and SVG; and the z-scores of all."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        drawn = {
            name: function(*(verdicts[claim].outcome.data for claim in claims))
            for name, (claims, function) in FIGURES.items()
            if set(claims) <= set(verdicts)
        }
        drawn["z_scores"] = z_scores(verdicts)
        for name, picture in drawn.items():
            picture.savefig(folder / f"{name}.png")
            picture.savefig(folder / f"{name}.svg", metadata={"Date": None})
    return [folder / f"{name}.png" for name in drawn]


def z_scores(verdicts: dict) -> Figure:
    """Each claim's z-scores against the quantiles of the standard normal."""
    picture = Figure(figsize=(4.6, 4.2))
    axes = picture.subplots()
    for (claim, verdict), colour, marker in zip(verdicts.items(), COLOURS * 2, MARKERS * 2, strict=False):
        z = np.sort(verdict.outcome.z.values)
        quantiles = stats.norm.ppf((np.arange(z.size) + 0.5) / z.size)
        axes.plot(quantiles, z, marker, ms=3, color=colour, label=f"{claim} ({z.size})", mec="none", alpha=0.8)
    axes.axline((0, 0), slope=1, color=BLACK, lw=0.8, ls="--")
    axes.set(xlabel="standard normal quantile", ylabel="z-score of the simulation", xlim=(-4, 4), ylim=(-4.5, 4.5))
    axes.legend(title="claim (count)", loc="upper left")
    return picture


@figure("map", "T2")
def theory_map(t2: dict) -> Figure:
    """The image with its wall, the theory's map, the simulated mean, and both along the rows."""
    data = {name: np.asarray(value) for name, value in t2["map"].items()}
    picture = Figure(figsize=(9.2, 2.7))
    axes = picture.subplots(1, 4, width_ratios=(1, 1, 1, 1.35))
    axes[0].imshow(data["image"], cmap="gray")
    top = max(data["theory"].max(), data["simulation"].max())
    for ax, name in zip(axes[1:3], ("theory", "simulation"), strict=True):
        shown = ax.imshow(data[name], cmap="cividis", vmin=0, vmax=top)
    picture.colorbar(shown, ax=axes[2], shrink=0.75)
    share = data["seen"].any(1).mean()
    for ax, title in zip(
        axes[:3], ("image; below the line unseen", "theory: E[GC(u)]", "mean of simulated GC"), strict=True
    ):
        rows = ax.images[0].get_array().shape[0]
        ax.axhline(share * rows - 0.5, color=RED, lw=1.6, ls="--")
        ax.set(title=title, xticks=[], yticks=[])
    _rows(axes[3], data, share)
    return picture


def _rows(ax, data: dict, share: float) -> None:
    """Means over each row of cells, simulation with two standard errors."""
    rows = np.arange(data["theory"].shape[0])
    error = 2 * data["error"].mean(1)
    ax.plot(data["theory"].mean(1), rows, color=BLUE, label="theory")
    ax.errorbar(data["simulation"].mean(1), rows, xerr=error, fmt="o", ms=3, color=ORANGE, label="simulation, ±2 s.e.")
    ax.axhline(share * rows.size - 0.5, color=RED, lw=1.6, ls="--", label="wall")
    ax.set(xlabel="mean over the row", ylabel="row of cells", title="along the rows", ylim=(rows.size - 0.5, -0.5))
    ax.set_xlim(0, 1.65 * data["theory"].mean(1).max())
    ax.legend(loc="lower right")

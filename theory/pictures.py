"""One picture per claim, from the data of its outcome: a function from a dictionary to a matplotlib Figure."""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")

PICTURES: dict[str, tuple[str, Callable[[dict], Figure]]] = {}


def picture_of(claim: str):
    """Register a drawing under its function's name; it is given the data of `claim`."""

    def register(function):
        PICTURES[function.__name__] = (claim, function)
        return function

    return register


@picture_of("T2")
def local_contrast(data: dict) -> Figure:
    """The image with its wall, the theory's map, the simulated mean, and both along the rows."""
    data = {name: np.asarray(value) for name, value in data["map"].items()}
    picture = Figure(figsize=(9.4, 2.7))
    axes = picture.subplots(1, 4, width_ratios=(1, 1, 1, 1.5))
    axes[0].imshow(data["image"], cmap="gray")
    top = max(data["theory"].max(), data["simulation"].max())
    for ax, name in zip(axes[1:3], ("theory", "simulation"), strict=True):
        shown = ax.imshow(data[name], cmap="cividis", vmin=0, vmax=top)
    picture.colorbar(shown, ax=axes[2], shrink=0.8)
    share = data["seen"].any(1).mean()
    titles = ("image (unseen below)", "theory: E[GC(u)]", "mean of simulations")
    for ax, title in zip(axes[:3], titles, strict=True):
        ax.axhline(share * ax.images[0].get_array().shape[0] - 0.5, color=RED, lw=1.6, ls="--")
        ax.set(title=title, xticks=[], yticks=[])
    _rows(axes[3], data, share)
    return picture


def _rows(ax, data: dict, share: float) -> None:
    """Means over each row of cells, simulation with two standard errors."""
    rows = np.arange(data["theory"].shape[0])
    error = 2 * data["error"].mean(1)
    wall = share * rows.size - 0.5
    ax.plot(rows, data["theory"].mean(1), color=BLUE, label="theory")
    ax.errorbar(rows, data["simulation"].mean(1), yerr=error, fmt="o", ms=3, color=ORANGE, label="simulation ± 2 s.e.")
    ax.axvline(wall, color=RED, lw=1.6, ls="--")
    ax.set(xlabel="row of cells", ylabel="mean over the row", xticks=range(0, rows.size, 5))
    ax.set_ylim(0, 1.2 * data["theory"].mean(1).max())
    for side, place in (("right", wall - 0.4), ("left", wall + 0.4)):
        text = "seen" if side == "right" else "unseen"
        ax.text(place, 0.97, text, ha=side, va="top", color=RED, transform=ax.get_xaxis_transform())
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, columnspacing=1)


@picture_of("T2")
def width(data: dict) -> Figure:
    """kappa(m) over its leading term: exact, simulated, and the expansion in 1/m."""
    rows = {name: np.asarray(value, float) for name, value in data["width"].items()}
    picture = Figure(figsize=(4.8, 3.1))
    ax = picture.subplots()
    ax.axhline(1, color=BLACK, lw=0.8, label=r"leading term $\sqrt{m/2}$")
    ax.plot(rows["m"], rows["series2"], ls="--", color=GREEN, label=r"$1-\frac{5}{8m}$")
    ax.plot(rows["m"], rows["series3"], ls=":", lw=2, color=PURPLE, label=r"$1-\frac{5}{8m}-\frac{23}{128m^2}$")
    ax.plot(rows["m"], rows["exact"], color=BLUE, label="exact")
    ax.errorbar(
        rows["m"], rows["simulated"], yerr=2 * rows["error"], fmt="o", ms=4, color=ORANGE, label="simulation ± 2 s.e."
    )
    ax.set_xscale("log", base=2)
    shown = [1, 2, 4, 8, 16, 32, 64, 128]
    ax.set_xticks(shown, [str(m) for m in shown])
    ax.set(xlabel="width m (filters V, or units d)", ylabel=r"$\kappa(m)\,/\,\sqrt{m/2}$", ylim=(0.15, 1.08))
    ax.legend(loc="lower right")
    return picture


@picture_of("T3")
def any_backbone(data: dict) -> Figure:
    """Measured against predicted mean at every cell, for six kinds of network below the head."""
    picture = Figure(figsize=(4.6, 3.9))
    ax = picture.subplots()
    kinds = list(dict.fromkeys(row["backbone"] for row in data["means"]))
    for kind, colour, marker in zip(kinds, COLOURS, MARKERS, strict=False):
        rows = [row for row in data["means"] if row["backbone"] == kind][:6]
        expected, estimate = (np.concatenate([row[side] for row in rows]) for side in ("expected", "estimate"))
        kept = (expected > 0) & (np.asarray(estimate) > 0)
        ax.plot(
            expected[kept],
            estimate[kept],
            marker,
            ms=3,
            color=colour,
            mec="none",
            alpha=0.7,
            label=kind.replace("_", " "),
        )
    ax.axline((1e-2, 1e-2), slope=1, color=BLACK, lw=0.8, ls="--")
    ax.set(xscale="log", yscale="log", xlabel="predicted E[GC(u)]", ylabel="mean over random heads")
    ax.legend(title="activations from", markerscale=1.8, loc="upper left")
    return picture


@picture_of("T4")
def half_of_unseen(data: dict) -> Figure:
    """How often S(u) > 0 at one unseen cell per geometry, by method, with the binomial spread."""
    picture = Figure(figsize=(4.8, 2.9))
    ax = picture.subplots()
    methods = list(dict.fromkeys(row["method"] for row in data["frequencies"]))
    for place, (method, colour, marker) in enumerate(zip(methods, COLOURS, MARKERS, strict=False)):
        rows = [row for row in data["frequencies"] if row["method"] == method][:25]  # more would hide one another
        shares = np.array([row["positive"] / row["nonzero"] for row in rows])
        offsets = place + np.linspace(-0.3, 0.3, len(rows))
        errors = [1 / row["nonzero"] ** 0.5 for row in rows]  # two binomial deviations at 1/2
        ax.errorbar(offsets, shares, yerr=errors, fmt=marker, ms=3, lw=0.8, color=colour)
    ax.axhline(0.5, color=BLACK, lw=0.8, ls="--")
    ax.set(xticks=range(len(methods)), ylabel="P(S(u) > 0), u unseen")
    ax.set_xticklabels(methods)
    return picture


@picture_of("T5")
def predicted_class(data: dict) -> Figure:
    """P(S > 0) over rho for 2, 10 and 1000 classes: curves are theory, points are frequencies."""
    picture = Figure(figsize=(4.8, 3.3))
    ax = picture.subplots()
    for (classes, curve), colour, marker, line in zip(data["curves"].items(), COLOURS, MARKERS, LINES, strict=False):
        rows = [row for row in data["rows"] if row["classes"] == int(classes)]
        frequency = np.array([row["frequency"] for row in rows])
        error = 2 * np.sqrt(frequency * (1 - frequency) / rows[0]["draws"])
        ax.plot(data["rho"], curve, line, color=colour)
        ax.errorbar([row["rho"] for row in rows], frequency, yerr=error, fmt=marker, ms=4, color=colour)
        ax.plot([], [], line, marker=marker, ms=4, color=colour, label=f"{classes} classes")
    ax.axhline(0.5, color=BLACK, lw=0.8, ls=(0, (1, 3)), label="a fixed class: 1/2")
    ax.set(xlabel=r"$\rho$, likeness of the unseen cell to what is seen", ylabel="P(S(u) > 0)", ylim=(0.45, 1.02))
    ax.legend(loc="lower right", bbox_to_anchor=(1, 0.08))
    return picture


@picture_of("T6")
def before_relu(data: dict) -> Figure:
    """The two moments over the angle between the seen and the explained patch."""
    rows = {name: np.asarray(value, float) for name, value in data["curve"].items()}
    degrees = np.degrees(rows["phi"])
    picture = Figure(figsize=(4.8, 3.1))
    ax = picture.subplots()
    labels = {
        "signed": r"signed map: $E[1(F\xi_q>0)\,(F\xi_u)^2]$",
        "rectified": r"rectified: $E[1(F\xi_q>0)\,(F\xi_u)_+^2]$",
    }
    for (name, label), colour, marker, line in zip(labels.items(), COLOURS, MARKERS, LINES, strict=False):
        ax.plot(degrees, rows[name], line, color=colour, label=label)
        ax.errorbar(degrees, rows[f"{name}_simulated"], yerr=2 * rows[f"{name}_error"], fmt=marker, ms=4, color=colour)
    ax.set(xlabel=r"angle $\phi$ between the patches (degrees)", ylabel=r"moment / $|\xi_u|^2$", ylim=(-0.02, 0.66))
    ax.set_xticks(range(0, 181, 45))
    ax.legend(loc="upper right")
    return picture


@picture_of("T7")
def families(data: dict) -> Figure:
    """Left: measured over expected mean, by method; right: how often Grad-CAM++ leaks."""
    picture = Figure(figsize=(8.6, 3.1))
    left, right = picture.subplots(1, 2, width_ratios=(1.5, 1))
    means = [row for row in data["rows"] if "n_living" not in row]
    methods = list(dict.fromkeys(row["method"] for row in means))
    for place, (method, colour, marker) in enumerate(zip(methods, COLOURS, MARKERS, strict=False)):
        rows = [row for row in means if row["method"] == method][:20]  # more would hide one another
        offsets = place + np.linspace(-0.32, 0.32, len(rows))
        ratio = [row["estimate"] / row["expected"] for row in rows]
        error = [2 * row["error"] / row["expected"] for row in rows]
        left.errorbar(offsets, ratio, yerr=error, fmt=marker, ms=3, lw=0.7, color=colour)
    left.axhline(1, color=BLACK, lw=0.8, ls="--")
    left.set(ylabel="mean / theory", xticks=range(len(methods)))
    left.set_xticklabels([method.replace("-CAM", "-\nCAM").replace("ResCAM", "Res-\nCAM") for method in methods])
    rows = [row for row in data["rows"] if "n_living" in row]
    grid = np.arange(1, 7)
    right.plot(grid, 1 - 0.5**grid, "o", ms=9, mfc="none", color=BLUE, label=r"theory: $1-2^{-nk}$")
    right.plot([r["n_living"] for r in rows], [r["estimate"] for r in rows], "x", ms=5, color=RED, label="frequency")
    right.set(xlabel="seen cells n × channels alive at u, k", ylabel="P(Grad-CAM++ leaks at u)", ylim=(0.45, 1.03))
    right.legend(loc="lower right")
    return picture


@picture_of("T8")
def blind_metrics(data: dict) -> Figure:
    """Average drop of one map as its unseen part is made stronger: flat, unless the map is scaled again."""
    rows = data["strength"]
    picture = Figure(figsize=(4.8, 3.1))
    ax = picture.subplots()
    ax.plot(rows["strength"], rows["leak"], "-", marker="^", ms=4, color=RED, label="leakage $|S_{unseen}|/|S|$")
    ax.plot(
        rows["strength"], rows["rescaled"], "--", marker="s", ms=4, color=ORANGE, label="average drop, scaled again"
    )
    ax.plot(rows["strength"], rows["fixed"], "-", marker="o", ms=4, color=BLUE, label="average drop, scale held")
    ax.set(xlabel="strength of the attribution on unseen pixels", ylabel="value", ylim=(0, 1.45))
    ax.legend(loc="upper left")
    return picture


@picture_of("T9")
def attention_walls(data: dict) -> Figure:
    """Fresh vision transformers on one image: LeGrad's mean maps, and along the rows theory, simulation and LeGrad times attention."""
    data = data["map"]
    picture = Figure(figsize=(9.4, 2.8))
    axes = picture.subplots(1, 4, width_ratios=(1, 1, 1, 1.5))
    kinds = ("LayerNorm", "no LayerNorm")
    axes[0].imshow(data["image"], cmap="gray")
    top = max(np.max(data[kind]["map"]) for kind in kinds)
    for ax, kind in zip(axes[1:3], kinds, strict=True):
        shown = ax.imshow(data[kind]["map"], cmap="cividis", vmin=0, vmax=top)
    picture.colorbar(shown, ax=axes[2], shrink=0.8)
    titles = ("image (unseen below)", *(f"LeGrad, {kind}" for kind in kinds))
    for ax, title in zip(axes[:3], titles, strict=True):
        ax.axhline(len(ax.images[0].get_array()) / 2 - 0.5, color=RED, lw=1.6, ls="--")
        ax.set(title=title, xticks=[], yticks=[])
    for kind, colour, marker, line in zip(kinds, COLOURS, MARKERS, LINES, strict=False):
        rows, found = np.arange(len(data[kind]["rows"])), data[kind]
        axes[3].plot(rows, found["theory"], line, color=colour)
        error = 2 * np.asarray(found["error"])
        axes[3].errorbar(rows, found["rows"], yerr=error, fmt=marker, ms=4, color=colour)
        label = f"{kind}: {100 * found['leaks']:.0f} % unseen"
        axes[3].plot([], [], line, marker=marker, ms=4, color=colour, label=label)
    axes[3].axvline(len(rows) / 2 - 0.5, color=RED, lw=1.6, ls="--")
    axes[3].set(xlabel="row of cells", ylabel="mean share of a cell", xticks=range(0, len(rows), 3))
    axes[3].set_ylim(0, 1.15 * max(max(data[kind]["rows"]) for kind in kinds))
    axes[3].legend(title=r"lines $|n_u|$, points LeGrad ± 2 s.e.", loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return picture


@picture_of("beyond")
def beyond(data: dict) -> Figure:
    """Measured over predicted for each change to the head, narrow and wide; filled marks are claimed to be exact."""
    picture = Figure(figsize=(9.4, 3.6))
    titles = {"mean": "E[GC]", "share": "leak share", "positive": "P(S > 0)", "half": "P(S > 0 | S ≠ 0)"}
    panels = picture.subplots(1, len(titles), sharey=True)
    variants = list(dict.fromkeys(row["variant"] for row in data["rows"]))
    for ax, (quantity, title) in zip(panels, titles.items(), strict=True):
        for row in (row for row in data["rows"] if row["quantity"] == quantity):
            colour, marker, shift = (BLUE, "o", -0.17) if row["width"] < 10 else (RED, "s", 0.17)
            place, error = variants.index(row["variant"]) + shift, 2 * row["error"]
            fill = colour if row["exact"] else "white"
            ax.errorbar(row["ratio"], place, xerr=error, fmt=marker, ms=5, lw=1, color=colour, mfc=fill)
        ax.axvline(1, color=BLACK, lw=0.8, ls="--")
        ax.grid(axis="y", lw=0.3)
        ax.set_title(title)
        if quantity != "mean":
            ax.set_xlim(0.8, 1.2)
    panels[0].set_yticks(range(len(variants)), variants)
    panels[0].set_ylim(len(variants) - 0.5, -0.6)
    _beyond_legend(picture)
    return picture


def _beyond_legend(picture: Figure) -> None:
    """What marker and filling mean, above the panels."""
    looks = (
        ("width 4", "o", BLUE, BLUE),
        ("width 64", "s", RED, RED),
        ("not claimed to be exact", "o", BLACK, "white"),
    )
    handles = [Line2D([], [], ls="", marker=m, color=c, mfc=fill, label=label) for label, m, c, fill in looks]
    picture.legend(handles=handles, loc="outside upper center", ncols=3)
    picture.supxlabel("measured / predicted, ± 2 s.e.", fontsize=9)

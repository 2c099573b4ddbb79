"""All methods at a glance: leakage by family, and where leakage on the image comes from."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wallcheck.cams import called
from wallcheck.plots._style import (
    BLACK,
    GREY,
    MEASURES,
    RED,
    SETS,
    SKY,
    WIDTH,
    choose,
    emptiness,
    family_of,
    in_order,
    look,
    need,
    styled,
    written,
)
from wallcheck.results import Rows, rows_of, split_means, summary

# part of the leakage -> what it is called, colour, hatch
PARTS = {
    "method_leakage": ("the method's own", RED, ""),
    "bleed": ("bleed of upsampling", SKY, "////"),
    "artefact": ("min-max of a signed map", "#DDDDDD", "...."),
}


@styled
def sources(parts: pd.DataFrame, net: str = "walled", sets: Sequence[str] = ("stack_mix", "stack_gen")) -> Figure:
    """Stacked bars of the mean leakage on the image: the method's own, bleed, artefact; their sum is a diamond. A part that is 0
    throughout is not drawn, and the axis says so.

    parts: as `wallcheck.results.split` gives them, or their `split_means`. A part below zero is drawn to the left. Images
    whose map is empty have no parts and are left out; "∅12%" says how many.
    """
    need(parts, ["net", "images", "method", *PARTS])
    parts = parts if "empty" in parts else split_means(parts)
    of_net = parts[parts["net"] == net]
    sets = [name for name in sets if name in set(of_net["images"].unique())] or sorted(of_net["images"].unique())
    if not len(sets):
        raise ValueError(f"no parts of a net named {net}; there are {', '.join(map(str, parts['net'].unique()))}")
    methods = [m for m in in_order(of_net["method"].unique()) if family_of(m) != "control"]
    shown = [name for name in PARTS if of_net.loc[of_net["method"].isin(methods), name].fillna(0).any()]
    none = [PARTS[name][0] for name in PARTS if name not in shown]
    figure = Figure(figsize=(WIDTH, 0.2 * len(methods) + 1.0 + 0.15 * bool(none)), layout="constrained")
    panels = figure.subplots(1, len(sets), sharex=True, sharey=True, squeeze=False)[0]
    for axes, images in zip(panels, sets, strict=True):
        here = of_net[of_net["images"] == images].set_index("method").reindex(methods)
        _stack(axes, here[shown or list(PARTS)])
        _say_empty(axes, here["empty"])
        axes.set_title(f"{net}, {SETS.get(images, images)}")
    panels[0].set_yticks(range(len(methods)), [called(m) for m in methods])
    left, right = panels[0].get_xlim()
    panels[0].set(ylim=(len(methods) - 0.4, -0.6), xlim=(min(left, -0.03), right + 0.03))
    absent = f"\n{' and '.join(none)}: 0 for every method here" if none else ""
    figure.supxlabel(f"share of attribution on unseen pixels, signed map stretched to [0, 1]{absent}", fontsize=8)
    total = Line2D([], [], ls="", marker="D", mfc="white", mec=BLACK, ms=4, label="sum")
    figure.legend(handles=[*panels[0].containers, total], loc="outside upper center", ncols=4)
    return figure


def _stack(axes: Axes, means: pd.DataFrame) -> None:
    places = np.arange(len(means))
    right, left = np.zeros(len(means)), np.zeros(len(means))
    for name in means:
        label, colour, pattern = PARTS[name]
        width = means[name].fillna(0).to_numpy()
        start = np.where(width >= 0, right, left)
        axes.barh(
            places,
            width,
            0.7,
            start,
            color=colour,
            hatch=pattern,
            edgecolor=BLACK,
            linewidth=0.5,
            label=label,
            gid=name,
        )
        right, left = right + width.clip(min=0), left + width.clip(max=0)
    axes.plot(means.sum(axis=1), places, ls="", marker="D", mfc="white", mec=BLACK, ms=4, zorder=3)
    axes.axvline(0, color=BLACK, lw=0.6)
    axes.tick_params(axis="y", length=0)


def _say_empty(axes: Axes, shares: pd.Series) -> None:
    right = axes.get_xlim()[1]
    for place, share in enumerate(shares.fillna(0)):
        axes.text(right, place, emptiness(share), ha="right", va="center", fontsize=6)


@styled
def families(
    rows: pd.DataFrame | Rows,
    metric: str = "leak_mass",
    view: str = "rectified",
    on: str = "grid",
    images: str = "stack_mix",
    net: str = "walled",
    behind: str = "untrained",
    columns: int | None = None,
) -> Figure:
    """Every method by family: mean leakage of `net` with 95 % interval, a stroke for
    the net `behind`, and the constant map as a dotted line, on the grid or image the method was measured on.

    For up to some hundred methods, in columns that keep the order of the families.
    """
    chosen = choose(rows, metric, view, on, images=images)
    nets = chosen.unique("net")
    if net not in nets:
        raise ValueError(f"no rows of a net named {net}; there are {', '.join(map(str, nets))}")
    means = summary(chosen, ["net", "method", "on"]).set_index(["net", "method"])
    plain = rows_of(rows).select(method="constant", metric=metric, view=view)
    flat = summary(plain, ["on"]).set_index("on")["mean"]
    blocks = _columns(in_order(means.loc[net].index), columns)
    height = max(len(block) for block in blocks)
    figure = Figure(figsize=(WIDTH, 0.135 * height + 0.8), layout="constrained")
    panels = figure.subplots(1, len(blocks), sharex=True, squeeze=False)[0]
    for axes, block in zip(panels, blocks, strict=True):
        _column(axes, block, means.loc[net], means.loc[behind] if behind in nets else None, flat)
        axes.set(ylim=(height - 0.4, -0.6), xlim=(-0.03, 1.32), xticks=(0, 0.25, 0.5, 0.75, 1))
    where = "cells (pixels where a method has no cells: px)" if on == "grid" else "pixels"
    figure.supxlabel(f"{MEASURES.get(metric, metric)} on unseen {where}, {SETS.get(images, images)}", fontsize=8)
    extra = [Line2D([], [], ls="", marker="o", mfc=GREY, mec=BLACK, mew=0.6, ms=4, label=f"{net}, 95 % interval")]
    if behind in nets:
        extra.append(Line2D([], [], ls="", marker="|", color=BLACK, ms=6, mew=0.8, label=behind))
    extra.append(Line2D([], [], color=BLACK, lw=0.8, ls=":", label="constant map"))
    figure.legend(handles=extra, loc="outside upper center", ncols=3)
    return figure


def _columns(methods: Sequence[str], count: int | None) -> list[list[str]]:
    """Lines of text in `count` columns of about one height; a family begins with its heading, "# family",
    also where a column cuts it in two, and no heading stands at the foot of a column.
    """
    headings = len({family_of(m) for m in methods})
    count = count or (1 if len(methods) <= 20 else 2)
    height = -(-(len(methods) + headings + count - 1) // count)
    blocks: list[list[str]] = [[]]
    for method, before in zip(methods, [None, *methods[:-1]], strict=True):
        new = before is None or family_of(before) != family_of(method)
        if len(blocks) < count and len(blocks[-1]) + new >= height:
            blocks.append([])
            new = True
        blocks[-1] += [f"# {family_of(method)}"] * new + [method]
    return blocks


def _column(
    axes: Axes, block: Sequence[str], means: pd.DataFrame, others: pd.DataFrame | None, flat: pd.Series
) -> None:
    for place, name in enumerate(block):
        if name.startswith("# "):
            continue
        found = means.loc[name]
        axes.plot([0, 1], [place, place], color="#E5E5E5", lw=0.5, zorder=0)
        if found["on"] in flat:
            axes.plot([flat[found["on"]]] * 2, [place - 0.5, place + 0.5], color=BLACK, lw=0.8, ls=":", zorder=1)
        axes.plot([found["low"], found["high"]], [place, place], color=BLACK, lw=1.1, zorder=2)
        axes.plot([found["mean"]], [place], ls="", ms=3.8, zorder=3, gid=f"mean:{name}", **look(name).mark)
        if others is not None and name in others.index:
            axes.plot([others.loc[name, "mean"]], [place], "|", color=BLACK, ms=6, mew=0.8, zorder=2)
        axes.text(1.05, place, written(found), va="center", ha="left", fontsize=6)
    names = [
        n.removeprefix("# ") if n[0] == "#" else called(n) + (" px" if means.loc[n, "on"] == "image" else "")
        for n in block
    ]
    axes.set_yticks(range(len(block)), names, fontsize=6.5)
    for label, name in zip(axes.get_yticklabels(), block, strict=True):
        if name.startswith("# "):
            label.set(fontweight="bold", fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_bounds(0, 1)

"""Leakage per method: every image's value, mean and interval; and how it depends on what lies below the wall."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import gaussian_kde

from wallcheck.cams import called
from wallcheck.plots._style import (
    BLACK,
    MEASURES,
    NETS,
    SETS,
    WIDTH,
    choose,
    emptiness,
    family_legend,
    family_of,
    in_order,
    look,
    styled,
    written,
)
from wallcheck.results import Rows, grouped, summary
from wallcheck.statistics import interval

DRAWN = 2000  # images of which single values are drawn
FLAT = Line2D([], [], color=BLACK, lw=0.8, ls=":", label="constant map")


@styled
def leakage(
    rows: pd.DataFrame | Rows,
    metric: str = "leak_mass",
    view: str = "rectified",
    on: str = "grid",
    nets: Sequence[str] | None = None,
    sets: Sequence[str] = ("stack_mix", "stack_gen"),
) -> Figure:
    """A panel per image set and net: values of single images, their density, mean with 95 % interval.

    Of more than 2000 images every second, third, ... is drawn, as many as make at most 2000; means and intervals are of all.
    The dotted line is the constant map; the control methods are not drawn. The number is the mean;
    "∅ 12%" says that as many maps were empty, and left out.
    """
    chosen = choose(rows, metric, view, on)
    nets = list(nets or sorted(chosen.unique("net"), key=_net_place))
    sets = [name for name in sets if name in chosen.unique("images")] or chosen.unique("images")
    methods = [m for m in in_order(chosen.unique("method")) if family_of(m) != "control"]
    height = len(sets) * (0.185 * len(methods) + 0.3) + 0.75
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = figure.subplots(len(sets), len(nets), sharex=True, sharey=True, squeeze=False)
    at = {(net, name): panels[row, column] for row, name in enumerate(sets) for column, net in enumerate(nets)}
    for (net, images), axes in at.items():
        axes.set_title(f"{NETS.get(net, net)}, {SETS.get(images, images)}")
        axes.tick_params(axis="y", length=0)
        axes.spines["bottom"].set_bounds(0, 1)
    shown = chosen.where(lambda one: (one.net, one.images) in at and one.method in (*methods, "constant"))
    for (net, images, method), values in grouped(shown, ["net", "images", "method"]):
        _values(at[net, images], values, method, methods)
    panels[0, 0].set_yticks(range(len(methods)), [called(m) for m in methods])
    panels[0, 0].set(ylim=(len(methods) - 0.5, -0.5), xlim=(-0.03, 1.22), xticks=(0, 0.5, 1))
    figure.supxlabel(f"{MEASURES.get(metric, metric)} on unseen {'cells' if on == 'grid' else 'pixels'}", fontsize=8)
    family_legend(figure, methods, [FLAT])
    return figure


def _values(axes: Axes, values: np.ndarray, method: str, methods: Sequence[str]) -> None:
    """What one method has in a panel; the constant map is a line through all."""
    kept = values[~np.isnan(values)]
    if method in methods:
        place = methods.index(method)
        _spread(axes, kept[:: -(-len(kept) // DRAWN) or 1], place, look(method).colour)
        _mean(axes, values, place, method)
    elif len(kept):
        axes.axvline(kept.mean(), color=BLACK, lw=0.8, ls=":", zorder=0)


def _spread(axes: Axes, values: np.ndarray, place: float, colour: str) -> None:
    """Density above the line, single values below it, spread by the golden ratio rather than by chance."""
    below = place + 0.12 + 0.24 * (np.arange(len(values)) * 0.618034 % 1)
    axes.plot(values, below, ".", ms=1.8, color=colour, alpha=0.6, mec="none")
    if len(values) > 2 and np.ptp(values) > 1e-9:
        along = np.linspace(values.min(), values.max(), 100)
        density = gaussian_kde(values)(along)
        axes.fill_between(along, place - 0.42 * density / density.max(), place, color=colour, alpha=0.35, lw=0)


def _mean(axes: Axes, values: np.ndarray, place: float, method: str) -> None:
    found = interval(values)
    axes.plot([found["low"], found["high"]], [place, place], color=BLACK, lw=1.2)
    axes.plot([found["mean"]], [place], ls="", ms=4.2, gid=f"mean:{method}", **look(method).mark)
    axes.text(1.06, place, written(found), va="center", ha="left", fontsize=6.5)


@styled
def controls(
    rows: pd.DataFrame | Rows,
    metric: str = "leak_mass",
    view: str = "rectified",
    on: str = "grid",
    net: str = "walled",
    sets: Sequence[str] = tuple(SETS),
) -> Figure:
    """A panel per method: mean leakage with 95 % interval by what lies below the wall. Flat means that the
    pixels below do not matter; the constant map is the dotted line. "∅12%" says that as many maps were empty.
    """
    chosen = choose(rows, metric, view, on, net=net)
    sets = [name for name in sets if name in chosen.unique("images")]
    means = summary(chosen, ["method", "images"]).set_index(["method", "images"])
    methods = [m for m in in_order(chosen.unique("method")) if family_of(m) != "control"]
    columns = min(4, len(methods))
    lines = -(-len(methods) // columns)
    figure = Figure(figsize=(WIDTH, 1.15 * lines + 1.1), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, method in zip(panels, methods, strict=False):
        _by_set(axes, means, method, sets)
    for axes in panels[len(methods) :]:
        axes.set_visible(False)
    panels[0].set(ylim=(-0.04, 1.04), xlim=(-0.5, len(sets) - 0.5), yticks=(0, 0.5, 1))
    figure.supylabel(f"{MEASURES.get(metric, metric)}, {net} net", fontsize=8)
    figure.supxlabel("below the wall", fontsize=8)
    family_legend(figure, methods, [FLAT])
    return figure


def _by_set(axes: Axes, means: pd.DataFrame, method: str, sets: Sequence[str]) -> None:
    if "constant" in means.index:
        axes.axhline(means.loc["constant", "mean"].mean(), color=BLACK, lw=0.8, ls=":", zorder=0)
    of = means.loc[method].reindex(sets)
    axes.vlines(range(len(sets)), of["low"], of["high"], color=BLACK, lw=1.2, zorder=2)
    axes.plot(range(len(sets)), of["mean"], ls="", ms=4.5, zorder=3, gid=f"means:{method}", **look(method).mark)
    for place, (mean, empty) in enumerate(zip(of["mean"].fillna(0), of["empty"].fillna(0), strict=True)):
        axes.text(place, mean + 0.06, emptiness(empty).strip(), ha="center", va="bottom", fontsize=5.5)
    axes.set_title(called(method))
    axes.set_xticks(range(len(sets)), [SETS.get(name, name) for name in sets], rotation=40, ha="right")
    axes.tick_params(axis="x", pad=1)


def _net_place(net: str) -> tuple[int, str]:
    known = ("walled", "untrained", "unwalled")
    return (known.index(net) if net in known else len(known), net)

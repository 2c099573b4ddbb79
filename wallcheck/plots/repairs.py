"""What repairs cost: leakage against localisation and faithfulness, an arrow from each method to its repair."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.optimize import isotonic_regression

from wallcheck.cams import METHODS, called
from wallcheck.plots._style import BLACK, FAMILY, GREY, WIDTH, emptiness, family_of, in_order, look, need, styled

# metric -> what the axis says, and whether it runs down, so that up is always better
PANELS = {
    "energy_inside": ("attribution on the seen object", False),
    "average_drop": ("average drop", True),
    "insertion": ("insertion, area under the curve", False),
}
GAP = 0.042  # of the panel's height between two names


@styled
def repairs(rows: pd.DataFrame, metric: str = "leak_mass") -> Figure:
    """One panel per measure of PANELS: mean over images against mean leakage; left and up is better.

    rows: as python -m experiments.repairs writes them. A repair has the colour and marker of what it
    repairs, open and without a name: its arrow comes from there. Images whose map is empty are left
    out of the means; "∅12%" says how many.
    """
    need(rows, ["method", "metric", "image", "value"])
    groups = rows.groupby(["method", "metric"], observed=True)["value"]
    means = groups.mean().unstack("metric")
    empty = groups.apply(lambda values: values.isna().mean()).unstack("metric")[metric]
    need(means, [metric, *PANELS])
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    for axes, (measure, (label, down)) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        points = {name: tuple(means.loc[name, [metric, measure]]) for name in in_order(means.index)}
        _marks(axes, points)
        _names(axes, {name: point for name, point in points.items() if base_of(name) not in points}, empty)
        for name, point in points.items():
            if base_of(name) in points:
                axes.annotate(emptiness(empty[name]), point, fontsize=5.5)
        axes.set(title=label, xlim=(-0.95, 1.25), xticks=(0, 0.5))
        axes.spines["bottom"].set_bounds(0, 0.65)
        axes.axvline(0, color=GREY, lw=0.6, zorder=0)
        if down:
            axes.invert_yaxis()
    figure.supxlabel("leakage: share of attribution on unseen pixels; left and up is better", fontsize=8)
    _legend(figure, means.index)
    return figure


def _marks(axes: Axes, points: dict[str, tuple[float, float]]) -> None:
    for name, point in points.items():
        base, mark = base_of(name), look(origin(name)).mark
        axes.plot(*point, ls="", ms=4.5, gid=f"mean:{name}", zorder=3, **mark | ({"mfc": "white"} if base else {}))
        if base in points:
            arrow = dict(arrowstyle="-|>", color=mark["color"], lw=0.7, shrinkA=3, shrinkB=3, mutation_scale=5)
            axes.annotate("", point, points[base], arrowprops=arrow, zorder=2)


def _names(axes: Axes, points: dict[str, tuple[float, float]], empty: pd.Series) -> None:
    """Beside the cloud, left of what leaks nothing and right of what leaks, far enough apart to be read."""
    low, high = axes.get_ylim()
    for column, align, leaks in ((-0.12, "right", False), (0.74, "left", True)):
        side = {name: point for name, point in points.items() if (point[0] > 0.1) == leaks}
        places = apart(np.array([y for _, y in side.values()]), GAP * (high - low))
        for (name, (x, y)), place in zip(side.items(), places, strict=True):
            axes.plot([x, column], [y, place], color=GREY, lw=0.4, zorder=1)
            axes.text(column, place, called(name) + emptiness(empty[name]), ha=align, va="center", fontsize=6)


def apart(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Places in the order of `wanted`, at least `gap` apart, with the least sum of squared moves.

    >>> apart(np.array([2.0, 0.0, 2.0]), gap=1.0).tolist()
    [1.5, 0.0, 2.5]
    """
    order, room = np.argsort(wanted, kind="stable"), gap * np.arange(len(wanted))
    places = np.empty(len(wanted))
    if len(wanted):
        places[order] = isotonic_regression(wanted[order] - room).x + room
    return places


def base_of(name: str) -> str | None:
    """The method that `name` repairs, None if it repairs none."""
    return METHODS[name].repairs if name in METHODS else None


def origin(name: str) -> str:
    """The method at the start of a chain of repairs."""
    while base := base_of(name):
        name = base
    return name


def _legend(figure: Figure, methods: pd.Index) -> None:
    families = dict.fromkeys(family_of(origin(m)) for m in in_order(methods))
    marks = [Line2D([], [], ls="", ms=4.5, label=name, **FAMILY[name].mark) for name in families]
    repaired = Line2D([], [], ls="", ms=4.5, marker="o", mfc="white", mec=BLACK, mew=0.6, label="repaired")
    figure.legend(handles=[*marks, repaired], loc="outside upper center", ncols=len(marks) + 1)

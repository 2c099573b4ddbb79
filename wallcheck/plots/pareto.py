"""Leakage against what sealing might cost: methods, their sealed forms, and the front of what is not dominated."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wallcheck.plots._style import BLACK, BLUE, GREEN, ORANGE, WIDTH, need, styled

PARETO = {"energy_inside": False, "average_drop": True, "insertion": False}  # whether less is better
LOOKS = ((ORANGE, "o"), (GREEN, "s"), (BLUE, "^"))


@styled
def pareto(table: pd.DataFrame, forms: Sequence[str]) -> Figure:
    """One panel per measure of PARETO, its better end up; a mark per method and form, a line along the front.

    table: method, form, metric, mean.
    """
    need(table, ["method", "form", "metric", "mean"])
    means = table.pivot_table(index=["method", "form"], columns="metric", values="mean")
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    for axes, (measure, down) in zip(figure.subplots(1, len(PARETO)), PARETO.items(), strict=True):
        points = means[["leak_mass", measure]].dropna()
        for (colour, marker), form in zip(LOOKS, forms, strict=False):
            of = points[points.index.get_level_values("form") == form].to_numpy()
            axes.plot(*of.T, ls="", marker=marker, color=colour, ms=4, alpha=0.75, gid=f"form:{form}")
        front = points.to_numpy()[undominated(points.to_numpy() * np.array([1, 1 if down else -1]))]
        axes.plot(*front[front[:, 0].argsort()].T, color=BLACK, lw=0.8, gid=f"front:{measure}")
        axes.set(title=measure.replace("_", " "), xlim=(-0.02, None))
        if down:
            axes.invert_yaxis()
    figure.supxlabel("leakage: share of attribution on unseen pixels, as displayed; left and up is better", fontsize=8)
    shown = zip(LOOKS, forms, strict=False)
    marks = [Line2D([], [], ls="", marker=m, color=c, ms=4.5, label=form) for (c, m), form in shown]
    marks.append(Line2D([], [], color=BLACK, lw=0.8, label="not dominated"))
    figure.legend(handles=marks, loc="outside upper center", ncols=len(marks))
    return figure


def undominated(points: np.ndarray) -> np.ndarray:
    """(N,) Boolean: no other point of (N, 2) is at most as large in both and smaller in one.

    >>> undominated(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])).tolist()
    [True, True, False, True]
    """
    no_larger = (points[None] <= points[:, None]).all(2)
    smaller = (points[None] < points[:, None]).any(2)
    return ~(no_larger & smaller).any(1)

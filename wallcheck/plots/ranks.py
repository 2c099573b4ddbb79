"""Critical-difference diagram: methods by their mean rank over images, and which of them are not told apart."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wallcheck.cams import called
from wallcheck.plots._style import BLACK, GREY, WIDTH, look, styled
from wallcheck.statistics import Ranking

LINE = 0.17  # inches from one name to the next


@styled
def ranks(found: Ranking, title: str = "") -> Figure:
    """Best on the left. A thick bar joins methods whose mean ranks differ by less than the critical difference, drawn
    below the axis; Demsar 2006. Images left out because some method's map was empty on them are told below.
    """
    half = -(-len(found.methods) // 2)
    depth = half + len(found.groups) + 2
    figure = Figure(figsize=(WIDTH, LINE * depth + 0.7), layout="constrained")
    axes = figure.subplots()
    last = len(found.methods)
    _scale(axes, last, found.critical)
    for level, (start, end) in enumerate(found.groups, 1):
        axes.plot(np.array(found.ranks)[[start, end]], [level] * 2, color=BLACK, lw=2.2, gid=f"group:{start}-{end}")
    for place, (method, rank) in enumerate(zip(found.methods, found.ranks, strict=True)):
        left = place < half
        foot = len(found.groups) + 1.5 + (place if left else last - 1 - place)
        edge = 1 - 0.1 * last if left else 1.1 * last
        axes.plot([rank, rank, edge], [0, foot, foot], color=GREY, lw=0.6, zorder=1)
        axes.plot([rank], [0], ls="", ms=4.5, zorder=3, clip_on=False, gid=f"rank:{method}", **look(method).mark)
        axes.text(edge, foot, f" {called(method)} {rank:.1f} ", ha="right" if left else "left", va="center", fontsize=7)
    axes.set(xlim=(1 - 0.45 * last, 1.45 * last), ylim=(depth + 0.5, -2.2), yticks=[], xticks=[])
    axes.spines[:].set_visible(False)
    empty = f", {found.left_out} more left out: some map is empty there" if found.left_out else ""
    axes.set_xlabel(f"mean rank over {found.count} images{empty}; Friedman's p = {found.p:.2g}", fontsize=7.5)
    axes.set_title(title)
    return figure


def _scale(axes: Axes, last: int, critical: float) -> None:
    """The axis of ranks, and the critical difference as a length above it."""
    axes.plot([1, last], [0, 0], color=BLACK, lw=0.8)
    for rank in range(1, last + 1, max(1, last // 15)):
        axes.plot([rank] * 2, [0, -0.25], color=BLACK, lw=0.8)
        axes.text(rank, -0.35, str(rank), ha="center", va="bottom", fontsize=6.5)
    axes.plot([1, 1 + critical], [-1.6, -1.6], color=BLACK, lw=1.6, marker="|", ms=5, gid="critical")
    axes.text(1 + critical, -1.6, f"  critical difference {critical:.2f}", ha="left", va="center", fontsize=6.5)

"""A region drawn on a map or an image: its border, and hatching."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import PathPatch
from matplotlib.path import Path


def border(mask: np.ndarray) -> list[list[tuple[float, float]]]:
    """Lines from (x, y) to (x, y) between neighbours that differ, as long as they go, in imshow's coordinates.

    >>> border(np.array([[False, False], [True, True]]))
    [[(-0.5, 0.5), (1.5, 0.5)]]
    """
    level = [[(start - 0.5, row), (stop - 0.5, row)] for row, start, stop in _runs(mask)]
    upright = [[(column, start - 0.5), (column, stop - 0.5)] for column, start, stop in _runs(mask.T)]
    return level + upright


def _runs(mask: np.ndarray) -> list[tuple[float, int, int]]:
    """(y, first column, column after the last) of each unbroken stretch where a row differs from the next."""
    padded = np.pad(mask[1:] != mask[:-1], ((0, 0), (1, 1))).astype(int)
    turns = np.argwhere(np.diff(padded, axis=1))  # a start and a stop in turn, row by row
    return [
        (int(row) + 0.5, int(start), int(stop)) for (row, start), (_, stop) in zip(turns[::2], turns[1::2], strict=True)
    ]


def on_image(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask of cells, each as the block of pixels it covers: (h, w) -> (H, W)."""
    rows, columns = (np.arange(n) * cells.shape[k] // n for k, n in enumerate(size))
    return cells[np.ix_(rows, columns)]


def draw_border(axes: Axes, mask: np.ndarray, colour: str, width: float = 1.0, style: str = "-") -> None:
    """The border as a line on a white one, so that it is seen on dark and on bright."""
    lines = border(mask)
    axes.add_collection(LineCollection(lines, colors="white", linewidths=width + 0.8, zorder=3))
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, linestyles=style, zorder=4))


def hatch(axes: Axes, mask: np.ndarray, pattern: str, colour: str) -> None:
    """Hatching over the True positions, as one patch so that it has no seams."""
    rows, columns = np.nonzero(mask)
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5]])
    squares = np.stack([columns, rows], -1)[:, None] + corners
    codes = np.tile([Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY], len(squares))
    if len(squares):
        path = Path(squares.reshape(-1, 2), codes)
        axes.add_patch(PathPatch(path, facecolor="none", edgecolor=colour, hatch=pattern, linewidth=0))

"""What a wall makes of the image: which pixels reach a seen cell, which lie over one, and what part decides them all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wallcheck.geometry._fields import Layer, Span, axes, reach, seen_by
from wallcheck.geometry._walls import Wall


@dataclass(frozen=True, eq=False)
class Regions:
    """The three kinds of pixel, (H, W) Boolean each; every pixel is of exactly one kind.

    unseen: outside the receptive field of every seen cell, so provably without effect.
    halo: a seen cell looks at it although it lies over an unseen cell.
    seen: the rest.
    """

    seen: np.ndarray
    halo: np.ndarray
    unseen: np.ndarray


def regions(wall: Wall, layers: Sequence[Layer], image: tuple[int, int]) -> Regions:
    """Seen pixels, halo and unseen pixels of a wall behind `layers` over an image (H, W)."""
    rows, columns = axes(layers, image, wall.seen.shape)
    down, across = reach(rows, image[0]).astype(np.int64), reach(columns, image[1]).astype(np.int64)
    reached = (down.T @ wall.seen.astype(np.int64) @ across) > 0
    over_seen = footprint(wall.seen, image)
    return Regions(seen=reached & over_seen, halo=reached & ~over_seen, unseen=~reached)


def footprint(cells: np.ndarray, image: tuple[int, int]) -> np.ndarray:
    """(H, W): the value of the cell that lies over each pixel; the map stretched to the image.

    >>> footprint(np.array([[True, False]]), (2, 4)).astype(int)
    array([[1, 1, 0, 0],
           [1, 1, 0, 0]])
    """
    (h, w), (height, width) = cells.shape, image
    return cells[np.arange(height) * h // height][:, np.arange(width) * w // width]


def crop(wall: Wall, layers: Sequence[Layer], image: tuple[int, int]) -> tuple[Span, Span, tuple[int, int]]:
    """The part of the image that decides every seen cell, and where its first cell stands.

    Returns (rows, columns, (cell row, cell column)): running the layers on image[rows, columns]
    gives, from that cell on, the same seen cells as the whole image. The start is rounded down to
    the total stride, so that the two cell grids coincide; what padding does at the cut reaches no
    seen cell, because everything a seen cell reads, in every layer, lies inside.
    """
    spans, first = [], []
    for axis, cells in enumerate(wall.box):
        windows = [layer[axis] for layer in layers]
        start, stop = seen_by(cells, windows, image[axis])
        if start >= stop:
            raise ValueError(f"the cells {tuple(cells)} read padding alone; let the wall leave cells over the image")
        stride = int(np.prod([window.stride for window in windows]))
        first.append(start // stride)
        spans.append(Span(start // stride * stride, stop))
    return spans[0], spans[1], (first[0], first[1])

"""Receptive fields in integers, along one axis: a layer is a window along rows and a window along columns.

Every layer of a convolutional network is such a product of two windows, so the receptive field of a cell is
(rows it reads) x (columns it reads).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """Positions start, start + 1, ..., stop - 1 along one axis."""

    start: int
    stop: int


@dataclass(frozen=True)
class Window:
    """What one output position of a layer reads along one axis.

    Output position o reads inputs o * stride - pad + dilation * t for t = 0 .. size - 1.
    """

    size: int
    stride: int = 1
    pad: int = 0
    dilation: int = 1

    def __post_init__(self):
        if min(self.size, self.stride, self.dilation) < 1 or self.pad < 0:
            raise ValueError(f"{self} is no window; size, stride and dilation start at 1, pad at 0")

    @property
    def extent(self) -> int:
        """Distance from the first position read to one past the last."""
        return self.dilation * (self.size - 1) + 1

    def out_length(self, length: int) -> int:
        """Number of output positions over `length` inputs, as torch counts them (floor)."""
        return (length + 2 * self.pad - self.extent) // self.stride + 1


class Layer(NamedTuple):
    """One layer's windows along rows and along columns."""

    rows: Window
    columns: Window

    @classmethod
    def square(cls, size: int, stride: int = 1, pad: int = 0, dilation: int = 1) -> "Layer":
        """The same window along both axes."""
        window = Window(size, stride, pad, dilation)
        return cls(window, window)


def lengths(windows: Sequence[Window], length: int) -> list[int]:
    """Lengths before the first window, between them and after the last.

    >>> lengths([Window(3, pad=1), Window(2, stride=2)], 9)
    [9, 9, 4]
    """
    out = [length]
    for number, window in enumerate(windows):
        out.append(window.out_length(out[-1]))
        if out[-1] < 1:
            raise ValueError(
                f"window {number} ({window}) leaves nothing of length {out[-2]}; use a longer image side than {length}"
            )
    return out


def seen_by(cells: Span, windows: Sequence[Window], length: int) -> Span:
    """Span of image positions that holds all that can influence `cells`.

    `windows` in forward order. The smallest such span, unless a dilated or widely strided layer
    leaves holes: those, which may fall on an end too, `reach` knows.

    >>> seen_by(Span(0, 4), [Window(3, pad=1), Window(2, stride=2)], length=16)
    Span(start=0, stop=9)
    """
    start, stop = cells
    for window, limit in zip(reversed(windows), reversed(lengths(windows, length)[:-1]), strict=True):
        start = max(start * window.stride - window.pad, 0)
        stop = min((stop - 1) * window.stride - window.pad + window.extent, limit)
    return Span(start, stop)


def taps(window: Window, length: int) -> np.ndarray:
    """(out, in) Boolean: does output position o read input position i?"""
    out = np.arange(window.out_length(length))[:, None]
    offset = np.arange(length)[None, :] - (out * window.stride - window.pad)
    return (offset >= 0) & (offset < window.extent) & (offset % window.dilation == 0)


def reach(windows: Sequence[Window], length: int) -> np.ndarray:
    """(cells, pixels) Boolean along one axis: can the pixel influence the cell?

    Exact, holes of dilated layers included.

    >>> reach([Window(2, stride=2), Window(2, dilation=2)], 8).astype(int)
    array([[1, 1, 0, 0, 1, 1, 0, 0],
           [0, 0, 1, 1, 0, 0, 1, 1]])
    """
    through = np.eye(length, dtype=bool)
    for window in windows:
        through = (taps(window, len(through)).astype(np.int64) @ through) > 0
    return through


def axes(
    layers: Sequence[Layer], image: tuple[int, int], shape: tuple[int, int]
) -> tuple[Sequence[Window], Sequence[Window]]:
    """Windows along rows and along columns; ValueError unless the layers make a map of this shape of an image (H, W)."""
    rows, columns = (tuple(axis) for axis in zip(*layers, strict=True)) if layers else ((), ())
    cells = lengths(rows, image[0])[-1], lengths(columns, image[1])[-1]
    if cells != shape:
        raise ValueError(
            f"the wall covers {shape} cells, but the layers make {cells} of an image {image}; build the wall for {cells}"
        )
    return rows, columns

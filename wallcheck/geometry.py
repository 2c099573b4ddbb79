"""Which pixels can reach which cells: receptive fields in integers, and the wall that follows.

A layer is described by its window along rows and its window along columns. Every layer of a
convolutional network is such a product of two windows, so the receptive field of a cell is
(rows it reads) x (columns it reads), and a wall of any shape is handled by two small Boolean
matrices. Nobody else in wallcheck computes rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

SIDES = ("bottom", "top", "left", "right")


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


@dataclass(frozen=True, eq=False)
class Wall:
    """The border of what the head reads: `seen` (h, w) Boolean over the cells of the target layer."""

    seen: np.ndarray

    def __post_init__(self):
        seen = np.array(self.seen)
        if seen.ndim != 2 or seen.dtype != bool:
            raise ValueError(
                f"a wall is a Boolean mask (h, w), got {seen.dtype} {seen.shape}; "
                f"pass True for seen cells or use Wall.behind(side, shape, cells)"
            )
        if not seen.any():
            raise ValueError("the wall hides every cell; the head needs at least one to read")
        seen.setflags(write=False)
        object.__setattr__(self, "seen", seen)

    @classmethod
    def none(cls, shape: tuple[int, int]) -> "Wall":
        """No wall: every cell is seen."""
        return cls(np.ones(shape, dtype=bool))

    @classmethod
    def behind(cls, side: str, shape: tuple[int, int], cells: int) -> "Wall":
        """Hide `cells` rows or columns of cells at a side of the map.

        >>> Wall.behind("bottom", (3, 2), 2).seen.astype(int)
        array([[1, 1],
               [0, 0],
               [0, 0]])
        """
        if side not in SIDES:
            raise ValueError(f"no side named {side!r}; choose one of {', '.join(SIDES)} or Wall.centre")
        across = shape[0] if side in ("bottom", "top") else shape[1]
        if not 0 < cells < across:
            raise ValueError(f"cannot hide {cells} of {across} cells at the {side}; use 1 .. {across - 1}")
        seen = np.ones(shape, dtype=bool)
        hidden = {
            "bottom": np.s_[-cells:, :],
            "top": np.s_[:cells, :],
            "left": np.s_[:, :cells],
            "right": np.s_[:, -cells:],
        }[side]
        seen[hidden] = False
        return cls(seen)

    @classmethod
    def centre(cls, shape: tuple[int, int], margin: int) -> "Wall":
        """Hide all but a frame of `margin` cells: the head sees the border of the map only."""
        if not 0 < 2 * margin < min(shape):
            raise ValueError(f"margin {margin} hides nothing in a map of {shape}; use 1 .. {(min(shape) - 1) // 2}")
        seen = np.ones(shape, dtype=bool)
        seen[margin:-margin, margin:-margin] = False
        return cls(seen)

    @classmethod
    def parse(cls, text: str, shape: tuple[int, int], nearest: bool = False, sight: "Sight | None" = None) -> "Wall":
        """The wall that a text names on a map of this shape; see `read_wall`.

        >>> Wall.parse("left:1/2", (1, 4)).seen.astype(int)
        array([[0, 0, 1, 1]])
        """
        named = read_wall(text, shape, nearest, sight)
        if named is None:
            return cls.none(shape)
        side, cells = named
        return cls.centre(shape, cells) if side == "centre" else cls.behind(side, shape, cells)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wall) and np.array_equal(self.seen, other.seen)

    __hash__ = None  # type: ignore[assignment]  # how Python says that it has none

    @property
    def unseen(self) -> np.ndarray:
        """(h, w) Boolean: cells the head is not handed."""
        return ~self.seen

    @property
    def is_open(self) -> bool:
        """True when every cell is seen."""
        return bool(self.seen.all())

    @property
    def box(self) -> tuple[Span, Span]:
        """Rows and columns of the smallest rectangle that holds the seen cells."""
        return _hull(np.asarray(self.seen.any(1))), _hull(np.asarray(self.seen.any(0)))

    @property
    def is_box(self) -> bool:
        """True when the seen cells fill their rectangle."""
        rows, columns = self.box
        return bool(self.seen[slice(*rows), slice(*columns)].all())


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
    rows, columns = (tuple(axis) for axis in zip(*layers, strict=True)) if layers else ((), ())
    cells = lengths(rows, image[0])[-1], lengths(columns, image[1])[-1]
    if cells != wall.seen.shape:
        raise ValueError(
            f"the wall covers {wall.seen.shape} cells, but the layers make {cells} of an image "
            f"{image}; build the wall for {cells}"
        )
    down, across = reach(rows, image[0]).astype(np.int64), reach(columns, image[1]).astype(np.int64)
    reached = (down.T @ wall.seen.astype(np.int64) @ across) > 0
    over_seen = footprint(wall.seen, image)
    return Regions(seen=reached & over_seen, halo=reached & ~over_seen, unseen=~reached)


class Sight(NamedTuple):
    """What lies in front of a wall: the layers, in forward order, and the image's (H, W)."""

    layers: Sequence[Layer]
    image: tuple[int, int]


def read_wall(
    text: str, shape: tuple[int, int], nearest: bool = False, sight: Sight | None = None
) -> tuple[str, int] | None:
    """(side, cells) of a wall written `side:cells` or `side:share`; None for `none`.

    A whole number counts cells. A share, 1/2 or 0.5, is that of the image's rows (columns, at the left and right) that
    are to be unseen: by cells, which lie evenly over the image, or, with `sight`, by the pixels that the head's cells
    do not look at. Where no wall has that share it is refused and the nearest named; with nearest=True that one is taken.

    Raises ValueError for a text that is no wall, a share that does not fit, and a side where no wall hides a pixel.

    >>> read_wall("bottom:8", (12, 12)), read_wall("left:1/2", (12, 12)), read_wall("none", (12, 12))
    (('bottom', 8), ('left', 6), None)
    """
    side, _, amount = str(text).strip().partition(":")
    if (side, amount) == ("none", ""):
        return None
    if side == "centre" and amount.isascii() and amount.isdecimal():
        return side, int(amount)
    side, share = wall_amount(text)
    if isinstance(share, int):
        return side, share
    shares = _shares(side, shape, sight)
    cells = min(shares, key=lambda count: (abs(shares[count] - share), count))
    if shares[cells] != share and not nearest:
        raise ValueError(f"no wall hides {share} of the image at the {side}; the nearest is {side}:{shares[cells]}")
    return side, cells


def _how_to_write(text: str) -> str:
    sides = ", ".join(SIDES)
    return (
        f"{text!r} is no wall; write side:cells or side:share, such as bottom:8 or left:1/2, with a share between 0 and 1 "
        f"and a side of {sides}; or centre:cells for all but a frame, or none"
    )


def wall_amount(text: str) -> tuple[str, int | Fraction]:
    """(side, amount) of a wall written side:cells or side:share.

    >>> wall_amount("bottom:3"), wall_amount("left:1/2")
    (('bottom', 3), ('left', Fraction(1, 2)))
    """
    side, _, amount = str(text).strip().partition(":")
    if side in SIDES and amount.isascii() and amount.isdecimal():
        return side, int(amount)
    try:
        share = Fraction(amount)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if side not in SIDES or not 0 < share < 1:
        raise ValueError(_how_to_write(text))
    return side, share


def _shares(side: str, shape: tuple[int, int], sight: Sight | None) -> dict[int, Fraction]:
    """Cells hidden at a side -> share of the image's rows or columns that are unseen; walls that hide none are left out."""
    axis = 0 if side in ("bottom", "top") else 1
    counts = range(1, shape[axis])
    if sight is None:
        shares = {count: Fraction(count, shape[axis]) for count in counts}
    else:
        unseen = {
            count: np.asarray(regions(Wall.behind(side, shape, count), *sight).unseen.all(1 - axis)) for count in counts
        }
        shares = {count: Fraction(int(lines.sum()), len(lines)) for count, lines in unseen.items() if lines.any()}
    if not shares:
        raise ValueError(
            f"no wall at the {side} of {shape} cells hides a pixel: every cell looks at all of the image there; "
            f"use larger images"
        )
    return shares


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


def _hull(line: np.ndarray) -> Span:
    places = np.flatnonzero(line)
    return Span(int(places[0]), int(places[-1]) + 1)

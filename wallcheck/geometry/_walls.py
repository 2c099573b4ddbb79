"""The wall: which cells of the target layer the head is handed."""

from dataclasses import dataclass

import numpy as np

from wallcheck.geometry._fields import Span
from wallcheck.geometry._notation import SIDES, Sight, read_wall


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
            use = f"use 1 .. {across - 1}" if across > 1 else "there is but one: choose another side or layer"
            raise ValueError(f"cannot hide {cells} of {across} cells at the {side}; {use}")
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


def _hull(line: np.ndarray) -> Span:
    places = np.flatnonzero(line)
    return Span(int(places[0]), int(places[-1]) + 1)

"""A wall as people write it: `side:cells`, `side:share`, `centre:cells` or `none`; and which shares a wall can have."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from wallcheck.geometry._fields import Layer, axes, reach

SIDES = ("bottom", "top", "left", "right")


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


def _how_to_write(text: str) -> str:
    sides = ", ".join(SIDES)
    return (
        f"{text!r} is no wall; write side:cells or side:share, such as bottom:8 or left:1/2, with a share between 0 and 1 "
        f"and a side of {sides}; or centre:cells for all but a frame, or none"
    )


def _shares(side: str, shape: tuple[int, int], sight: Sight | None) -> dict[int, Fraction]:
    """Cells hidden at a side -> share of the image's rows or columns that are unseen; walls that hide none are left out."""
    axis = 0 if side in ("bottom", "top") else 1
    counts = range(1, shape[axis])
    if sight is None:
        shares = {count: Fraction(count, shape[axis]) for count in counts}
    else:
        looks = reach(axes(*sight, shape)[axis], sight.image[axis])  # (lines of cells, lines of pixels)
        far = side in ("bottom", "right")
        unseen = {count: ~np.any(looks[:-count] if far else looks[count:], 0) for count in counts}
        shares = {count: Fraction(int(lines.sum()), len(lines)) for count, lines in unseen.items() if lines.any()}
    if not shares:
        raise ValueError(
            f"no wall at the {side} of {shape} cells hides a pixel: every cell looks at all of the image there; "
            f"use larger images"
        )
    return shares

"""A wall in words: which cells are behind it and which pixels are unseen."""

import numpy as np

from wallcheck.geometry import Regions, Wall


def in_words(wall: Wall, found: Regions) -> str:
    """The wall and what it hides, for a reader: a wall that hides no pixel is said to hide none.

    >>> from wallcheck.geometry import regions
    >>> in_words(Wall.behind("left", (2, 2), 1), regions(Wall.behind("left", (2, 2), 1), [], (2, 2)))
    'behind the wall: columns 0..0 of 2 of cells; unseen: columns 0..0 of 2 of pixels (50.0 %)'
    """
    if wall.is_open:
        return "no wall: every cell is seen"
    unseen = (
        f"{place(found.unseen)} of pixels ({100 * found.unseen.mean():.1f} %)" if found.unseen.any() else "NO PIXEL"
    )
    return f"behind the wall: {place(wall.unseen)} of cells; unseen: {unseen}"


def place(mask: np.ndarray) -> str:
    """A region in words: rows 2..3 of 4, where the mask is whole rows or columns side by side; else how many of all."""
    for name, lines in (("rows", np.asarray(mask.all(1))), ("columns", np.asarray(mask.all(0)))):
        places = np.flatnonzero(lines)
        is_strip = mask.any() and len(places) * mask.size == mask.sum() * len(lines)
        if is_strip and places[-1] - places[0] + 1 == len(places):
            return f"{name} {places[0]}..{places[-1]} of {len(lines)}"
    return f"{mask.sum()} of {mask.size}"

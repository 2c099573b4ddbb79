"""Which pixels can reach which cells: receptive fields in integers, and the wall that follows.

A wall of any shape is handled by two small Boolean matrices, one along rows and one along columns. Nobody else in wallcheck
computes rows.
"""

from wallcheck.geometry._fields import Layer, Span, Window, lengths, reach, seen_by, taps
from wallcheck.geometry._notation import SIDES, Sight, read_wall, wall_amount
from wallcheck.geometry._regions import Regions, crop, footprint, regions
from wallcheck.geometry._walls import Wall

__all__ = [
    "SIDES",
    "Layer",
    "Regions",
    "Sight",
    "Span",
    "Wall",
    "Window",
    "crop",
    "footprint",
    "lengths",
    "reach",
    "read_wall",
    "regions",
    "seen_by",
    "taps",
    "wall_amount",
]

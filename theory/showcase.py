"""The one picture that the figure of T2 uses: two simple shapes, one on each side of the wall."""

import torch
from torch import Tensor

from theory.geometries import Geometry
from theory.networks import Head, Stem


def two_shapes(side: int = 40) -> Tensor:
    """A bright ring in the upper half and a striped square in the lower half: (1, side, side), values 0 to 1."""
    row, column = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    radius = ((row - 0.25) ** 2 + (column - 0.36) ** 2).sqrt()
    ring = ((radius - 0.15).abs() < 0.05).float()
    inside = ((row - 0.75).abs() < 0.17) & ((column - 0.62).abs() < 0.22)
    stripes = inside.float() * (0.5 + 0.5 * torch.sin(40 * (row + column)).sign())
    return (ring + 0.8 * stripes)[None]


def showcase_geometry(device: torch.device) -> Geometry:
    """A two-layer head that reads the upper half of `two_shapes` only."""
    stem = Stem(two_shapes().to(device), filters=6, tau=1.0, kernel=3, stride=2, padding=1)
    seen = torch.zeros(10, 10, dtype=torch.bool)
    seen[:5] = True
    return Geometry(stem, Head(seen, taus=(0.3, 0.5), widths=(6,), pool=2))

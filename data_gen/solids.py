"""The ten classes: signed distances to solids within the unit ball, and the viewpoints that show them.

A distance takes object coordinates x, y, z (any one shape) and the solid's proportion in [-1, 1] (the
same shape) and never exceeds the true distance, so that a ray may step by it. Solids of revolution
stand along y. Arithmetic is restricted to operations that IEEE 754 rounds exactly (+ - * / sqrt min max
abs): their result does not depend on where in a batch or on which machine an element is computed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class SolidClass:
    """A class of object: its name, its distance, and from where it can be told.

    It leans to the left or right by at most `lean` degrees, and is drawn only if it `shows` along
    the direction to the viewer, given in object coordinates.
    """

    name: str
    distance: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    lean: float
    shows: Callable[[Vector], bool]


def length(*coordinates: Tensor) -> Tensor:
    """Euclidean length of vectors given by their coordinates.

    >>> length(torch.tensor([3.0]), torch.tensor([4.0]))
    tensor([5.])
    """
    total = coordinates[0] * coordinates[0]
    for c in coordinates[1:]:
        total = total + c * c
    return total.sqrt()


def sphere(x: Tensor, y: Tensor, z: Tensor, s: Tensor) -> Tensor:
    return length(x, y, z) - (0.71 + 0.05 * s)


def box(x: Tensor, y: Tensor, z: Tensor, half: float, rounding: float = 0.03) -> Tensor:
    """A cube of half edge `half`, its edges rounded a little so that they catch the light."""
    inner = half - rounding
    x, y, z = x.abs() - inner, y.abs() - inner, z.abs() - inner
    outside = length(x.clamp(min=0), y.clamp(min=0), z.clamp(min=0))
    inside = torch.maximum(torch.maximum(x, y), z).clamp(max=0)
    return outside + inside - rounding


def cube(x: Tensor, y: Tensor, z: Tensor, s: Tensor) -> Tensor:
    return box(x, y, z, half=0.51)


def torus(x: Tensor, y: Tensor, z: Tensor, s: Tensor) -> Tensor:
    tube = 0.20 + 0.03 * s
    return length(length(x, z) - (0.90 - tube), y) - tube


def cylinder(x: Tensor, y: Tensor, z: Tensor, s: Tensor) -> Tensor:
    beside, above = length(x, z) - (0.44 + 0.04 * s), y.abs() - (0.76 - 0.04 * s)
    return torch.maximum(beside, above).clamp(max=0) + length(beside.clamp(min=0), above.clamp(min=0))


def cone(x: Tensor, y: Tensor, z: Tensor, s: Tensor) -> Tensor:
    """Tip at y = 0.88, base of radius 0.68 (0.04 more or less) at y = -0.62: a bound, exact near the surface."""
    base, height = 0.68 + 0.04 * s, 1.5
    slope = (base * base + height * height).sqrt()
    flank = (height * length(x, z) + base * (y - 0.88)) / slope
    return torch.maximum(flank, -0.62 - y)


def octahedron(x: Tensor, y: Tensor, z: Tensor, s: Tensor) -> Tensor:
    return (x.abs() + y.abs() + z.abs() - 0.94) * 0.57735  # 1 / sqrt(3): the face normal is (1, 1, 1)


def jack(x: Tensor, y: Tensor, z: Tensor, s: Tensor) -> Tensor:
    """Six rounded arms along the axes."""
    thick = 0.16 + 0.02 * s
    reach = 0.94 - thick
    x, y, z = x.abs(), y.abs(), z.abs()
    arms = [length((a - reach).clamp(min=0), b, c) for a, b, c in ((x, y, z), (y, z, x), (z, x, y))]
    return torch.minimum(torch.minimum(arms[0], arms[1]), arms[2]) - thick


def dumbbell(x: Tensor, y: Tensor, z: Tensor, s: Tensor) -> Tensor:
    ball, y = 0.40 + 0.03 * s, y.abs()
    around = length(x, z)
    end = length(around, y - (0.94 - ball)) - ball
    rod = length(around, (y - 0.5).clamp(min=0)) - 0.18
    return torch.minimum(end, rod)


def hollow_cube(x: Tensor, y: Tensor, z: Tensor, s: Tensor) -> Tensor:
    """A cube with square holes through all six faces.

    The hole along z is max(|x|, |y|) < opening; the union of the three holes is the smallest of
    the three pairwise maxima, which is the median of |x|, |y|, |z|.
    """
    opening = 0.29 - 0.03 * s
    a, b, c = x.abs(), y.abs(), z.abs()
    median = torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))
    return torch.maximum(box(x, y, z, half=0.50, rounding=0.01), opening - median)


def pills(x: Tensor, y: Tensor, z: Tensor, s: Tensor) -> Tensor:
    """Three capsules side by side in the plane z = 0, each along y."""
    thick = 0.19 + 0.02 * s
    x = x.abs()
    nearest = torch.minimum(x, (x - 0.52).abs())
    return length(nearest, (y.abs() - 0.48).clamp(min=0), z) - thick


def _largest(view: Vector) -> float:
    return max(map(abs, view))


CLASSES: tuple[SolidClass, ...] = (
    SolidClass("sphere", sphere, 180, lambda v: True),
    SolidClass("cube", cube, 30, lambda v: _largest(v) < 0.90),  # not face on: a square
    SolidClass("torus", torus, 180, lambda v: abs(v[1]) > 0.55),  # the hole is open
    SolidClass("cylinder", cylinder, 30, lambda v: 0.25 < abs(v[1]) < 0.75),  # side and one end are seen
    SolidClass("cone", cone, 30, lambda v: -0.55 < v[1] < 0.60),  # not from the tip, not from the base
    SolidClass(
        "octahedron", octahedron, 15, lambda v: abs(v[1]) < 0.55 and _largest(v) < 0.92
    ),  # not from a tip: a square
    SolidClass("jack", jack, 180, lambda v: True),
    SolidClass("dumb-bell", dumbbell, 180, lambda v: abs(v[1]) < 0.70),  # both balls are seen
    SolidClass("hollow cube", hollow_cube, 180, lambda v: _largest(v) < 0.96),
    SolidClass("pills", pills, 180, lambda v: abs(v[2]) > 0.55 and abs(v[1]) < 0.70),  # all three are seen
)
NAMES: tuple[str, ...] = tuple(solid.name for solid in CLASSES)

"""The colour of a point on a solid: texture, Lambert's law, a highlight, and darkness in the corners."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data_gen.rays import Rays, turned
from data_gen.sampling import TEXTURES
from data_gen.scene import Direction, Solid
from data_gen.solids import CLASSES, length

AMBIENT, DIFFUSE, BACK = 0.30, 0.75, 0.12
SLOPE_STEP = 0.012  # bounding radii: a quarter of a pixel
CORNER_REACH = 0.18  # bounding radii: how far a corner darkens its surroundings
CELLS = 16  # period of the noise lattice
LATTICE = torch.from_numpy(np.random.default_rng(20240401).random(CELLS**3, dtype=np.float32))
# Corners of a regular tetrahedron: sum of k * distance(p + k h) over them is 4 h * gradient.
TETRAHEDRON = ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1))

Points = tuple[Tensor, Tensor, Tensor]


def surface_colour(
    solids: Sequence[Solid], lights: Sequence[Direction], matrices: np.ndarray, rays: Rays, points: Points
) -> tuple[Tensor, Tensor, Tensor]:
    """Red, green, blue (rays,) of the points (object coordinates) of solids of one class."""
    label = solids[0].label
    normal = normals(points, rays.proportion, label)
    light, half = light_and_half(lights, matrices)
    lit = dot(normal, light[:, rays.owner])
    facing = dot(normal, half[:, rays.owner]).clamp(min=0)
    shade = AMBIENT + DIFFUSE * lit.clamp(min=0) + BACK * (-lit).clamp(min=0)
    shade = shade * openness(points, normal, rays.proportion, label)
    gloss = torch.tensor([solid.gloss for solid in solids])[rays.owner] * thirty_second_power(facing)
    mix = texture(solids, rays, points)
    first, second = (
        torch.tensor([getattr(solid, name) for solid in solids]).T.contiguous()[:, rays.owner]
        for name in ("colour", "second_colour")
    )
    return tuple((a + (b - a) * mix) * shade + gloss for a, b in zip(first, second, strict=True))


def normals(points: Points, proportion: Tensor, label: int) -> Points:
    """Outward unit normals, from differences of the distance between four neighbours."""
    distance = CLASSES[label].distance
    slope = [torch.zeros_like(points[0]) for _ in range(3)]
    for corner in TETRAHEDRON:
        d = distance(*(p + SLOPE_STEP * k for p, k in zip(points, corner, strict=True)), proportion)
        slope = [total + d * k for total, k in zip(slope, corner, strict=True)]
    size = length(*slope).clamp(min=1e-6)  # the slope of a distance is 4 * SLOPE_STEP = 0.048, or 0 at a ridge
    return tuple(s / size for s in slope)


def light_and_half(lights: Sequence[Direction], matrices: np.ndarray) -> tuple[Tensor, Tensor]:
    """Directions to the light and halfway between light and viewer, (3, solids) in object coordinates."""
    light = np.array([turned(light, matrix) for light, matrix in zip(lights, matrices, strict=True)]).T
    half = light + matrices[:, :, 2].T
    half = half / np.sqrt(half[0] * half[0] + half[1] * half[1] + half[2] * half[2])
    return torch.from_numpy(light).float(), torch.from_numpy(half).float()


def openness(points: Points, normal: Points, proportion: Tensor, label: int) -> Tensor:
    """1 on an open surface, less where another part of the solid is close: ambient occlusion."""
    outside = (p + CORNER_REACH * n for p, n in zip(points, normal, strict=True))
    free = CLASSES[label].distance(*outside, proportion) / CORNER_REACH
    return 0.5 + 0.5 * free.clamp(0, 1)


def texture(solids: Sequence[Solid], rays: Rays, points: Points) -> Tensor:
    """Share of the second colour (rays,) in [0, 1]; all patterns are drawn and each solid takes its own."""
    scale = torch.tensor([solid.texture_scale for solid in solids])[rays.owner]
    offset = torch.tensor([solid.texture_offset for solid in solids]).T.contiguous()[:, rays.owner]
    kind = torch.tensor([TEXTURES.index(solid.texture) for solid in solids])[rays.owner]
    x, y, z = (p * scale + o for p, o in zip(points, offset, strict=True))
    noise = lattice_noise(x, y, z)
    patterns = (0.5 * noise, stripes(x + y), checker(x, y, z), spots(x, y, z), stripes(x - z + 2 * noise))
    mix = patterns[0]
    for number, pattern in enumerate(patterns):
        mix = torch.where(kind == number, pattern, mix)
    return mix


def stripes(u: Tensor) -> Tensor:
    """Soft-edged bands of period 1."""
    return (3 * ((u - u.floor() - 0.5).abs() * 2 - 0.5) + 0.5).clamp(0, 1)


def checker(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    cell = x.floor() + y.floor() + z.floor()
    return cell - 2 * (cell * 0.5).floor()


def spots(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Balls of radius 0.42 in the middle of unit cells, soft-edged."""
    return ((0.42 - length(*(c - c.floor() - 0.5 for c in (x, y, z)))) * 6).clamp(0, 1)


def lattice_noise(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Smooth noise in [0, 1]: random values at integer points, blended in between; period CELLS."""
    floors = [c.floor() for c in (x, y, z)]
    fx, fy, fz = (fade(c - f) for c, f in zip((x, y, z), floors, strict=True))
    low = [f.int() & (CELLS - 1) for f in floors]
    high = [(i + 1) & (CELLS - 1) for i in low]
    (x0, x1), (y0, y1), (z0, z1) = zip(low, high, strict=True)
    x0, x1, y0, y1 = x0 * CELLS**2, x1 * CELLS**2, y0 * CELLS, y1 * CELLS

    def along_x(plane: Tensor) -> Tensor:
        return blend(LATTICE[x0 + plane], LATTICE[x1 + plane], fx)

    front = blend(along_x(y0 + z0), along_x(y1 + z0), fy)
    return blend(front, blend(along_x(y0 + z1), along_x(y1 + z1), fy), fz)


def fade(t: Tensor) -> Tensor:
    """0 at 0, 1 at 1, level at both: 3 t^2 - 2 t^3."""
    return t * t * (3 - 2 * t)


def blend(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """a at t = 0, b at t = 1; torch.lerp may round differently at the end of a batch."""
    return a + (b - a) * t


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def thirty_second_power(t: Tensor) -> Tensor:
    for _ in range(5):
        t = t * t
    return t

"""What lies behind the solids: fractal noise between colours, and flat patches as distractors."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data_gen.sampling import PATCHES
from data_gen.scene import Backdrop, Patch
from data_gen.shading import blend, fade, stripes

COARSEST = 3  # cells of the first octave across the image
OCTAVES = 5  # 3, 6, 12, 24, 48 cells
TINT_OCTAVES = 2


def draw_backdrops(backdrops: Sequence[Backdrop], size: int) -> Tensor:
    """(B, 3, size, size) colours, about 0 .. 1; each from its own noise seed."""
    chances = [np.random.default_rng(backdrop.noise_seed) for backdrop in backdrops]
    roughness = column([backdrop.roughness for backdrop in backdrops])
    form = fractal_noise(chances, size, OCTAVES, roughness)
    tint = fractal_noise(chances, size, TINT_OCTAVES, roughness)
    form = ((form - 0.5) * column([b.contrast for b in backdrops]) + 0.5).clamp(0, 1)[:, None]
    tint = ((tint - 0.5) * 3).clamp(0, 1)[:, None]
    dark, bright, third = (colours([getattr(b, name) for b in backdrops]) for name in ("dark", "bright", "tint"))
    image = blend(blend(dark, bright, form), third, tint)
    for patches in zip(*(backdrop.patches for backdrop in backdrops), strict=True):
        image = blend(image, colours([p.colour for p in patches]), cover(patches, size)[:, None])
    grain = np.stack([rng.integers(-128, 128, (size, size), dtype=np.int8) for rng in chances])
    strength = column([b.grain for b in backdrops])
    return image + (torch.from_numpy(grain).float() * (strength / 128))[:, None]


def fractal_noise(chances: Sequence[np.random.Generator], size: int, octaves: int, roughness: Tensor) -> Tensor:
    """(B, size, size) in [0, 1]: octaves of value noise, each twice as fine and `roughness` as strong."""
    total, weights = torch.zeros(len(chances), size, size), torch.zeros_like(roughness)
    weight = torch.ones_like(roughness)
    for octave in range(octaves):
        cells = COARSEST * 2**octave
        values = np.stack([rng.random((cells + 1, cells + 1), dtype=np.float32) for rng in chances])
        total = total + weight * stretched(torch.from_numpy(values), size)
        weights, weight = weights + weight, weight * roughness
    return total / weights


def stretched(values: Tensor, size: int) -> Tensor:
    """(B, n + 1, n + 1) values at the corners of n x n cells -> (B, size, size), smooth in between."""
    cells = values.shape[1] - 1
    place = (torch.arange(size) + 0.5) * cells / size
    low = place.floor().long()
    t = fade(place - low)
    wide = blend(values[:, :, low], values[:, :, low + 1], t)
    return blend(wide[:, low], wide[:, low + 1], t[:, None])


def cover(patches: Sequence[Patch], size: int) -> Tensor:
    """(B, size, size): opacity of one patch per image."""
    centre = torch.arange(size) + 0.5
    right = centre - column([p.column for p in patches])
    down = centre[:, None] - column([p.row for p in patches])
    cos, sin = (column([p.across[k] for p in patches]) for k in (0, 1))
    length = column([p.length for p in patches])
    u = right * (cos / length) + down * (sin / length)
    v = (down * cos - right * sin) * (column([p.slimness for p in patches]) / length)
    rings = torch.where(
        column([PATCHES.index(p.kind) for p in patches]) == PATCHES.index("bar"),
        torch.maximum(u.abs(), v.abs()),
        (u * u + v * v).sqrt(),
    )
    bands = column([p.stripes for p in patches])
    striped = torch.where(bands > 0, stripes(u * bands), torch.ones_like(u))
    return ((1 - rings) * 4).clamp(0, 1) * striped * column([p.opacity for p in patches])


def column(values: Sequence[float]) -> Tensor:
    """(B, 1, 1), to stand beside (B, height, width)."""
    return torch.tensor(values)[:, None, None]


def colours(values: Sequence[tuple[float, float, float]]) -> Tensor:
    """(B, 3, 1, 1), to stand beside (B, 3, height, width)."""
    return torch.tensor(values)[:, :, None, None]

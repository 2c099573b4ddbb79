"""Scenes -> images and masks. Equal scenes draw equal bytes, in whatever batch, on however many threads."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_gen.backdrops import draw_backdrops
from data_gen.rays import Rays, rays_through, rotation_matrices, trace
from data_gen.scene import ABOVE, Scene, Solid
from data_gen.shading import blend, fade, surface_colour

SCENES_AT_ONCE = 64
BACKDROP_PIXELS_AT_ONCE = 40_000  # float32: 160 kB an array, so that the working set stays in the L2 cache
RAYS_AT_ONCE = 16_000
SHADOW_SOFTNESS = 0.30  # bounding radii
SHADOW_FALL = 0.28  # bounding radii between a solid and its shadow, for light from the side
SHADOW_RAMP = 0.25  # per pixel: a shadow fades out over the last 4 rows before the wall


class Placed(NamedTuple):
    """A solid with the scene that it stands in and that scene's number in the batch."""

    number: int
    scene: Scene
    solid: Solid


@torch.no_grad()
def draw(scenes: Sequence[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, size, size, 3) uint8 and object masks (N, size, size) uint8 of scenes of one size.

    A mask holds 0 for the backdrop, 1 for the solid above the wall, 2 for the one below it.
    """
    if not scenes:
        raise ValueError("draw needs at least one scene, got none; sample some with sample_scene")
    sizes = {scene.size for scene in scenes}
    if len(sizes) != 1:
        raise ValueError(f"draw takes scenes of one size, got sizes {sorted(sizes)}; draw each size by itself")
    parts = [_draw(scenes[i : i + SCENES_AT_ONCE]) for i in range(0, len(scenes), SCENES_AT_ONCE)]
    images, masks = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(masks)


def _draw(scenes: Sequence[Scene]) -> tuple[np.ndarray, np.ndarray]:
    canvas = Canvas(scenes)
    for group in together(scenes):
        canvas.paint(group)
    return canvas.bytes()


def together(scenes: Sequence[Scene]) -> Iterator[list[Placed]]:
    """Solids of one class from all scenes, about RAYS_AT_ONCE rays at a time."""
    solids = [Placed(number, scene, solid) for number, scene in enumerate(scenes) for solid in scene.solids]
    solids.sort(key=lambda placed: (placed.solid.label, placed.solid.radius))
    for _, alike in groupby(solids, key=lambda placed: placed.solid.label):
        group, rays = [], 0.0
        for placed in alike:
            group.append(placed)
            rays += 3.14 * placed.solid.radius**2
            if rays > RAYS_AT_ONCE:
                yield group
                group, rays = [], 0.0
        if group:
            yield group


class Canvas:
    """Some scenes' images while they are painted: backdrops first, then each solid over its shadow."""

    def __init__(self, scenes: Sequence[Scene]):
        self.size = scenes[0].size
        step = max(1, BACKDROP_PIXELS_AT_ONCE // self.size**2)
        backdrops = [scene.backdrop for scene in scenes]
        parts = [draw_backdrops(backdrops[i : i + step], self.size) for i in range(0, len(scenes), step)]
        self.colours = torch.cat(parts).reshape(-1)  # (B * 3 * size * size,): planes, rows, columns
        self.masks = torch.zeros(len(scenes) * self.size**2, dtype=torch.uint8)

    def paint(self, group: Sequence[Placed]) -> None:
        """Solids of one class, and their shadows."""
        solids = [placed.solid for placed in group]
        matrices = rotation_matrices(solids)
        rays = rays_through(solids, matrices)
        near, z = trace(rays, solids[0].label)
        self._shade(group, rays, near)
        outline = near * torch.tensor([solid.radius for solid in solids])[rays.owner]  # pixels off
        touched = (outline < 1).nonzero().squeeze(1)
        rays, z, share = rays.keep(touched), z[touched], (1 - outline[touched]).clamp(0, 1)
        lights = [placed.scene.light for placed in group]
        colour = surface_colour(solids, lights, matrices, rays, rays.at(z))
        number = torch.tensor([placed.number for placed in group])[rays.owner]
        self._lay(number, rays.row, rays.column, colour, share)
        sides = torch.tensor([solid.side for solid in solids], dtype=torch.uint8)[rays.owner]
        core = share > 0.5
        self.masks[((number * self.size + rays.row) * self.size + rays.column)[core]] = sides[core]

    def _shade(self, group: Sequence[Placed], rays: Rays, near: Tensor) -> None:
        """Darken what lies behind a solid's outline, away from the light, on its own side of the wall."""
        number, wall, above, darkness, down, right = (
            torch.tensor(values)[rays.owner] for values in zip(*map(_shadow, group), strict=True)
        )
        row, column = rays.row + down, rays.column + right
        rim = (2 * rays.depth * rays.depth).clamp(max=1)  # no edge where the bounding ball ends
        dark = darkness * fade((1 - near / SHADOW_SOFTNESS).clamp(0, 1)) * rim
        from_wall = torch.where(above, wall - row - 0.5, row + 0.5 - wall)
        dark = dark * (from_wall * SHADOW_RAMP).clamp(0, 1)
        within = (row >= 0) & (row < self.size) & (column >= 0) & (column < self.size)
        falls = ((dark > 0) & within).nonzero().squeeze(1)
        black = (torch.zeros(()),) * 3
        self._lay(number[falls], row[falls], column[falls], black, dark[falls])

    def _lay(self, number: Tensor, row: Tensor, column: Tensor, colour: Sequence[Tensor], share: Tensor) -> None:
        """Blend red, green, blue over the pixels of the numbered images."""
        for channel, value in enumerate(colour):
            place = ((number * 3 + channel) * self.size + row) * self.size + column
            self.colours[place] = blend(self.colours[place], value, share)

    def bytes(self) -> tuple[np.ndarray, np.ndarray]:
        """Images (B, size, size, 3) and masks (B, size, size), uint8."""
        image = (self.colours.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
        image = image.reshape(-1, 3, self.size, self.size).permute(0, 2, 3, 1)
        return image.contiguous().numpy(), self.masks.reshape(-1, self.size, self.size).numpy()


def _shadow(placed: Placed) -> tuple[int, int, bool, float, int, int]:
    """Scene number, wall row, above the wall?, darkness, and the shadow's shift down and right in pixels."""
    right, up, _ = placed.scene.light
    fall = SHADOW_FALL * placed.solid.radius
    shift = round(up * fall), round(-right * fall)
    return placed.number, placed.scene.wall_row, placed.solid.side == ABOVE, placed.scene.shadow, *shift

"""Sphere tracing: which pixel's ray meets a solid, where, and how closely the others pass by.

Rays are parallel (no perspective) and live in view coordinates in which the solid's bounding ball
has radius 1: x to the right, y up, z towards the viewer. Only rays through the ball are traced, all
solids of one class together. As in `solids`, arithmetic is restricted to exactly rounded
operations, element by element, so that no result depends on the other rays of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_gen.scene import Direction, Solid
from data_gen.solids import CLASSES

STEPS = 28
STEPS_BETWEEN_DROPS = 4
HIT = 0.004  # bounding radii: 0.1 px for a ball of 25 px


@dataclass(frozen=True)
class Rays:
    """The rays through the bounding balls of some solids of one class; every field has one entry per ray.

    `owner` is the solid's place in the batch, `row` and `column` the pixel; `start` and `across`
    (three coordinates each) are the point over the ball's centre plane and the direction to the
    viewer, in object coordinates; `depth` is half the length of the ray inside the ball.
    """

    owner: Tensor
    row: Tensor
    column: Tensor
    start: tuple[Tensor, Tensor, Tensor]
    across: tuple[Tensor, Tensor, Tensor]
    depth: Tensor
    proportion: Tensor

    def at(self, z: Tensor) -> tuple[Tensor, ...]:
        """Object coordinates of the points at height z over the centre plane."""
        return tuple(s + a * z for s, a in zip(self.start, self.across, strict=True))

    def keep(self, alive: Tensor) -> "Rays":
        """The rays whose numbers are given."""
        return Rays(
            self.owner[alive], self.row[alive], self.column[alive],
            tuple(s[alive] for s in self.start), tuple(a[alive] for a in self.across),
            self.depth[alive], self.proportion[alive],
        )  # fmt: skip


def rotation_matrices(solids: Sequence[Solid]) -> np.ndarray:
    """(n, 3, 3): columns are the viewer's right, up and towards-viewer in object coordinates."""
    w, x, y, z = np.array([solid.rotation for solid in solids]).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def turned(direction: Direction, matrix: np.ndarray) -> np.ndarray:
    """A direction of the view in object coordinates, (3,)."""
    right, up, near = direction
    return matrix[:, 0] * right + matrix[:, 1] * up + matrix[:, 2] * near


def rays_through(solids: Sequence[Solid], matrices: np.ndarray) -> Rays:
    """One ray per pixel whose centre lies in a bounding disc; solids in order, pixels row by row."""
    column, row, radius, proportion = (
        torch.tensor([getattr(solid, name) for solid in solids])[:, None, None]
        for name in ("column", "row", "radius", "proportion")
    )
    reach = int(radius.max()) + 2
    offsets = torch.arange(-reach, reach + 1)
    columns, rows = column.floor().long() + offsets, row.floor().long() + offsets[:, None]
    x, y = torch.broadcast_tensors((columns + 0.5 - column) / radius, (row - rows - 0.5) / radius)
    depth2 = 1 - x * x - y * y
    owner, i, j = (depth2 > 0).nonzero(as_tuple=True)
    x, y = x[owner, i, j], y[owner, i, j]
    frame = torch.from_numpy(matrices).float().reshape(-1, 9).T.contiguous()[:, owner]  # (9, rays)
    return Rays(
        owner=owner, row=rows[owner, i, 0], column=columns[owner, 0, j],
        start=tuple(frame[3 * k] * x + frame[3 * k + 1] * y for k in range(3)),
        across=tuple(frame[3 * k + 2] for k in range(3)),
        depth=depth2[owner, i, j].sqrt(), proportion=proportion.flatten()[owner],
    )  # fmt: skip


def trace(rays: Rays, label: int) -> tuple[Tensor, Tensor]:
    """Smallest distance to the solid met on each ray, and the height z where: (rays,) each.

    A ray that meets the solid ends with a distance below HIT; for the others the smallest distance
    says how far the outline is. Rays that are done are dropped every few steps.
    """
    distance = CLASSES[label].distance
    near, place = torch.full_like(rays.depth, 2.0), rays.depth.clone()
    best, best_z, z = near, place, rays.depth
    alive = torch.arange(len(near))
    for step in range(1, STEPS + 1):
        d = distance(*rays.at(z), rays.proportion)
        closer = d < best
        best, best_z = torch.where(closer, d, best), torch.where(closer, z, best_z)
        z = z - d
        if step % STEPS_BETWEEN_DROPS == 0:
            near[alive], place[alive] = best, best_z
            going = ((best > HIT) & (z > -rays.depth)).nonzero().squeeze(1)
            alive, rays = alive[going], rays.keep(going)
            best, best_z, z = best[going], best_z[going], z[going]
    near[alive], place[alive] = best, best_z
    return near, place

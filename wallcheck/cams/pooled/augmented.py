"""Augmented Grad-CAM: the pixel map whose turned and shifted copies, averaged into cells, are the Grad-CAMs of
the turned and shifted images.

Turning moves parts of the image across the wall, so this method does look at unseen pixels, a little:
what it says about them is not false in the way of a map of one image.
"""

import math

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.cams.pooled.gradients import gradcam
from wallcheck.evidence import Evidence
from wallcheck.numerics import ratio

COPIES, ANGLE, SHIFT = 8, 0.5, 30 / 224  # radians; share of the image's sides
TOTAL_VARIATION, ENERGY, STEPS = 0.002, 0.0001, 50  # weights per copy
SALT = 5


@cam_method(
    family="pooled",
    grid="pixels",
    source="Morbidelli et al. 2020 (Augmented Grad-CAM), eq. 3 with the authors' weights; 8 copies, 50 primal-dual steps",
    cost="8F+8b",
    verdict="may_leak",
)
def augmented_gradcam(ev: Evidence) -> Tensor:
    """50 steps towards argmin_h sum_l ||D T_l h - g_l||^2 / 2 + 8 (0.002 TV(h) + 0.0001 ||h||^2 / 2): (B, H, W).

    T_l turns (up to 0.5 rad) and shifts (up to 30/224 of a side), T_0 does nothing; D averages the
    pixels of each cell; g_l is relu(Grad-CAM) of the turned image over its maximum, 0 where nothing
    is positive; TV is anisotropic. Ours: 8 copies where the authors take 100, and 50 steps from
    h = 0 of a primal-dual scheme (Condat 2013) where they take 200 of gradient descent.
    """
    turns = [turned(ev, *motion) for motion in motions(ev)]
    flat, maps = ev.images.flatten(0, 1).flatten(1).T, []
    for turn in turns:
        images = (sparse(ev, *turn) @ flat).T.view_as(ev.images)
        map_ = gradcam(ev.at(images)).clamp(min=0)
        maps.append(ratio(map_, map_.amax((1, 2), keepdim=True)))
    operator = torch.cat([averaged(ev, *turn) for turn in turns]).coalesce()
    return super_resolved(operator, torch.cat([map_.flatten(1) for map_ in maps], 1), ev)


def motions(ev: Evidence) -> list[tuple[float, float, float]]:
    """(angle, rows down, columns right) of each copy; the first is at rest."""
    drawn = 2 * torch.rand(COPIES - 1, 3, generator=ev.generator(salt=SALT), device=ev.images.device).double().cpu() - 1
    height, width = ev.net.image_size
    moved = drawn * torch.tensor([ANGLE, SHIFT * height, SHIFT * width], dtype=torch.float64)
    return [(0.0, 0.0, 0.0), *map(tuple, moved.tolist())]


def turned(ev: Evidence, angle: float, down: float, right: float) -> tuple[Tensor, Tensor, Tensor]:
    """T as (pixel of the copy, pixel of the image it reads, weight), pixels numbered row by row: the copy's p reads
    the image at R (p - centre) + centre + shift, bilinear between four pixels, 0 outside."""
    height, width = ev.net.image_size
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = (rows - (height - 1) / 2).double().flatten(), (columns - (width - 1) / 2).double().flatten()
    cos, sin = math.cos(angle), math.sin(angle)
    y, x = cos * y - sin * x + (height - 1) / 2 + down, sin * y + cos * x + (width - 1) / 2 + right
    entries = []
    for i, j in ((y.floor() + a, x.floor() + b) for a in (0, 1) for b in (0, 1)):
        inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
        weight = (1 - (y - i).abs()) * (1 - (x - j).abs())
        entries.append((inside.nonzero()[:, 0], (i * width + j)[inside].long(), weight[inside]))
    return tuple(torch.cat(parts) for parts in zip(*entries, strict=True))


def averaged(ev: Evidence, to: Tensor, of: Tensor, weight: Tensor) -> Tensor:
    """D T, sparse (h w, H W): the mean of the copy's pixels under each cell."""
    (height, width), (h, w) = ev.net.image_size, ev.wall.seen.shape
    row, column = torch.arange(height) * h // height, torch.arange(width) * w // width
    cell = (row[:, None] * w + column).flatten()
    return sparse(ev, cell[to], of, weight / cell.bincount(minlength=h * w)[cell[to]], h * w)


def sparse(ev: Evidence, rows: Tensor, columns: Tensor, values: Tensor, height: int | None = None) -> Tensor:
    """Sparse (height, H W) of the evidence's kind; height is H W if None."""
    pixels = ev.net.image_size[0] * ev.net.image_size[1]
    matrix = torch.sparse_coo_tensor(
        torch.stack([rows, columns]), values, (height or pixels, pixels), check_invariants=False
    )
    return matrix.coalesce().to(ev.images.device, ev.images.dtype)


def super_resolved(operator: Tensor, cells: Tensor, ev: Evidence) -> Tensor:
    """50 primal-dual steps on cells (B, copies h w) = operator (copies h w, H W) h: (B, H, W).

    Step sizes: the data term's curvature is at most L = copies (2 h w / H W + energy), 2 for what a
    bilinear turn can stretch; differences have norm^2 <= 8; 1/tau - 8 sigma = L / 2 as Condat asks.
    """
    (height, width), pixels = ev.net.image_size, operator.shape[1]
    bound = COPIES * (2 * ev.cells / pixels + ENERGY)
    tau, sigma, limit = 1 / bound, bound / 16, COPIES * TOTAL_VARIATION
    h = torch.zeros(pixels, len(cells), device=cells.device, dtype=cells.dtype)
    down, right = torch.zeros_like(h.view(height, width, -1)[1:]), torch.zeros_like(h.view(height, width, -1)[:, 1:])
    back = operator.t().coalesce()
    for _ in range(STEPS):
        slope = back @ (operator @ h - cells.T) + COPIES * ENERGY * h + against_differences(down, right)
        stepped = h - tau * slope
        ahead = (2 * stepped - h).view(height, width, -1)
        down = (down + sigma * ahead.diff(dim=0)).clamp(-limit, limit)
        right = (right + sigma * ahead.diff(dim=1)).clamp(-limit, limit)
        h = stepped
    return h.T.reshape(-1, height, width)


def against_differences(down: Tensor, right: Tensor) -> Tensor:
    """The transpose of (diff over rows, diff over columns): (H-1, W, B), (H, W-1, B) -> (H W, B)."""
    pad = torch.nn.functional.pad
    rows = pad(down, (0, 0, 0, 0, 1, 0)) - pad(down, (0, 0, 0, 0, 0, 1))
    columns = pad(right, (0, 0, 1, 0)) - pad(right, (0, 0, 0, 1))
    return (rows + columns).flatten(0, 1)

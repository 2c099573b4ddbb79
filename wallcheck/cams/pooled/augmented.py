"""Augmented Grad-CAM: the pixel map whose turned and shifted copies, reduced to cells, are the Grad-CAMs of
the turned and shifted images.

Turning moves parts of the image across the wall, so this method does look at unseen pixels, a little:
what it says about them is not false in the way of a map of one image.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.cams.pooled.gradients import gradcam
from wallcheck.cams.rescoring.masks import bilinear
from wallcheck.evidence import Evidence
from wallcheck.numerics import ratio

COPIES, ANGLE, SHIFT = 8, 0.5, 30 / 224  # radians; share of the image's sides
TOTAL_VARIATION, ENERGY = 0.002, 0.0001  # the authors' weights per copy, beside the sum of squares
STEPS = 1000
SALT = 5


@cam_method(
    family="pooled",
    grid="pixels",
    source="Morbidelli et al. 2020 (Augmented Grad-CAM), eq. 3 with the weights of the authors' code; 8 copies, run to the "
    "optimum (the code stops after 200 steps of Adam)",
    cost="8F+8b",
    verdict="may_leak",
)
def augmented_gradcam(ev: Evidence) -> Tensor:
    """argmin_h sum_l ||D T_l h - g_l||^2 + 8 (0.002 TV(h) + 0.0001 ||h||^2): (B, H, W).

    T_l turns (up to 0.5 rad) and shifts (up to 30/224 of a side), T_0 does nothing; D reduces the image to cells,
    bilinearly at the cells' centres; g_l is relu(Grad-CAM) of the turned image over its maximum, 0 where nothing
    is positive; TV is anisotropic. 1000 steps of a primal-dual scheme (Condat 2013) from h = 0 leave it within 1 % of
    its peak from the optimum. The authors' code takes 100 copies and 200 steps of Adam at rate 0.001 from 0, so no
    value passes 0.2 whatever the functional asks; its D (TensorFlow 1.14) reads the corner of each cell, which
    shifts the map by half a cell.
    """
    turns = [turned(ev, *motion) for motion in motions(ev)]
    operator = torch.cat([reduced(ev, *turn) for turn in turns]).coalesce()
    return super_resolved(operator, cells_of_copies(ev, turns), ev)


def cells_of_copies(ev: Evidence, turns: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """(B, copies h w): g_l, relu(Grad-CAM) over its maximum, of each turned copy."""
    flat, maps = ev.images.flatten(0, 1).flatten(1).T, []
    for turn in turns:
        images = (sparse(ev, *turn) @ flat).T.view_as(ev.images)
        map_ = gradcam(ev.at(images)).clamp(min=0)
        maps.append(ratio(map_, map_.amax((1, 2), keepdim=True)).flatten(1))
    return torch.cat(maps, 1)


def motions(ev: Evidence) -> list[tuple[float, float, float]]:
    """(angle, rows down, columns right) of each copy; the first is at rest."""
    drawn = 2 * torch.rand(COPIES - 1, 3, generator=ev.generator(salt=SALT)).double() - 1
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


def reduced(ev: Evidence, to: Tensor, of: Tensor, weight: Tensor) -> Tensor:
    """D T, sparse (h w, H W): the copy's pixels at the centre of each cell, bilinear between four."""
    (height, width), (h, w) = ev.net.image_size, ev.wall.seen.shape
    entries = []
    for rows, i in readers(height, h):
        for columns, j in readers(width, w):
            share = weight * rows[to // width] * columns[to % width]
            entries.append((i[to // width] * w + j[to % width], of, share))
    cells, pixels, shares = (torch.cat(parts) for parts in zip(*entries, strict=True))
    read = shares != 0
    return sparse(ev, cells[read], pixels[read], shares[read], h * w)


def readers(pixels: int, cells: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Share and cell, (pixels,) each, of the first and of the second cell that reads a pixel along an axis; two are
    enough where cells are no finer than pixels."""
    shares, owners = bilinear(pixels, cells, aligned=False).T.topk(min(2, cells), 1)
    yield from zip(shares.T, owners.T, strict=True)


def sparse(ev: Evidence, rows: Tensor, columns: Tensor, values: Tensor, height: int | None = None) -> Tensor:
    """Sparse (height, H W) of the evidence's kind; height is H W if None."""
    pixels = ev.net.image_size[0] * ev.net.image_size[1]
    matrix = torch.sparse_coo_tensor(
        torch.stack([rows, columns]), values, (height or pixels, pixels), check_invariants=False
    )
    return matrix.coalesce().to(ev.images.device, ev.images.dtype)


def super_resolved(operator: Tensor, cells: Tensor, ev: Evidence) -> Tensor:
    """Primal-dual steps on cells (B, copies h w) = operator (copies h w, H W) h: (B, H, W).

    Half of the functional is descended on. Step sizes: the data term's curvature is at most L = the largest row sum
    times the largest column sum of the operator (it has no negative entry) + energy; differences have norm^2 <= 8;
    1/tau - 8 sigma = L / 2 as Condat asks.
    """
    (height, width), pixels = ev.net.image_size, operator.shape[1]
    back = operator.t().coalesce()
    ones = torch.ones(max(operator.shape), 1).to(cells)
    bound = float((operator @ ones[:pixels]).max() * (back @ ones[: len(operator)]).max()) + COPIES * ENERGY
    tau, sigma, limit = 1 / (0.6 * bound), bound / 80, COPIES * TOTAL_VARIATION / 2
    h = torch.zeros(pixels, len(cells), device=cells.device, dtype=cells.dtype)
    down, right = torch.zeros_like(h.view(height, width, -1)[1:]), torch.zeros_like(h.view(height, width, -1)[:, 1:])
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

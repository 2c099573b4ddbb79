"""From maps to masks over the image, and from masks to logits: what the rescoring methods share.

Bilinear upsampling of a map is two small matrix products, U(m) = R m C^T. It is linear and keeps
constants, so stretching a map to [0, 1] before or after it is an affine change of the cells: a mask
is U(cells), and only its part over the net's visible pixels is ever built.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from wallcheck.evidence import Evidence
from wallcheck.numerics import probabilities, ratio, unit_range

Paint = Callable[[Tensor, Tensor], Tensor]


@cache
def bilinear(cells: int, pixels: int, aligned: bool) -> Tensor:
    """(pixels, cells), float64: what each pixel takes from each cell along one axis, as torch's interpolate.

    aligned: the first and last pixels lie on the first and last cells (align_corners); else pixels
    are half-pixel centres and what lies outside the first and last cell repeats them.

    >>> bilinear(2, 4, False)[:, 0].tolist(), bilinear(2, 3, True)[:, 0].tolist()
    ([1.0, 0.75, 0.25, 0.0], [1.0, 0.5, 0.0])
    """
    place = torch.arange(pixels, dtype=torch.float64)
    place = place * ((cells - 1) / max(pixels - 1, 1)) if aligned else (place + 0.5) * (cells / pixels) - 0.5
    distance = (place.clamp(0, cells - 1)[:, None] - torch.arange(cells)).abs()
    return (1 - distance).clamp(min=0)


def upsample(maps: Tensor, size: tuple[int, ...], aligned: bool = False) -> Tensor:
    """U(maps), (..., h, w) -> (..., H, W)."""
    rows, columns = (
        bilinear(cells, pixels, aligned).to(maps) for cells, pixels in zip(maps.shape[-2:], size, strict=True)
    )
    return rows @ (maps @ columns.T)


@cache
def turning_pixels(cells: int, pixels: int, aligned: bool) -> Tensor:
    """The pixels next to a cell's centre: along an axis U is linear between them, so these decide its extremes."""
    taken = bilinear(cells, pixels, aligned) > 0
    changes = (taken[1:] != taken[:-1]).any(1)
    edge = torch.ones(1, dtype=torch.bool)
    return (torch.cat([edge, changes]) | torch.cat([changes, edge])).nonzero()[:, 0]


def extremes(maps: Tensor, size: tuple[int, ...], aligned: bool = False) -> tuple[Tensor, Tensor]:
    """Least and largest value of U(maps) over the whole image, (..., h, w) -> (..., 1, 1) each."""
    rows, columns = (
        bilinear(cells, pixels, aligned)[turning_pixels(cells, pixels, aligned)].to(maps)
        for cells, pixels in zip(maps.shape[-2:], size, strict=True)
    )
    corners = rows @ (maps @ columns.T)
    return corners.amin((-2, -1), keepdim=True), corners.amax((-2, -1), keepdim=True)


def stretched(maps: Tensor, size: tuple[int, ...], aligned: bool = False) -> Tensor:
    """Cells (..., h, w) whose U is U(maps) stretched to [0, 1] over the whole image; a constant map becomes all 0."""
    cells = unit_range(maps)
    low, high = extremes(cells, size, aligned)
    return ratio(cells - low, high - low)


def logits_through(ev: Evidence, image: int, cells: Tensor, *, aligned: bool = False, paint: Paint = torch.mul):
    """Logits (N, D) of one image seen through the masks U(cells), cells (N, h, w); equal masks are scored once.

    Masks are compared where a visible pixel reads them: all that show nothing to the head, dead
    channels above all, are one mask. paint(part, masks): what the net is shown, from the visible part
    of the image (3, r, c) and masks (n, 1, r, c); their product unless told otherwise.
    """
    rows, columns = (
        bilinear(count, pixels, aligned)[part]
        for count, pixels, part in zip(cells.shape[1:], ev.net.image_size, ev.graph.visible, strict=True)
    )
    down, across = rows.any(0), columns.any(0)  # cells that a visible pixel reads
    distinct, owner = cells[:, down][:, :, across].unique(dim=0, return_inverse=True)
    rows, columns = rows[:, down].to(cells), columns[:, across].to(cells)
    part = ev.images[image][(..., *ev.graph.visible)].contiguous()[None].contiguous(memory_format=torch.channels_last)

    def shown(piece: slice) -> Tensor:
        return paint(part, (rows @ (distinct[piece] @ columns.T))[:, None])

    return ev.rescore_visible(shown, len(distinct))[owner]


def scores_through(ev: Evidence, image: int, cells: Tensor, *, aligned: bool = False, paint: Paint = torch.mul):
    """(N,): the explained logit of one image through masks U(cells); see `logits_through`."""
    return logits_through(ev, image, cells, aligned=aligned, paint=paint)[:, ev.targets[image]]


def chances_through(ev: Evidence, image: int, cells: Tensor, *, aligned: bool = False, paint: Paint = torch.mul):
    """(N,): the explained class's probability of one image through masks U(cells); see `logits_through`."""
    logits = logits_through(ev, image, cells, aligned=aligned, paint=paint)
    return probabilities(logits)[:, ev.targets[image]]

"""The only place where a raw map is altered: rectify, upsample, rescale, and the views made of them.

Post-processing manufactures leakage: stretching a signed map lights up an all-zero half, bilinear
upsampling smears a cell past the wall. So each alteration has a name, and every row says its view.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wallcheck.numerics import in_double, range_of_unit, times_power, unit_scale


def rectify(maps: Tensor) -> Tensor:
    """Positive part: what a heat map shows."""
    return maps.clamp(min=0)


def upsample(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear with half-pixel centres, (B, h, w) -> (B, H, W), as OpenCV's and PIL's bilinear enlarge."""
    if maps.dtype != torch.float64 or maps.shape[-2:] == tuple(size):
        return _upsampled(maps, size)
    unit, exponent = unit_scale(maps)
    return times_power(_upsampled(unit, size), exponent)


def displayed(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """What pytorch-grad-cam returns, and what the paper measured: rectified, stretched to [0, 1], upsampled,
    stretched again. A map that is constant after rectification becomes all zero there; here it stays
    constant at 1 (or 0 where nothing is positive), because it is bright everywhere.
    """
    return _displayed(unit_scale(maps)[0], size).to(maps.dtype)


def stretched(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Upsampled and stretched to [0, 1] without rectification: zero attribution is lifted above 0
    whenever some attribution is negative. What plotting a signed map with its own range shows.
    """
    return _stretched(unit_scale(maps)[0], size).to(maps.dtype)


# The same of doubles at unit scale: what is made of them by sums and shares is far from the smallest and the largest number. So is
# a share of the faintest float among doubles.


def _upsampled(unit: Tensor, size: tuple[int, ...]) -> Tensor:
    if unit.shape[-2:] == tuple(size):
        return unit
    wide = interpolate(in_double(unit)[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]
    return wide.to(unit.dtype)


def _displayed(unit: Tensor, size: tuple[int, ...]) -> Tensor:
    small = rectify(unit)
    top = small.amax((-2, -1), keepdim=True)
    flat = small.amin((-2, -1), keepdim=True) == top
    shown = _stretched(range_of_unit(small), size)
    if flat.device.type == "cpu" and not flat.any():  # to look first would be to wait for a GPU
        return shown
    return shown.where(~flat, (top > 0).to(shown.dtype))


def _stretched(unit: Tensor, size: tuple[int, ...]) -> Tensor:
    return range_of_unit(_upsampled(unit, size))


@dataclass(frozen=True)
class View:
    """How a raw map was made comparable: alter(raw, unseen, image size) -> maps.

    raw: doubles at unit scale, as `wallcheck.numerics.unit_scale` gives them; SEALED takes any. on: "grid" keeps the cells, "image" gives pixels.
    unseen: cells (h, w); for SEALED pixels (H, W).
    """

    name: str
    on: str
    alter: Callable[[Tensor, Tensor, tuple[int, int]], Tensor]
    meaning: str


VIEWS: tuple[View, ...] = (
    View("raw", "grid", lambda raw, unseen, size: raw, "the formula's signed values"),
    View("rectified", "grid", lambda raw, unseen, size: rectify(raw), "positive part on cells: method leakage"),
    View("rectified", "image", lambda raw, unseen, size: _upsampled(rectify(raw), size), "positive part on pixels"),
    View(
        "confined",
        "image",
        lambda raw, unseen, size: _upsampled(_confined(raw, unseen), size),
        "rectified, unseen cells emptied, upsampled: resampling bleed alone",
    ),
    View("displayed", "image", lambda raw, unseen, size: _displayed(raw, size), "the published pipeline"),
    View("stretched", "image", lambda raw, unseen, size: _stretched(raw, size), "min-max without rectification"),
)


# A repair, so not among what an audit measures: there its leakage is 0 by construction.
SEALED = View(
    "sealed",
    "image",
    lambda raw, unseen, size: displayed(raw, size).masked_fill(unseen, 0),
    "the published pipeline, then unseen pixels emptied: not stretched again, so seen pixels keep their values, and what masks "
    "the image by the map (average drop, increase, gain) has the same values to the bit, unless nothing is left",
)


def views_of(grid: str) -> tuple[View, ...]:
    """The views that a map on "cells" or on "pixels" has: a pixel map has no cell grid and cannot bleed."""
    return VIEWS if grid == "cells" else tuple(v for v in VIEWS if v.on == "image" and v.name != "confined")


def _confined(raw: Tensor, unseen: Tensor) -> Tensor:
    return rectify(raw).masked_fill(unseen, 0)

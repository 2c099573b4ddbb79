"""Localisation: does the map point at the object that the model can see?

Every metric takes maps (B, H, W) on the image and the object's mask `inside` (B, H, W), Boolean. 1 is the best.
Only positive attribution counts. An empty map (nothing positive) gives NaN and is counted apart; so does
an image without the object. A constant map scores the object's share of the image; of its box, for `box_iou`.
"""

import torch
from torch import Tensor

from wallcheck.metrics._metric import LOCALISATION, localisation_metric, share

NAN = torch.nan


@localisation_metric()
def energy_inside(maps: Tensor, inside: Tensor) -> Tensor:
    """Share of positive attribution on the object: the energy-based pointing game of Wang et al. 2020 (Score-CAM),
    on the object's mask where they have its box.

    >>> inside = torch.tensor([[[True, False], [False, False]]])
    >>> energy_inside(torch.tensor([[[3., -9.], [1., 0.]]]), inside)
    tensor([0.7500], dtype=torch.float64)
    """
    positive = maps.clamp(min=0)
    return share(_total(positive * inside), _total(positive)).where(_any(inside), NAN)


@localisation_metric()
def pointing(maps: Tensor, inside: Tensor) -> Tensor:
    """Is the maximum on the object? 1 or 0; among several equal maxima, the share that is. Zhang et al. 2018
    (excitation backprop), without their tolerance of 15 pixels.

    >>> inside = torch.tensor([[[True, False], [False, False]]])
    >>> pointing(torch.tensor([[[3., 3.], [1., 0.]]]), inside)
    tensor([0.5000], dtype=torch.float64)
    """
    top = maps.amax((-2, -1), keepdim=True)
    highest = (maps == top) & (top > 0)
    return share(_total(highest & inside).to(maps.dtype), _total(highest)).where(_any(inside), NAN)


@localisation_metric()
def mask_iou(maps: Tensor, inside: Tensor) -> Tensor:
    """Intersection over union of the object and what is brighter than half the maximum.

    >>> inside = torch.tensor([[[True, False], [False, False]]])
    >>> mask_iou(torch.tensor([[[3., 2.], [1.5, 0.]]]), inside)  # 1.5 is not above 3 / 2
    tensor([0.5000], dtype=torch.float64)
    """
    return _overlap(bright(maps), inside, maps)


@localisation_metric()
def box_iou(maps: Tensor, inside: Tensor) -> Tensor:
    """Intersection over union of the bounding boxes of the object and of what is brighter than half the maximum:
    one box around all of it, so a second bright spot far away costs all the space between.

    >>> inside = torch.tensor([[[True, False], [False, False]]])
    >>> box_iou(torch.tensor([[[3., 0.], [0., 2.]]]), inside)
    tensor([0.2500], dtype=torch.float64)
    """
    return _overlap(box(bright(maps)), box(inside), maps)


def bright(maps: Tensor) -> Tensor:
    """(B, H, W) Boolean: above half the maximum; nowhere on an empty map."""
    top = maps.amax((-2, -1), keepdim=True)
    return (maps > top / 2) & (top > 0)


def box(region: Tensor) -> Tensor:
    """The smallest upright rectangle around each Boolean region (B, H, W), as a region; nothing around nothing.

    >>> box(torch.tensor([[[0, 0, 1], [0, 1, 0], [0, 0, 0]]], dtype=torch.bool)).int()
    tensor([[[0, 1, 1],
             [0, 1, 1],
             [0, 0, 0]]], dtype=torch.int32)
    """
    return _span(region.any(2))[:, :, None] & _span(region.any(1))[:, None, :]


def _span(line: Tensor) -> Tensor:
    """From the first to the last True of (B, N)."""
    return (line.cumsum(1) > 0) & (line.flip(1).cumsum(1).flip(1) > 0)


def _overlap(found: Tensor, inside: Tensor, maps: Tensor) -> Tensor:
    both = _any(found) & _any(inside)
    return share(_total(found & inside).to(maps.dtype), _total(found | inside)).where(both, NAN)


def _total(values: Tensor) -> Tensor:
    return values.sum((-2, -1))


def _any(region: Tensor) -> Tensor:
    return region.flatten(1).any(1)


__test__ = {
    name: metric.body for name, metric in LOCALISATION.items()
}  # doctest looks into functions, not into Metrics

"""Localisation: does the map point at the object that the model can see?

Every metric takes maps (B, H, W) on the image and the object's mask `inside` (B, H, W), Boolean. 1 is the best.
Only positive attribution counts. An empty map (nothing positive) gives NaN and is counted apart; so does
an image without the object. A constant map scores the object's share of the image; of its box, for `box_iou`.
"""

import torch
from torch import Tensor

from wallcheck.metrics._metric import LOCALISATION, localisation_metric, share
from wallcheck.numerics import ranks

NAN = torch.nan


@localisation_metric(ends="0 none on the object, 1 all", source="Wang et al. 2020 (Score-CAM), on the mask")
def energy_inside(maps: Tensor, inside: Tensor) -> Tensor:
    """Share of positive attribution on the object: the energy-based pointing game of Wang et al. 2020 (Score-CAM),
    on the object's mask where they have its box.

    >>> inside = torch.tensor([[[True, False], [False, False]]])
    >>> energy_inside(torch.tensor([[[3., -9.], [1., 0.]]]), inside)
    tensor([0.7500], dtype=torch.float64)
    """
    positive = maps.clamp(min=0)
    return share(_total(positive * inside), _total(positive)).where(_any(inside), NAN)


@localisation_metric(ends="0 the maximum is off the object, 1 on it", source="Zhang et al. 2018, no tolerance")
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


@localisation_metric(ends="0 apart, 1 the same region", source="threshold at half the maximum")
def mask_iou(maps: Tensor, inside: Tensor) -> Tensor:
    """Intersection over union of the object and what is brighter than half the maximum.

    >>> inside = torch.tensor([[[True, False], [False, False]]])
    >>> mask_iou(torch.tensor([[[3., 2.], [1.5, 0.]]]), inside)  # 1.5 is not above 3 / 2
    tensor([0.5000], dtype=torch.float64)
    """
    return _overlap(bright(maps), inside, maps)


@localisation_metric(ends="0 apart, 1 the same box", source="threshold at half the maximum, one box")
def box_iou(maps: Tensor, inside: Tensor) -> Tensor:
    """Intersection over union of the bounding boxes of the object and of what is brighter than half the maximum:
    one box around all of it, so a second bright spot far away costs all the space between.

    >>> inside = torch.tensor([[[True, False], [False, False]]])
    >>> box_iou(torch.tensor([[[3., 0.], [0., 2.]]]), inside)
    tensor([0.2500], dtype=torch.float64)
    """
    return _overlap(box(bright(maps)), box(inside), maps)


@localisation_metric(ends="0 none of them on the object, 1 all", source="Arras et al. 2022 (CLEVR-XAI)")
def rank_accuracy(maps: Tensor, inside: Tensor) -> Tensor:
    """Of the N brightest pixels, the share on the object, which has N; of equal pixels at the edge, their share.

    >>> inside = torch.tensor([[[True, True], [False, False]]])
    >>> rank_accuracy(torch.tensor([[[5., 1.], [1., 0.]]]), inside)  # 5, and one of two ones
    tensor([0.7500], dtype=torch.float64)
    """
    values, of = maps.clamp(min=0).flatten(1), inside.flatten(1)
    count = of.sum(1, keepdim=True)
    edge = values.sort(1, descending=True).values.gather(1, (count - 1).clamp(min=0))
    above, tied = values > edge, values == edge
    places = (count - above.sum(1, keepdim=True)).double() / tied.sum(1, keepdim=True)  # of each pixel at the edge
    found = (above & of).sum(1) + places[:, 0] * (tied & of).sum(1)
    return share(found, count[:, 0].double()).where(_any(values > 0), NAN)


@localisation_metric(
    ends="1/2 no better than chance, 1 every object pixel above every other", source="ROC, as in Quantus"
)
def roc_auc(maps: Tensor, inside: Tensor) -> Tensor:
    """P(S(u) > S(v)) + P(S(u) = S(v)) / 2, u on the object, v off it: the area under the ROC curve of brightness.

    >>> inside = torch.tensor([[[True, True], [False, False]]])
    >>> roc_auc(torch.tensor([[[5., 1.], [1., 0.]]]), inside)  # 4 pairs, three right and one tied
    tensor([0.8750], dtype=torch.float64)
    """
    values, of = maps.clamp(min=0).flatten(1), inside.flatten(1)
    n = of.sum(1).double()
    won = (ranks(values) * of).sum(1) - n * (n + 1) / 2
    return share(won, n * (of.shape[1] - n)).where(_any(values > 0), NAN)


@localisation_metric(
    ends="0 none on the object at any threshold, 1 all",
    source="Zhang et al. 2021 (InputIBA), on the mask; their code divides by pixels, not by attribution",
)
def effective_heat_ratio(maps: Tensor, inside: Tensor) -> Tensor:
    """Share of the attribution at or above a threshold that is on the object, averaged over thresholds: the quantiles
    0, 1/10, ..., 1 of the positive values (0.99 of the maximum at most), trapezoids. A quantile is one of the values,
    the lower of two: what lies between would be above or below its neighbours by rounding.

    >>> inside = torch.tensor([[[True, False], [False, False]]])
    >>> effective_heat_ratio(torch.tensor([[[3., 3.], [0., -1.]]]), inside)
    tensor([0.5000], dtype=torch.float64)
    """
    values, of = maps.clamp(min=0).flatten(1), inside.flatten(1)
    ordered, positive = values.sort(1, descending=True).values, (values > 0).sum(1, keepdim=True)
    steps = torch.arange(11, device=values.device)
    place = positive - 1 - (positive - 1).clamp(min=0) * steps // 10  # from the brightest
    levels = torch.minimum(ordered.gather(1, place.clamp(min=0)), 0.99 * ordered[:, :1])  # (B, 11)
    above = [values * (values >= level[:, None]) for level in levels.unbind(1)]
    ratios = torch.stack([share((one * of).sum(1), one.sum(1)) for one in above], 1)
    return (torch.trapezoid(ratios, dim=1) / 10).where(_any(inside), NAN)


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

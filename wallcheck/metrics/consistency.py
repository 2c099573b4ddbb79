"""Consistency: is the map short, and is it the same when it is asked for again?

Every metric takes maps (B, h, w), as displayed (0 to 1) or raw, and what `asks` says; `wallcheck.measuring` makes both.
An empty map (0 everywhere) gives NaN and is counted apart.
"""

import torch
from torch import Tensor

from wallcheck.metrics._metric import CONSISTENCY, consistency_metric, share
from wallcheck.numerics import correlation, times_power, unit_scale

NAN = torch.nan


@consistency_metric(
    "again",
    "high",
    ends="0 turned upside down, 1/2 unrelated, 1 the same",
    source="Poppi et al. 2021 (ADCC); released code",
)
def coherency(maps: Tensor, again: Tensor) -> Tensor:
    """(1 + r) / 2, r Pearson's correlation of the map with the map of the image times the map. A second map that is the
    same everywhere has r = 0; a first one has no r.

    >>> coherency(torch.tensor([[[0., 1.]], [[0., 1.]]]), torch.tensor([[[0., 0.5]], [[1., 0.5]]])).round(decimals=9)
    tensor([1., 0.], dtype=torch.float64)
    """
    return (1 + correlation(maps.flatten(1), again.flatten(1))) / 2


@consistency_metric("itself", "low", ends="0 a single point, 1 bright everywhere", source="Poppi et al. 2021 (ADCC)")
def complexity(maps: Tensor) -> Tensor:
    """Mean brightness of a map from 0 to 1: how much of the image it calls important.

    >>> complexity(torch.tensor([[[0.5, 1.0], [0.0, 0.0]]]))
    tensor([0.3750], dtype=torch.float64)
    """
    return maps.double().mean((1, 2)).where(maps.flatten(1).any(1), NAN)


@consistency_metric(
    "nearby",
    "low",
    (0.0, float("inf")),
    ends="0 no image nearby has another map, 1 it differs by as much as there is",
    source="Yeh et al. 2019; captum: 10 images within 0.02, L2",
)
def max_sensitivity(maps: Tensor, nearby: Tensor) -> Tensor:
    """max_n |S(x + d_n) - S(x)| / |S(x)|, Euclidean norms over the raw map; nearby (B, N, h, w).

    >>> max_sensitivity(torch.tensor([[[3., 4.]]]), torch.tensor([[[[3., 4.]], [[3., 5.]]]]))
    tensor([0.2000], dtype=torch.float64)
    """
    one, exponent = unit_scale(maps)
    moved = times_power(nearby, -exponent[:, None]) - one[:, None]
    return share(moved.flatten(2).norm(dim=2).amax(1), one.flatten(1).norm(dim=1))


__test__ = {name: metric.body for name, metric in CONSISTENCY.items()}  # doctest looks into functions, not into Metrics

"""Combined: several metrics in one number, so that none is won by losing another."""

import torch
from torch import Tensor

from wallcheck.metrics._metric import COMBINED, combined_metric


@combined_metric(
    "coherency",
    "complexity",
    "average_drop",
    ends="0 one of the three is as bad as can be, 1 all are perfect",
    source="Poppi et al. 2021 (ADCC)",
)
def adcc(coherency: Tensor, complexity: Tensor, average_drop: Tensor) -> Tensor:
    """Harmonic mean of coherency, 1 - complexity and 1 - average drop: 3 / (1 / c + 1 / (1 - k) + 1 / (1 - d)).

    >>> adcc(torch.tensor([0.5, 1.0]), torch.tensor([0.5, 0.2]), torch.tensor([0.5, 1.0]))
    tensor([0.5000, 0.0000])
    """
    parts = torch.stack([coherency, 1 - complexity, 1 - average_drop])
    return 3 / (1 / parts).sum(0)  # 1 / 0 is infinity, and 3 over it 0


@combined_metric(
    "road_least",
    "road_most",
    bounds=(-1.0, 1.0),
    ends="0 a random order, 1 all lost with the brightest and nothing with the darkest",
    source="Rong et al. 2022 (ROAD), as grad-cam's ROADCombined",
)
def road(road_least: Tensor, road_most: Tensor) -> Tensor:
    """(least - most) / 2: what filling in the brightest costs beyond what filling in the darkest does.

    >>> road(torch.tensor([-0.1]), torch.tensor([-0.5]))
    tensor([0.2000])
    """
    return (road_least - road_most) / 2


__test__ = {name: metric.body for name, metric in COMBINED.items()}  # doctest looks into functions, not into Metrics

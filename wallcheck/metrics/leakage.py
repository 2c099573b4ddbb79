"""Leakage: positive attribution where the model provably cannot see.

Every metric takes maps (B, h, w), `unseen` (h, w) and `counted` (h, w), Boolean, or an `Attribution` of these; `counted` leaves
out the halo, which is neither seen nor unseen. 0 is no leakage. An empty map (nothing positive where it
counts; for leak_l2, nothing at all) gives NaN: it is counted apart and does not pass as clean.
"""

import torch
from torch import Tensor

from wallcheck.metrics._metric import LEAKAGE, Attribution, leakage_metric, share

NAN = torch.nan


@leakage_metric(ends="0 nothing unseen, 1 nothing seen", source="Taimeskhanov et al. 2024, Table 1")
def leak_l2(on: Attribution) -> Tensor:
    """||S_unseen||_2 / ||S||_2, Table 1 of the paper, norms not squared; the halo is part of the whole.

    A constant map scores the square root of the unseen share: sqrt(54 / 224) = 0.491 on the paper's network.

    >>> maps = torch.tensor([[[3.], [4.]]])
    >>> leak_l2(maps, torch.tensor([[False], [True]]), torch.tensor([[True], [True]]))
    tensor([0.8000], dtype=torch.float64)
    """
    return share((on.maps * on.unseen).norm(dim=(-2, -1)), on.maps.norm(dim=(-2, -1)))


@leakage_metric(ends="0 nothing unseen, 1 all of it", source="wallcheck")
def leak_mass(on: Attribution) -> Tensor:
    """Share of positive attribution that is unseen: 1 is all of it.

    >>> maps = torch.tensor([[[3., -1.], [1., -9.]]])
    >>> leak_mass(maps, torch.tensor([[False, False], [True, True]]), torch.ones(2, 2, dtype=bool))
    tensor([0.2500], dtype=torch.float64)
    """
    unseen, counted = on.positive
    return share(unseen.sum((-2, -1)), counted.sum((-2, -1)))


@leakage_metric(ends="0 no unseen peak, 1 the highest of all", source="wallcheck")
def leak_peak(on: Attribution) -> Tensor:
    """Highest unseen value over the highest value: 1 if nothing seen is brighter."""
    return share(*on.peaks)


@leakage_metric(ends="0 no unseen pixel is bright, 1 all are", source="wallcheck")
def leak_area(on: Attribution) -> Tensor:
    """Share of unseen positions above half the highest value: how much of the blind part looks important."""
    (unseen, _), (_, top) = on.positive, on.peaks
    bright = unseen > top[:, None, None] / 2
    return (bright.sum((-2, -1)).to(top.dtype) / on.unseen.sum().clamp(min=1)).masked_fill_(top <= 0, NAN)


@leakage_metric(ends="0 the maximum is seen, 1 unseen", source="wallcheck, after Zhang et al. 2018")
def leak_pointing(on: Attribution) -> Tensor:
    """Is the maximum unseen? 1 or 0; among several equal maxima, the share that is unseen."""
    (_, counted), (_, top) = on.positive, on.peaks
    highest = counted == top[:, None, None]  # where the top is 0 all is, and the share has no meaning
    unseen = (highest & on.unseen).sum((-2, -1)).to(top.dtype)
    return share(unseen, highest.sum((-2, -1)).to(top.dtype)).masked_fill_(top <= 0, NAN)


@leakage_metric(ends="0 clean, 1 not", source="wallcheck")
def leak_any(on: Attribution) -> Tensor:
    """1 if any unseen position is positive at all, else 0; exact, no threshold."""
    unseen, top = on.peaks
    return (unseen > 0).to(top.dtype).masked_fill_(top <= 0, NAN)


__test__ = {name: metric.body for name, metric in LEAKAGE.items()}  # doctest looks into functions, not into Metrics

"""Leakage: positive attribution where the model provably cannot see.

Every metric takes maps (B, h, w), `unseen` (h, w) and `counted` (h, w), Boolean; `counted` leaves out
the halo, which is neither seen nor unseen. 0 is no leakage. An empty map (nothing positive where it
counts; for leak_l2, nothing at all) gives NaN: it is counted apart and does not pass as clean.
"""

import torch
from torch import Tensor

from wallcheck.metrics._metric import LEAKAGE, leakage_metric, share

NAN = torch.nan


@leakage_metric(ends="0 nothing unseen, 1 nothing seen", source="Taimeskhanov et al. 2024, Table 1")
def leak_l2(maps: Tensor, unseen: Tensor, counted: Tensor) -> Tensor:
    """||S_unseen||_2 / ||S||_2, Table 1 of the paper, norms not squared; the halo is part of the whole.

    A constant map scores the square root of the unseen share: sqrt(54 / 224) = 0.491 on the paper's network.

    >>> maps = torch.tensor([[[3.], [4.]]])
    >>> leak_l2(maps, torch.tensor([[False], [True]]), torch.tensor([[True], [True]]))
    tensor([0.8000], dtype=torch.float64)
    """
    return share((maps * unseen).norm(dim=(-2, -1)), maps.norm(dim=(-2, -1)))


@leakage_metric(ends="0 nothing unseen, 1 all of it", source="wallcheck")
def leak_mass(maps: Tensor, unseen: Tensor, counted: Tensor) -> Tensor:
    """Share of positive attribution that is unseen: 1 is all of it.

    >>> maps = torch.tensor([[[3., -1.], [1., -9.]]])
    >>> leak_mass(maps, torch.tensor([[False, False], [True, True]]), torch.ones(2, 2, dtype=bool))
    tensor([0.2500], dtype=torch.float64)
    """
    positive = maps.clamp(min=0)
    return share((positive * unseen).sum((-2, -1)), (positive * counted).sum((-2, -1)))


@leakage_metric(ends="0 no unseen peak, 1 the highest of all", source="wallcheck")
def leak_peak(maps: Tensor, unseen: Tensor, counted: Tensor) -> Tensor:
    """Highest unseen value over the highest value: 1 if nothing seen is brighter."""
    return share(_peak(maps, unseen), _peak(maps, counted))


@leakage_metric(ends="0 no unseen pixel is bright, 1 all are", source="wallcheck")
def leak_area(maps: Tensor, unseen: Tensor, counted: Tensor) -> Tensor:
    """Share of unseen positions above half the highest value: how much of the blind part looks important."""
    top = _peak(maps, counted)
    bright = (maps > top[:, None, None] / 2) & unseen
    return (bright.sum((-2, -1)).to(maps.dtype) / unseen.sum().clamp(min=1)).where(top > 0, NAN)


@leakage_metric(ends="0 the maximum is seen, 1 unseen", source="wallcheck, after Zhang et al. 2018")
def leak_pointing(maps: Tensor, unseen: Tensor, counted: Tensor) -> Tensor:
    """Is the maximum unseen? 1 or 0; among several equal maxima, the share that is unseen."""
    top = _peak(maps, counted)
    highest = (maps == top[:, None, None]) & counted
    return share((highest & unseen).sum((-2, -1)).to(maps.dtype), highest.sum((-2, -1)).to(maps.dtype)).where(
        top > 0, NAN
    )


@leakage_metric(ends="0 clean, 1 not", source="wallcheck")
def leak_any(maps: Tensor, unseen: Tensor, counted: Tensor) -> Tensor:
    """1 if any unseen position is positive at all, else 0; exact, no threshold."""
    return (_peak(maps, unseen) > 0).to(maps.dtype).where(_peak(maps, counted) > 0, NAN)


def _peak(maps: Tensor, where: Tensor) -> Tensor:
    """(B,): highest positive value in a region, 0 if there is none."""
    return (maps.clamp(min=0) * where).flatten(1).amax(1)


__test__ = {name: metric.body for name, metric in LEAKAGE.items()}  # doctest looks into functions, not into Metrics

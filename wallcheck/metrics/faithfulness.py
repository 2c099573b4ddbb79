"""Faithfulness: does the class live where the map says?

Every metric compares the probability of the class before, Y (B,), with its probability after part of the image
was masked by the map: O (B,), or a curve (B, T + 1); `wallcheck.masking` makes both. Where there is nothing
to compare with (Y = 0; for the gain Y = 1; probabilities NaN, which an empty map gets) the value is NaN.

Drop, increase, gain and drop in deletion do not change at all with what a map says about unseen pixels, its
normalisation held fixed: masking what the net cannot see changes nothing (claim T8 of the theory). Deletion and
insertion notice it by ranks alone: an unseen pixel takes a step and changes nothing.
"""

import torch
from torch import Tensor

from wallcheck.metrics._metric import FAITHFULNESS, faithfulness_metric, share

NAN = torch.nan


@faithfulness_metric("kept", better="low")
def average_drop(before: Tensor, after: Tensor) -> Tensor:
    """relu(Y - O) / Y: the share of the probability that is lost with what the map leaves dark.
    Chattopadhyay et al. 2018 (Grad-CAM++).

    >>> average_drop(torch.tensor([0.8, 0.5]), torch.tensor([0.6, 0.9]))
    tensor([0.2500, 0.0000])
    """
    return share((before - after).clamp(min=0), before)


@faithfulness_metric("kept", better="high")
def average_increase(before: Tensor, after: Tensor) -> Tensor:
    """1 if O > Y, else 0. Chattopadhyay et al. 2018; "increase in confidence".

    >>> average_increase(torch.tensor([0.8, 0.5]), torch.tensor([0.6, 0.9]))
    tensor([0., 1.])
    """
    return (after > before).to(before.dtype).where(~(before + after).isnan(), NAN)


@faithfulness_metric("kept", better="high")
def average_gain(before: Tensor, after: Tensor) -> Tensor:
    """relu(O - Y) / (1 - Y): the share of the missing probability that is won. Zhang et al. 2024 (Opti-CAM).

    >>> average_gain(torch.tensor([0.8, 0.5]), torch.tensor([0.6, 0.9]))
    tensor([0.0000, 0.8000])
    """
    return share((after - before).clamp(min=0), 1 - before)


@faithfulness_metric("removed", better="high", bounds=(-float("inf"), 1.0))
def drop_in_deletion(before: Tensor, after: Tensor) -> Tensor:
    """(Y - D) / Y, D the probability of the image times one minus the map, not clipped: what is lost with what the
    map lights up. ADD of Jung and Oh 2021 (LIFT-CAM).

    >>> drop_in_deletion(torch.tensor([0.8, 0.5]), torch.tensor([0.2, 0.6]))
    tensor([ 0.7500, -0.2000])
    """
    return share(before - after, before)


@faithfulness_metric("deleted", better="low")
def deletion(before: Tensor, after: Tensor) -> Tensor:
    """Area under the curve of p while the brightest pixels go first; trapezoids over [0, 1]. Petsiuk et al. 2018.

    >>> deletion(torch.tensor([1.]), torch.tensor([[1.0, 0.2, 0.0]]))
    tensor([0.3500])
    """
    return _area(after)


@faithfulness_metric("inserted", better="high")
def insertion(before: Tensor, after: Tensor) -> Tensor:
    """Area under the curve of p while the brightest pixels come first; trapezoids over [0, 1]. Petsiuk et al. 2018,
    who start from a blurred image; here both begin or end with 0 in normalised space, the mean of ImageNet.

    >>> insertion(torch.tensor([1.]), torch.tensor([[0.0, 0.9, 1.0]]))
    tensor([0.7000])
    """
    return _area(after)


def _area(curve: Tensor) -> Tensor:
    return torch.trapezoid(curve, dim=1) / (curve.shape[1] - 1)


__test__ = {
    name: metric.body for name, metric in FAITHFULNESS.items()
}  # doctest looks into functions, not into Metrics

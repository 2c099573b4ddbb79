"""Faithfulness: does the class live where the map says?

Every metric compares the probability of the class before, Y (B,), with what the net answers after part of the image
was masked by the map: a probability O (B,), or a curve (B, T + 1); `wallcheck.masking` makes both. Where there is nothing
to compare with (Y = 0; for the gain Y = 1; probabilities NaN, which an empty map gets) the value is NaN.

Drop, increase, gain and drop in deletion do not change at all with what a map says about unseen pixels, its
normalisation held fixed: masking what the net cannot see changes nothing (claim T8 of the theory). Deletion and
insertion notice it by ranks alone: an unseen pixel takes a step and changes nothing. So does ROAD; infidelity hears it
in the sums over squares that cost nothing.
"""

import torch
from torch import Tensor

from wallcheck.metrics._metric import FAITHFULNESS, faithfulness_metric, share
from wallcheck.numerics import ratio

NAN = torch.nan


@faithfulness_metric("kept", "low", ends="0 nothing is lost, 1 all", source="Chattopadhyay et al. 2018 (Grad-CAM++)")
def average_drop(before: Tensor, after: Tensor) -> Tensor:
    """relu(Y - O) / Y: the share of the probability that is lost with what the map leaves dark.
    Chattopadhyay et al. 2018 (Grad-CAM++).

    >>> average_drop(torch.tensor([0.8, 0.5]), torch.tensor([0.6, 0.9]))
    tensor([0.2500, 0.0000])
    """
    return share((before - after).clamp(min=0), before)


@faithfulness_metric("kept", "high", ends="0 lower, 1 higher", source="Chattopadhyay et al. 2018 (Grad-CAM++)")
def average_increase(before: Tensor, after: Tensor) -> Tensor:
    """1 if O > Y, else 0. Chattopadhyay et al. 2018; "increase in confidence".

    >>> average_increase(torch.tensor([0.8, 0.5]), torch.tensor([0.6, 0.9]))
    tensor([0., 1.])
    """
    return (after > before).to(before.dtype).where(~(before + after).isnan(), NAN)


@faithfulness_metric(
    "kept", "high", ends="0 nothing won, 1 all there was to win", source="Zhang et al. 2024 (Opti-CAM)"
)
def average_gain(before: Tensor, after: Tensor) -> Tensor:
    """relu(O - Y) / (1 - Y): the share of the missing probability that is won. Zhang et al. 2024 (Opti-CAM).

    >>> average_gain(torch.tensor([0.8, 0.5]), torch.tensor([0.6, 0.9]))
    tensor([0.0000, 0.8000])
    """
    return share((after - before).clamp(min=0), 1 - before)


@faithfulness_metric(
    "removed",
    "high",
    (-float("inf"), 1.0),
    ends="below 0 the class grows, 1 it is gone",
    source="Jung and Oh 2021 (LIFT-CAM), ADD",
)
def drop_in_deletion(before: Tensor, after: Tensor) -> Tensor:
    """(Y - D) / Y, D the probability of the image times one minus the map, not clipped: what is lost with what the
    map lights up. ADD of Jung and Oh 2021 (LIFT-CAM).

    >>> drop_in_deletion(torch.tensor([0.8, 0.5]), torch.tensor([0.2, 0.6]))
    tensor([ 0.7500, -0.2000])
    """
    return share(before - after, before)


@faithfulness_metric("deleted", "low", ends="0 gone at once, 1 never", source="Petsiuk et al. 2018 (RISE), 24 steps")
def deletion(before: Tensor, after: Tensor) -> Tensor:
    """Area under the curve of p while the brightest pixels go first; trapezoids over [0, 1]. Petsiuk et al. 2018.

    >>> deletion(torch.tensor([1.]), torch.tensor([[1.0, 0.2, 0.0]]))
    tensor([0.3500])
    """
    return _area(after)


@faithfulness_metric(
    "inserted", "high", ends="0 never there, 1 at once", source="Petsiuk et al. 2018 (RISE), 24 steps, from black"
)
def insertion(before: Tensor, after: Tensor) -> Tensor:
    """Area under the curve of p while the brightest pixels come first; trapezoids over [0, 1]. Petsiuk et al. 2018,
    who start from a blurred image; here both begin or end with 0 in normalised space, the mean of ImageNet.

    >>> insertion(torch.tensor([1.]), torch.tensor([[0.0, 0.9, 1.0]]))
    tensor([0.7000])
    """
    return _area(after)


@faithfulness_metric(
    "brightest_imputed",
    "low",
    (-1.0, 1.0),
    ends="-1 the class is gone, 0 nothing changes",
    source="Rong et al. 2022 (ROAD), MoRF, averaged over 10 .. 90 %",
)
def road_most(before: Tensor, after: Tensor) -> Tensor:
    """mean_t (O_t - Y) while the brightest t tenths are filled in from around. Rong et al. 2022; averaged as in grad-cam.

    >>> road_most(torch.tensor([0.8]), torch.tensor([[0.6, 0.2]]))
    tensor([-0.4000])
    """
    return (after - before[:, None]).mean(1)


@faithfulness_metric(
    "darkest_imputed",
    "high",
    (-1.0, 1.0),
    ends="-1 the class is gone, 0 nothing changes",
    source="Rong et al. 2022 (ROAD), LeRF, averaged over 10 .. 90 %",
)
def road_least(before: Tensor, after: Tensor) -> Tensor:
    """mean_t (O_t - Y) while the darkest t tenths are filled in from around. Rong et al. 2022; averaged as in grad-cam.

    >>> road_least(torch.tensor([0.8]), torch.tensor([[0.8, 0.6]]))
    tensor([-0.1000])
    """
    return (after - before[:, None]).mean(1)


@faithfulness_metric(
    "squares",
    "low",
    ends="0 the map tells every loss, up to its scale; 1 it tells nothing",
    source="Yeh et al. 2019, square removal; scaled best as captum's `normalize`, and as a share",
)
def infidelity(before: Tensor, after: Tensor) -> Tensor:
    """min_b sum_n (b S_n - D_n)^2 / sum_n D_n^2, b >= 0: how much of what hiding a square costs the map does not tell.

    after (B, 2, N): S_n, the map summed over the n-th square, and D_n, what the logit loses without it. Yeh et al. 2019
    compare them as they are; a map that is explained by its brightness alone has a scale of its own, hence b. captum's b
    may be negative, so that a map turned upside down scores as well as the right one.

    >>> infidelity(torch.tensor([0.5, 0.5]), torch.tensor([[[1., 2.], [3., 6.]], [[1., 0.], [3., 4.]]]))
    tensor([0.0000, 0.6400])
    """
    said, lost = after.unbind(1)
    scale = ratio((said * lost).sum(1), said.square().sum(1)).clamp(min=0)
    left = (scale[:, None] * said - lost).square().sum(1)
    return share(left, lost.square().sum(1)).where(~said.isnan().any(1), NAN)


def _area(curve: Tensor) -> Tensor:
    return torch.trapezoid(curve, dim=1) / (curve.shape[1] - 1)


__test__ = {
    name: metric.body for name, metric in FAITHFULNESS.items()
}  # doctest looks into functions, not into Metrics

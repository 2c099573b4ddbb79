"""Subspace: how unevenly the channels of a cell share its activation; the head is not asked."""

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence

FLOOR = 1e-7  # in units of the activations, the authors'
AT_ONCE = 2**20  # values, 8 MiB of doubles: fresh memory for more takes longer than the logarithms


@cam_method(
    family="subspace",
    source="Mundhenk et al. 2019 (FastCAM), SMOE Scale, one layer; 1e-7 added to rectified activations as in the authors' code",
    cost="1F",
    verdict="class_free",
)
def smoe(ev: Evidence) -> Tensor:
    """m (log2 m - mean_k log2 A_k(u)), m = mean_k A_k(u): large where few channels hold much. Never negative.

    A channel at 0 counts with log2 of the floor, so the floor decides how much silence is worth: behind a ReLU every map
    depends on it. A cell where no channel fires is 0.
    """
    return smoe_scale(ev.activations)


def smoe_scale(activations: Tensor) -> Tensor:
    """(B, K, h, w) -> (B, h, w), computed in double precision; on a CPU of as many images at once as `AT_ONCE` values hold."""
    few = max(1, AT_ONCE // max(1, activations[0].numel()))
    size = few if activations.device.type == "cpu" else len(activations)
    return torch.cat([_smoe_scale(part) for part in activations.split(size)])


def _smoe_scale(activations: Tensor) -> Tensor:
    values = activations.clamp(min=0).double().add_(FLOOR)
    mean = values.mean(1)
    scale = mean * (mean.log2() - values.log2_().mean(1))
    return scale.masked_fill((activations <= 0).all(1), 0).to(activations.dtype)

"""Ablation: the weight of a channel is the head's answer when channels are switched off or on."""

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.numerics import ratio, unit_range, weighted_sum


@cam_method(
    family="ablation",
    source="Desai and Ramaswamy 2020, eq. 4, without the division by y",
    cost="1F+K f",
    verdict="may_leak",
)
def ablationcam(ev: Evidence) -> Tensor:
    """w_k = y - y(A with channel k set to 0).

    The published division by y only rescales the map for y > 0 and turns it upside down for y < 0.
    """
    return weighted_sum(ev.once(ablation_drops), ev.activations)


@cam_method(family="ablation", source="Desai and Ramaswamy 2020, eq. 4", cost="1F+K f", verdict="may_leak")
def ablationcam_published(ev: Evidence) -> Tensor:
    """w_k = (y - y(A with channel k set to 0)) / y, the slope; all 0 where y = 0, upside down where y < 0."""
    return weighted_sum(ratio(ev.once(ablation_drops), ev.score[:, None]), ev.activations)


@cam_method(
    family="ablation",
    source="Li et al. 2022 (FD-CAM), as the authors' code: groups above the 0.95 quantile of cosines, logits",
    cost="1F+1b+2K f",
    verdict="may_leak",
)
def fdcam(ev: Evidence) -> Tensor:
    """w_k = exp(n(s_k)) n(g_k) - 1/2, n to [0, 1] over channels, g_k the Grad-CAM weight,
    s_k = y(only the group of k) + y - y(without the group of k).

    The group of k: channels whose cosine with k exceeds the 0.95 quantile of k's cosines; a dead channel's
    is empty, and so is that of a channel that shares its largest cosine with a twentieth of all or more. Equal weights become 0 under n, and no channel's weight is below -1/2.
    """
    group = similar_channels(ev.activations, quantile=0.95)
    switched = ev.rescore_channels(group) + ev.score[:, None] - ev.rescore_channels(~group)
    scores, slopes = (unit_range(values[:, None])[:, 0] for values in (switched, ev.gradient.mean((2, 3))))
    return weighted_sum(scores.exp() * slopes - 0.5, ev.activations)


def ablation_drops(ev: Evidence) -> Tensor:
    """(B, K): how far the score falls when one channel is set to 0; exactly 0 for a channel the head hears nothing of."""
    channels = ev.activations.shape[1]
    without = 1 - torch.eye(channels, device=ev.images.device, dtype=ev.images.dtype)
    return (ev.score[:, None] - ev.rescore_channels(without)).masked_fill(ev.silent, 0)


def similar_channels(activations: Tensor, quantile: float) -> Tensor:
    """(B, K, K) Boolean: is channel m's cosine with channel k above that quantile of k's cosines? 0 if either is 0."""
    flat = activations.flatten(2).double()
    unit = ratio(flat, flat.norm(dim=2, keepdim=True))
    cosines = unit @ unit.transpose(1, 2)
    return cosines > cosines.quantile(quantile, dim=2, keepdim=True)

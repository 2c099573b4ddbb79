"""Pooled gradient: the weight of a channel is its gradient averaged over positions, seen and unseen alike.

The average forgets where the gradient was, so every unseen cell inherits the weight of its channels.
"""

from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.numerics import ratio, weighted_sum


@cam_method(
    family="pooled", source="Selvaraju et al. 2017, eq. 1-2, logit score, no ReLU", cost="1F+1b", verdict="may_leak"
)
def gradcam(ev: Evidence) -> Tensor:
    """sum_k mean_u G_k(u) A_k."""
    weights = ev.gradient.mean((2, 3))
    return weighted_sum(weights, ev.activations)


@cam_method(
    family="pooled", source="Chattopadhyay et al. 2018, eq. 19; score y, not exp(y)", cost="1F+1b", verdict="leaks"
)
def gradcampp(ev: Evidence) -> Tensor:
    """w_k = sum_u alpha_k(u) relu(G_k(u)), alpha = G^2 / (2 G^2 + G^3 sum_v A(v)).

    alpha relu(G) is relu(G) / (2 + G sum A) wherever G > 0, which needs no epsilon. The factor
    exp(y) of the paper's exponential score cancels only in the weights' common scale, and is left out.
    """
    positive = ev.gradient.clamp(min=0)
    mass = ev.activations.sum((2, 3), keepdim=True)
    return weighted_sum((positive / (2 + positive * mass)).sum((2, 3)), ev.activations)


@cam_method(family="pooled", source="Fu et al. 2020 (XGrad-CAM), eq. 8", cost="1F+1b", verdict="may_leak")
def xgradcam(ev: Evidence) -> Tensor:
    """w_k = sum_u G_k(u) A_k(u) / sum_u A_k(u); 0 for a dead channel."""
    weights = ratio((ev.gradient * ev.activations).sum((2, 3)), ev.activations.sum((2, 3)))
    return weighted_sum(weights, ev.activations)

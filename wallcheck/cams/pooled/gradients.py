"""Pooled gradient: the weight of a channel is its gradient averaged over positions, seen and unseen alike.

The average forgets where the gradient was, so every unseen cell inherits the weight of its channels. Powers of gradients are taken
in double precision: squares of 1e-21, which a sure softmax makes, are no single-precision numbers, and cubes of 1e18 neither.
"""

from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.numerics import in_double, ratio, weighted_sum


@cam_method(
    family="pooled", source="Selvaraju et al. 2017, eq. 1-2, logit score, no ReLU", cost="1F+1b", verdict="may_leak"
)
def gradcam(ev: Evidence) -> Tensor:
    """sum_k mean_u G_k(u) A_k. A dead channel adds 0, whatever its weight; the sign of y plays no part."""
    return weighted_sum(gradcam_weights(ev), ev.activations)


def gradcam_weights(ev: Evidence) -> Tensor:
    """(B, K)."""
    return ev.gradient.mean((2, 3))


@cam_method(
    family="pooled", source="Chattopadhyay et al. 2018, eq. 19; score y, not exp(y)", cost="1F+1b", verdict="leaks"
)
def gradcampp(ev: Evidence) -> Tensor:
    """w_k = sum_u alpha_k(u) relu(G_k(u)), alpha = G^2 / (2 G^2 + G^3 sum_v A(v)).

    For A >= 0, as behind a ReLU, alpha relu(G) is relu(G) / (2 + G sum A), which needs no epsilon; with negative
    activations the denominator can vanish, as in the paper. A dead channel adds 0. The factor
    exp(y) of the paper's exponential score cancels only in the weights' common scale, and is left out.
    """
    return weighted_sum(plusplus_weights(ev.activations, ev.gradient), ev.activations)


def plusplus_weights(activations: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM++ weights (B, K) of any layer (B, K, h, w) with non-negative activations."""
    positive = gradient.clamp(min=0)
    mass = activations.sum((2, 3), keepdim=True)
    return (positive / (2 + positive * mass)).sum((2, 3))


@cam_method(
    family="pooled",
    source="Chattopadhyay et al. 2018, the authors' code: alpha over its sum over positions with G > 0; score y",
    cost="1F+1b",
    verdict="leaks",
)
def gradcampp_authors(ev: Evidence) -> Tensor:
    """w_k = sum_u alpha_k(u) relu(G_k(u)) / sum_{u: G_k(u) > 0} alpha_k(u): a mean of G where eq. 19 has a sum.

    So a channel with many positive positions does not outweigh one with few. alpha as in `gradcampp`, whose note on
    negative activations holds here; a channel without G > 0 weighs 0.
    """
    positive = ev.gradient.clamp(min=0)
    alpha = (positive > 0) / (2 + positive * ev.activations.sum((2, 3), keepdim=True))
    return weighted_sum(ratio((alpha * positive).sum((2, 3)), alpha.sum((2, 3))), ev.activations)


@cam_method(
    family="pooled",
    source="grad-cam 1.5.7, GradCAMPlusPlus: 1e-6 added to alpha's denominator",
    cost="1F+1b",
    verdict="leaks",
)
def gradcampp_epsilon(ev: Evidence) -> Tensor:
    """w_k = sum_u alpha_k(u) relu(G_k(u)), alpha = G^2 / (2 G^2 + G^3 sum_v A(v) + 1e-6).

    The epsilon has the unit of G^2: where |G| is below 1e-3, as in wide heads, weights go with G^3.
    """
    positive = in_double(ev.gradient).clamp(min=0)
    alpha = positive**2 / (2 * positive**2 + positive**3 * ev.activations.sum((2, 3), keepdim=True) + 1e-6)
    return weighted_sum((alpha * positive).sum((2, 3)), ev.activations)


@cam_method(
    family="pooled",
    source="torchcam 0.5.0, GradCAMpp as it is described: sum_v A G^3 where the paper has G^3 sum_v A",
    cost="1F+1b",
    verdict="may_leak",
)
def gradcampp_cubes(ev: Evidence) -> Tensor:
    """w_k = sum_u alpha_k(u) relu(G_k(u)), alpha = G(u)^2 / (2 G(u)^2 + sum_v A(v) G(v)^3); 0 where G = 0.

    The denominator may be negative, so unlike the paper's weights these can be.
    """
    gradient = in_double(ev.gradient)
    squares, cubes = gradient**2, (ev.activations * gradient**3).sum((2, 3), keepdim=True)
    alpha = ratio(squares, 2 * squares + cubes).where(squares > 0, 0.0)
    return weighted_sum((alpha * gradient.clamp(min=0)).sum((2, 3)).to(ev.gradient), ev.activations)


@cam_method(
    family="pooled",
    source="torchcam 0.5.0, GradCAMpp as it runs: the division is done in a copy and lost",
    cost="1F+1b",
    verdict="leaks",
)
def gradcampp_undivided(ev: Evidence) -> Tensor:
    """w_k = sum_u G_k(u)^2 relu(G_k(u)): alpha is its own numerator."""
    gradient = in_double(ev.gradient)
    return weighted_sum((gradient**2 * gradient.clamp(min=0)).sum((2, 3)), ev.activations)


@cam_method(family="pooled", source="Fu et al. 2020 (XGrad-CAM), eq. 8", cost="1F+1b", verdict="may_leak")
def xgradcam(ev: Evidence) -> Tensor:
    """w_k = sum_u G_k(u) A_k(u) / sum_u A_k(u); 0 for a dead channel."""
    return weighted_sum(xgradcam_weights(ev), ev.activations)


def xgradcam_weights(ev: Evidence) -> Tensor:
    """(B, K)."""
    return ratio((ev.gradient * ev.activations).sum((2, 3)), ev.activations.sum((2, 3)))

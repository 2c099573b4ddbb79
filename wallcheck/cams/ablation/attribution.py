"""Attribution through the head: the weight of a channel is its share of the logit, by one theory of shares or another.

LIFT, LRP and z+ share the logit out among cells first, exactly 0 at unseen ones. Summing the shares over
cells to get one weight per channel, and multiplying A by that weight again, is what opens the wall.
"""

from math import factorial

import numpy as np
import torch
from torch import Tensor

from wallcheck.cams import _rules as rules
from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.models import BlindNet
from wallcheck.numerics import ratio, weighted_sum

PERMUTATIONS = 64
EXACT_CHANNELS = 12  # 2^12 head passes per image
LASSO_SWEEPS = 2**12


def needs_few_channels(net: BlindNet) -> str | None:
    """Why a sum over all sets of channels is out of reach for net; None for at most EXACT_CHANNELS of them."""
    if net.channels <= EXACT_CHANNELS:
        return None
    return (
        f"its target layer has {net.channels} channels, whose sets take 2^{net.channels} head passes, and the exact sum stops "
        f"at {EXACT_CHANNELS} channels; use shapcam, which samples permutations"
    )


@cam_method(
    family="ablation",
    source="Jung and Oh 2021 (LIFT-CAM), DeepLIFT's Rescale rule through the head, reference A = 0",
    cost="1F+2f+1b",
    verdict="may_leak",
    refuses=rules.heads_of(*rules.AFFINE, *rules.SHAPE, *rules.POINTWISE, *rules.MAXIMUM),
)
def liftcam(ev: Evidence) -> Tensor:
    """w_k = sum_u C_k(u), C the DeepLIFT contributions; sum_k w_k = y(A) - y(0). A dead channel's w is 0."""
    return weighted_sum(lift_weights(ev), ev.activations)


def lift_weights(ev: Evidence) -> Tensor:
    """(B, K)."""
    return ev.once(rules.deeplift).sum((2, 3))


@cam_method(
    family="local",
    source="wallcheck: LIFT-CAM's contributions (Jung and Oh 2021) summed over channels instead of cells",
    cost="1F+2f+1b",
    verdict="zero",
    repairs="liftcam",
    refuses=rules.heads_of(*rules.AFFINE, *rules.SHAPE, *rules.POINTWISE, *rules.MAXIMUM),
)
def lift_elementwise(ev: Evidence) -> Tensor:
    """sum_k C_k(u), C the DeepLIFT contributions; the map sums to y(A) - y(0)."""
    return ev.once(rules.deeplift).sum(1)


@cam_method(
    family="ablation",
    source="Jung and Oh 2021 (LRP-CAM), epsilon rule with epsilon -> 0 (captum's is 1e-9)",
    cost="1F+1b",
    verdict="may_leak",
    refuses=rules.heads_of(*rules.AFFINE, *rules.SHAPE, *rules.MAXIMUM, "relu", "leaky_relu"),
)
def lrpcam(ev: Evidence) -> Tensor:
    """w_k = sum_u R_k(u), R_i = sum_j x_i w_ij R_j / z_j started at y; a unit with z_j = 0 hands nothing on.

    Through linear layers, ReLU and pools the z_j cancel one after the other and R = G A remains
    (Shrikumar et al. 2016), so this is HiResCAM's product, summed over cells instead of channels.
    """
    return weighted_sum(lrp_weights(ev), ev.activations)


def lrp_weights(ev: Evidence) -> Tensor:
    """(B, K)."""
    return (ev.gradient * ev.activations).sum((2, 3))


@cam_method(
    family="ablation",
    source="Lee et al. 2021 (Relevance-CAM), z+ rule through the head; start +1 and -1/D as the authors' code",
    cost="1F+1f+1b",
    verdict="may_leak",
    refuses=rules.heads_of(*rules.SHAPE, *rules.MAXIMUM, *rules.POOLS, "linear", "selection", "relu"),
)
def relevancecam(ev: Evidence) -> Tensor:
    """w_k = mean_u R_k(u), R handed back by the z+ rule from R = 1 at the class and -1/D at the D - 1 others.

    The paper starts from y times this, which turns the map upside down for y < 0. The code's convolutions
    add their bias twice and pair negative weights with negative inputs: of no effect here, where the
    target is the last layer before a head of linear layers on inputs >= 0.
    """
    start = torch.full_like(ev.logits, -1 / ev.logits.shape[1]).scatter(1, ev.targets[:, None], 1)
    return weighted_sum(ev.graph.form.summed(rules.zplus(ev, start)) / ev.cells, ev.activations)


@cam_method(
    family="ablation",
    source=f"Jung and Oh 2021 (SHAP-CAM), permutation sampling; {PERMUTATIONS} permutations, half of them the other "
    "half reversed (the paper's number is not known)",
    cost=f"1F+{PERMUTATIONS}(K+1)f",
    verdict="may_leak",
)
def shapcam(ev: Evidence) -> Tensor:
    """w_k = mean over permutations of y(k and all before it) - y(all before it), the other channels 0.

    Complete in every permutation: sum_k w_k = y(A) - y(0). Permutations and their reversals cancel
    all interactions of two channels exactly. All images share the permutations.
    """
    return weighted_sum(sampled_shapley(ev, PERMUTATIONS), ev.activations)


@cam_method(
    family="ablation",
    source=f"Jung and Oh 2021 (SHAP-CAM), the exact sum over all sets of channels, for at most {EXACT_CHANNELS}",
    cost="1F+2^K f",
    verdict="may_leak",
    refuses=needs_few_channels,
)
def shapcam_exact(ev: Evidence) -> Tensor:
    """w_k = sum over sets S without k of |S|! (K - |S| - 1)! / K! (y(S and k) - y(S)), channels outside the set 0.

    Complete, sum_k w_k = y(A) - y(0), and symmetric: channels that do the same in every set weigh the same.
    """
    return weighted_sum(exact_shap_weights(ev), ev.activations)


@cam_method(
    family="ablation",
    source="Jung and Oh 2021 (LIME-CAM), captum's defaults: K samples of Bernoulli(1/2), exp(-d^2 / 2) of the cosine "
    "distance d, Lasso with alpha 0.01",
    cost="1F+K f",
    verdict="may_leak",
)
def limecam(ev: Evidence) -> Tensor:
    """w minimises sum_n pi_n (y_n - b - w.m_n)^2 / (2 sum pi) + 0.01 |w|_1, y_n the logit of A with presence m_n.

    alpha is in units of the logit: where one channel moves it by little (an untrained net), all w are 0. K samples for K weights:
    the penalty decides what the samples leave open. All images share the draws m.
    """
    return weighted_sum(lime_weights(ev, ev.activations.shape[1]), ev.activations)


def lime_weights(ev: Evidence, samples: int, alpha: float = 0.01) -> Tensor:
    """(B, K): the Lasso's slopes from so many random sets of channels."""
    channels = ev.activations.shape[1]
    presence = torch.randint(2, (samples, channels), generator=ev.generator(salt=41)).to(ev.images.device)
    energy = ev.activations.square().sum((2, 3))
    cosine = ratio(energy @ presence.T.to(energy.dtype), energy.sum(1, keepdim=True)).sqrt()
    kernel = (-(1 - cosine).square() / 2).exp()
    return lasso(presence, ev.rescore_channels(presence), kernel, alpha).to(ev.activations)


def sampled_shapley(ev: Evidence, permutations: int, salt: int = 40) -> Tensor:
    """(B, K): mean gain of each channel over `permutations` orders, every second the reverse of the one before; another
    salt draws others."""
    channels, draw = ev.activations.shape[1], ev.generator(salt=salt)
    ranks = [torch.randperm(channels, generator=draw).to(ev.images.device) for _ in range(permutations // 2)]
    rank = torch.stack([place for drawn in ranks for place in (drawn, channels - 1 - drawn)])  # (P, K)
    step = torch.arange(channels + 1, device=rank.device)
    present = rank[:, None] < step[:, None]  # (P, K + 1, K)
    scores = ev.rescore_channels(present.flatten(0, 1)).unflatten(1, present.shape[:2])
    gains = scores.diff(dim=2).gather(2, rank.expand(len(scores), -1, -1))
    return gains.mean(1).masked_fill(ev.silent, 0)


def exact_shap_weights(ev: Evidence) -> Tensor:
    """(B, K): the mean gain of each channel over all K! orders, by set: 2^K head passes."""
    channels = ev.activations.shape[1]
    device = ev.images.device
    sets = torch.arange(2**channels, device=device)[:, None] >> torch.arange(channels, device=device) & 1
    share = [factorial(s) * factorial(channels - s - 1) / factorial(channels) for s in range(channels)]
    share = torch.tensor([0.0, *share, 0.0], dtype=torch.float64, device=device)
    size = sets.sum(1, keepdim=True)
    signed = torch.where(sets == 1, share[size], -share[size + 1])  # share[s + 1] belongs to s others
    weights = ev.rescore_channels(sets).double() @ signed
    return weights.to(ev.activations.dtype).masked_fill(ev.silent, 0)


def lasso(features: Tensor, answers: Tensor, kernel: Tensor, alpha: float) -> Tensor:
    """(B, K) float64: weighted Lasso with an intercept. features (N, K), shared; answers and kernel (B, N).

    Coordinate descent, all problems abreast; now and then the support it has reached is solved exactly
    and kept if that is optimal. A feature without variance gets weight 0.
    """
    X, y, pi = (values.double().cpu().numpy() for values in (features, answers, kernel))
    pi = pi / pi.sum(1, keepdims=True)
    X = X[None] - (pi @ X)[:, None]  # centred under each image's own kernel
    y = y - (pi * y).sum(1, keepdims=True)
    gram = np.einsum("bnk,bn,bnm->kbm", X, pi, X, optimize=True)
    pull = np.einsum("bnk,bn->kb", X, pi * y)
    weights = np.zeros_like(pull)
    for sweep in range(1, LASSO_SWEEPS + 1):
        descend(gram, pull, weights, alpha)
        if sweep & (sweep - 1) == 0:  # after 1, 2, 4, 8, ... sweeps
            best = [settled(gram[:, b], pull[:, b], weights[:, b], alpha) for b in range(len(y))]
            if all(one is not None for one in best):
                weights = np.array(best).T
                break
    return torch.from_numpy(weights.T.copy()).to(features.device)


def descend(gram: np.ndarray, pull: np.ndarray, weights: np.ndarray, alpha: float) -> None:
    """One sweep over the coordinates of weights (K, B), in place, each put where the others leave it best."""
    for k in range(len(weights)):
        curve = gram[k, :, k]
        free = pull[k] - np.einsum("bm,mb->b", gram[k], weights) + curve * weights[k]
        kept = np.sign(free) * np.maximum(np.abs(free) - alpha, 0)
        weights[k] = np.divide(kept, curve, out=np.zeros_like(kept), where=curve > 0)


def settled(gram: np.ndarray, pull: np.ndarray, weights: np.ndarray, alpha: float) -> np.ndarray | None:
    """The optimum with the support and signs of these weights (K,), or None if the Lasso's is another."""
    chosen, sign = weights != 0, np.sign(weights)
    best = np.zeros_like(weights)
    best[chosen] = np.linalg.lstsq(gram[np.ix_(chosen, chosen)], (pull - alpha * sign)[chosen], rcond=None)[0]
    steepest = np.abs(pull - gram @ best).max(initial=0)  # alpha on the support and no more elsewhere
    signed = alpha == 0 or (np.sign(best) == sign).all()
    rounding = 1e-9 * (alpha or np.abs(pull).max(initial=0))
    return best if signed and steepest <= alpha + rounding else None

"""The CAMs that the theory speaks of, on batches of random networks: signed maps (M, h, w) from a Sample.

Written from the definitions for this folder alone; wallcheck.cams is a separate implementation.
"""

import torch
from torch import Tensor

from theory.networks import Head, Sample, apply, finish


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """S(u) = sum_v w_v A_v(u). weights (M, V), activations (M, V, h, w) -> (M, h, w)."""
    return torch.einsum("mv,mvhw->mhw", weights, activations)


def gradcam(sample: Sample) -> Tensor:
    """w_v = mean_u G_v(u)."""
    return weighted_sum(sample.gradient.mean((2, 3)), sample.target)


def xgradcam(sample: Sample) -> Tensor:
    """w_v = sum_u G_v(u) A_v(u) / sum_u A_v(u); a channel that is dead everywhere has weight 0."""
    total = sample.target.sum((2, 3))
    weights = (sample.gradient * sample.target).sum((2, 3)) / torch.where(total == 0, 1.0, total)
    return weighted_sum(weights, sample.target)


def hirescam(sample: Sample) -> Tensor:
    """sum_v G_v(u) A_v(u)."""
    return (sample.gradient * sample.target).sum(1)


def layercam(sample: Sample) -> Tensor:
    """sum_v relu(G_v(u)) A_v(u)."""
    return (sample.gradient.relu() * sample.target).sum(1)


def elementwise_gradcam(sample: Sample) -> Tensor:
    """sum_v relu(G_v(u) A_v(u))."""
    return (sample.gradient * sample.target).relu().sum(1)


def gradcam_plus_plus(sample: Sample) -> Tensor:
    """w_v = sum_u relu(G) / (2 + G sum_u A_v(u)), the closed form where G > 0 (elsewhere relu(G) is 0)."""
    positive = sample.gradient.relu()
    total = sample.target.sum((2, 3), keepdim=True)
    return weighted_sum((positive / (2 + positive * total)).sum((2, 3)), sample.target)


def ablationcam(sample: Sample, head: Head) -> Tensor:
    """w_v = y_c(A) - y_c(A with channel v set to 0), not divided by y_c; class 0."""
    channels = sample.target.shape[1]
    kept = sample.read.unflatten(1, (channels, head.n_seen))
    drops = []
    for v in range(channels):
        ablated = kept.clone()
        ablated[:, v] = 0
        logits = finish(sample.weights[1:], apply(sample.weights[0], ablated.flatten(1)))
        drops.append(sample.score - logits[:, 0])
    return weighted_sum(torch.stack(drops, 1), sample.target)


def liftcam(sample: Sample, head: Head) -> Tensor:
    """w_v = DeepLIFT contribution (Rescale rule, zero baseline) of channel v to y_c; class 0.

    Without biases the baseline's pre-activations are 0, so a ReLU's multiplier is relu(z)/z: its gate.
    """
    weights, pre = sample.weights, apply(sample.weights[0], sample.read)
    gates = []
    for layer in weights[1:]:
        gates.append(torch.where(pre == 0, 0.0, pre.relu() / torch.where(pre == 0, 1.0, pre)))
        pre = apply(layer, pre.relu())
    multiplier = weights[-1][:, 0]
    for layer, gate in zip(weights[-2::-1], gates[::-1], strict=True):
        multiplier = torch.einsum("mj,mjk->mk", multiplier * gate, layer)
    contributions = (multiplier * sample.read).unflatten(1, (sample.target.shape[1], head.n_seen)).sum(2)
    return weighted_sum(contributions, sample.target)

"""Twins of Ablation-CAM as published, FD-CAM and Recipro-CAM; ablationcam's own is among the basic ones."""

import math

import torch

from tests.reference import twin_of
from tests.reference.basic import parts, score_of


def with_only(A, kept):
    return torch.stack([A[m] if m in kept else torch.zeros_like(A[m]) for m in range(len(A))])


@twin_of("ablationcam_published")
def slow_ablationcam_published(net, image, target, seed):
    A, _, score = parts(net, image, target)
    total = torch.zeros_like(A[0])
    for k in range(len(A)):
        drop = score - score_of(net, with_only(A, set(range(len(A))) - {k}), target)
        total += drop / score * A[k] if score != 0 else 0
    return total


def cosine(a, b):
    top, lengths = (a * b).sum().item(), math.sqrt((a * a).sum().item()) * math.sqrt((b * b).sum().item())
    return top / lengths if lengths else 0.0


def quantile(values, share):
    """Linear between the two nearest order statistics, as numpy and torch have it by default."""
    values, place = sorted(values), share * (len(values) - 1)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def stretched(values):
    low, high = min(values), max(values)
    return [(v - low) / (high - low) if high > low else 0.0 for v in values]


@twin_of("fdcam")
def slow_fdcam(net, image, target, seed):
    A, G, score = parts(net, image, target)
    switched = []
    for k in range(len(A)):
        cosines = [cosine(A[k], A[m]) for m in range(len(A))]
        group = {m for m in range(len(A)) if cosines[m] > quantile(cosines, 0.95)}
        on = score_of(net, with_only(A, group), target)
        off = score_of(net, with_only(A, set(range(len(A))) - group), target)
        switched.append((on + score - off).item())
    slopes = stretched([G[k].sum().item() / G[k].numel() for k in range(len(A))])
    weights = [math.exp(s) * g - 0.5 for s, g in zip(stretched(switched), slopes, strict=True)]
    return sum(w * A[k] for k, w in enumerate(weights))


def probability(net, A, target):
    with torch.no_grad():
        logits = net.logits_from(A[None])[0].tolist()
    exps = [math.exp(y - max(logits)) for y in logits]
    return exps[target] / sum(exps)


def slow_alone(net, image, target, kernel):
    A, _, _ = parts(net, image, target)
    reach, total = len(kernel) // 2, torch.zeros_like(A[0])
    for i in range(A.shape[1]):
        for j in range(A.shape[2]):
            placed = torch.zeros_like(A)
            for a in range(len(kernel)):
                for b in range(len(kernel)):
                    row, column = i + a - reach, j + b - reach
                    if 0 <= row < A.shape[1] and 0 <= column < A.shape[2]:
                        placed[:, row, column] = kernel[a][b] * A[:, i, j]
            total[i, j] = probability(net, placed, target)
    return total


@twin_of("reciprocam")
def slow_reciprocam(net, image, target, seed):
    return slow_alone(net, image, target, [[1.0]])


@twin_of("reciprocam_spread")
def slow_reciprocam_spread(net, image, target, seed):
    return slow_alone(net, image, target, [[1 / 16, 1 / 8, 1 / 16], [1 / 8, 1 / 4, 1 / 8], [1 / 16, 1 / 8, 1 / 16]])


@twin_of("reciprocam_subtracted")
def slow_reciprocam_subtracted(net, image, target, seed):
    nothing = torch.zeros_like(parts(net, image, target)[0])
    return slow_reciprocam(net, image, target, seed) - probability(net, nothing, target)

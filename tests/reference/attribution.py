"""Twins of attribution through the head: shares worked out unit by unit, for heads Flatten, Linear, ReLU, ..., Linear."""

import math
from itertools import combinations

import numpy as np
import torch

from tests.reference import twin_of
from tests.reference.ablation import with_only
from tests.reference.basic import parts, score_of


def layers(net):
    """Weight and bias of each linear layer of the head, as tensors."""
    return [(m.weight.detach().clone(), m.bias.detach().clone()) for m in net.head if isinstance(m, torch.nn.Linear)]


def seen_cells(net):
    return [(i, j) for i, row in enumerate(net.wall.seen) for j, seen in enumerate(row) if seen]


def read(net, A):
    """What the head reads, a flat vector: channel by channel, cell by cell."""
    return torch.stack([A[k, i, j] for k in range(len(A)) for i, j in seen_cells(net)])


def laid_out(net, A, flat):
    """The inverse of `read`: a map that is 0 where the head does not read."""
    out, places = torch.zeros_like(A), iter(flat)
    for k in range(len(A)):
        for i, j in seen_cells(net):
            out[k, i, j] = next(places)
    return out


def steps(net, x):
    """The inputs of each linear layer and the values it gives."""
    inputs, values = [], []
    for W, b in layers(net):
        inputs.append(x)
        values.append(W @ x + b)
        x = torch.tensor([max(z, 0.0) for z in values[-1].tolist()], dtype=torch.float64)
    return inputs, values


def slow_deeplift(net, A, target):
    x = read(net, A)
    (_, here), (_, there) = steps(net, x), steps(net, torch.zeros_like(x))
    multiplier = layers(net)[-1][0][target]
    for (W, _), z, z0 in list(zip(layers(net), here, there, strict=True))[-2::-1]:
        for j in range(len(z)):
            rise, run = max(z[j], 0) - max(z0[j], 0), z[j] - z0[j]
            multiplier[j] = multiplier[j] * (rise / run if run != 0 else float(z[j] > 0))
        multiplier = sum(multiplier[j] * W[j] for j in range(len(z)))
    return laid_out(net, A, multiplier * x)


def slow_relevance(net, A, start, positive):
    """Relevance handed back from `start` (D,): in proportion to x w, or to x w+ with `positive`."""
    inputs, values = steps(net, read(net, A))
    for (W, _), x, z in list(zip(layers(net), inputs, values, strict=True))[::-1]:
        back = torch.zeros_like(x)
        for j in range(len(start)):
            share = x * (W[j].clamp(min=0) if positive else W[j])
            total = share.sum() if positive else z[j]
            if total != 0:
                back += share / total * start[j]
        start = back
    return laid_out(net, A, start)


def one_weight_each(A, shares):
    return sum(shares[k].sum() * A[k] for k in range(len(A)))


@twin_of("liftcam")
def slow_liftcam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    return one_weight_each(A, slow_deeplift(net, A, target))


@twin_of("lift_elementwise")
def slow_lift_elementwise(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    shares = slow_deeplift(net, A, target)
    return sum(shares[k] for k in range(len(A)))


@twin_of("lrpcam")
def slow_lrpcam(net, image, target, seed):
    A, _, score = parts(net, image, target)
    start = torch.zeros(layers(net)[-1][0].shape[0], dtype=torch.float64)
    start[target] = score
    return one_weight_each(A, slow_relevance(net, A, start, positive=False))


@twin_of("relevancecam")
def slow_relevancecam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    classes = layers(net)[-1][0].shape[0]
    start = torch.tensor([1.0 if c == target else -1 / classes for c in range(classes)], dtype=torch.float64)
    return one_weight_each(A, slow_relevance(net, A, start, positive=True)) / A[0].numel()


def generator(seed, salt):
    entropy = int(np.random.SeedSequence([seed, salt]).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(entropy)


@twin_of("shapcam")
def slow_shapcam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    draw, phi = generator(seed, 40), [0.0] * len(A)
    for _ in range(32):
        rank = torch.randperm(len(A), generator=draw).tolist()
        forward = sorted(range(len(A)), key=rank.__getitem__)
        for order in (forward, forward[::-1]):
            before = score_of(net, torch.zeros_like(A), target).item()
            for place, k in enumerate(order):
                after = score_of(net, with_only(A, set(order[: place + 1])), target).item()
                phi[k] += (after - before) / 64
                before = after
    return sum(phi[k] * A[k] for k in range(len(A)))


@twin_of("shapcam_exact")
def slow_shapcam_exact(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    K, total = len(A), torch.zeros_like(A[0])
    sets = [frozenset(S) for size in range(K + 1) for S in combinations(range(K), size)]
    y = {S: score_of(net, with_only(A, S), target).item() for S in sets}
    for k in range(K):
        phi = 0.0
        for S in sets:
            if k not in S:
                share = math.factorial(len(S)) * math.factorial(K - len(S) - 1) / math.factorial(K)
                phi += share * (y[S | {k}] - y[S])
        total += phi * A[k]
    return total


@twin_of("limecam")
def slow_limecam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    K = len(A)
    presence = torch.randint(2, (K, K), generator=generator(seed, 41)).tolist()
    answers, kernel = [], []
    for row in presence:
        masked = with_only(A, {k for k in range(K) if row[k]})
        lengths = math.sqrt((A * A).sum().item()) * math.sqrt((masked * masked).sum().item())
        cosine = (A * masked).sum().item() / lengths if lengths else 0.0
        answers.append(score_of(net, masked, target).item())
        kernel.append(math.exp(-((1 - cosine) ** 2) / 2))
    return sum(w * A[k] for k, w in enumerate(slow_lasso(presence, answers, kernel, 0.01)))


def slow_lasso(rows, answers, kernel, alpha):
    """Coordinate descent on the residuals, intercept included as a coordinate that pays no penalty."""
    K, total = len(rows[0]), sum(kernel)
    weights, intercept = [0.0] * K, 0.0
    for _ in range(20000):
        moved = 0.0
        left = [y - sum(w * x for w, x in zip(weights, row, strict=True)) for y, row in zip(answers, rows, strict=True)]
        intercept = sum(p * r for p, r in zip(kernel, left, strict=True)) / total
        left = [r - intercept for r in left]
        for k in range(K):
            curve = sum(p * row[k] ** 2 for p, row in zip(kernel, rows, strict=True)) / total
            slope = sum(p * row[k] * r for p, row, r in zip(kernel, rows, left, strict=True)) / total
            free = slope + curve * weights[k]
            new = math.copysign(max(abs(free) - alpha, 0.0), free) / curve if curve else 0.0
            change, weights[k] = new - weights[k], new
            left = [r - change * row[k] for r, row in zip(left, rows, strict=True)]
            moved = max(moved, abs(change))
        if moved < 1e-14:
            break
    return weights

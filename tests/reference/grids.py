"""Twins of the methods on one grid of masks: mask by mask, whole images through the whole net."""

import math
from functools import cache

import numpy as np
import torch

from tests.reference import twin_of
from tests.reference.pixel import draws_of

SIDE = 7


@cache
def cells(H, W):
    """(H, W): the number of each pixel's cell."""
    return torch.tensor([[(i * SIDE // H) * SIDE + j * SIDE // W for j in range(W)] for i in range(H)])


def laid(net, values):
    """(H, W) of one value per cell."""
    return torch.tensor([float(value) for value in values], dtype=torch.float64)[cells(*net.image_size)]


def logits_of(net, image, mask):
    with torch.no_grad():
        return net((image * laid(net, mask))[None])[0]


def coins(net, image, target, seed):
    draws = torch.rand(400, SIDE**2, generator=draws_of(seed, 33), dtype=torch.float64)
    masks = [[1.0 if value < 0.5 else 0.0 for value in row] for row in draws.tolist()]
    return masks, [float(logits_of(net, image, mask).softmax(0)[target]) for mask in masks]


@twin_of("sobol")
def slow_sobol(net, image, target, seed):
    A, B = torch.rand(2, 8, SIDE**2, generator=draws_of(seed, 34)).double().tolist()
    plain = [float(logits_of(net, image, a)[target]) for a in A]
    mean = sum(plain) / 8
    variance = sum((p - mean) ** 2 for p in plain) / 7
    index = []
    for i in range(SIDE**2):
        total = 0.0
        for a, b, p in zip(A, B, plain, strict=True):
            changed = [b[k] if k == i else a[k] for k in range(SIDE**2)]
            total += (p - float(logits_of(net, image, changed)[target])) ** 2
        index.append(total / (2 * 8 * variance) if variance > 0 else 0.0)
    return laid(net, index)


@twin_of("hsic")
def slow_hsic(net, image, target, seed):
    masks, chances = coins(net, image, target, seed)
    n, p = len(masks), np.array(chances)
    width = np.percentile(p, 50)
    L = np.exp(-((p[:, None] - p) ** 2) / (2 * width**2))
    H = np.eye(n) - np.ones((n, n)) / n
    centred = H @ (H @ L @ H) @ H
    values = []
    for i in range(SIDE**2):
        m = np.array([mask[i] for mask in masks])
        K = 1 + (0.5 - (m[:, None] - m) ** 2)
        values.append((K * centred.T).sum() / n)  # trace(H K H H L H): H goes round
    return laid(net, values)


@twin_of("lime")
def slow_lime(net, image, target, seed):
    """Ridge with an intercept that is not penalised, as one system of normal equations."""
    masks, chances = coins(net, image, target, seed)
    d = SIDE**2
    normal, wanted = np.diag([1.0] * d + [0.0]), np.zeros(d + 1)
    for mask, p in zip(masks, chances, strict=True):
        distance = 1 - math.sqrt(sum(mask) / d)
        weight = math.sqrt(math.exp(-(distance**2) / 0.25**2))
        row = np.array([*mask, 1.0])
        normal += weight * np.outer(row, row)
        wanted += weight * p * row
    return laid(net, np.linalg.solve(normal, wanted)[:d])


@twin_of("kernelshap")
def slow_kernelshap(net, image, target, seed):
    """The constraint put in: the last cell is what the others leave."""
    draw, d = draws_of(seed, 35), SIDE**2
    sizes = 1 + torch.multinomial(
        torch.tensor([1 / (s * (d - s)) for s in range(1, d)], dtype=torch.float64),
        199,
        replacement=True,
        generator=draw,
    )
    places = torch.rand(199, d, generator=draw)
    nothing, whole = (float(logits_of(net, image, [value] * d)[target]) for value in (0.0, 1.0))
    rows, gains = [], []
    for size, values in zip(sizes.tolist(), places.tolist(), strict=True):
        first = sorted(range(d), key=lambda k: values[k])[:size]
        inside = [1.0 if k in first else 0.0 for k in range(d)]
        for mask in (inside, [1 - m for m in inside]):
            gain = float(logits_of(net, image, mask)[target]) - nothing
            rows.append([m - mask[-1] for m in mask[:-1]])
            gains.append(gain - mask[-1] * (whole - nothing))
    phi = np.linalg.lstsq(np.array(rows), np.array(gains), rcond=None)[0]
    return laid(net, [*phi, whole - nothing - phi.sum()])

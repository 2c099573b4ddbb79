"""Twins of the methods that average over noise or over a path to the image, and of those that look at a cell's channels alone."""

import math
from itertools import pairwise

import torch

from tests.reference import twin_of
from tests.reference.basic import parts
from tests.reference.local import enlarge, last_of_each_size, tensors
from tests.reference.pixel import backward, colours, draws_of, forward, kept, safe, shares, slow_gradient_at, to_winner


def noisy_slopes(net, image, target, seed):
    draws, sigma = draws_of(seed, 31), 0.15 * (image.max() - image.min())
    for _ in range(12):
        noise = torch.randn(image.shape, generator=draws, dtype=torch.float64)
        yield slow_gradient_at(net, image + sigma * noise, target)


@twin_of("vargrad")
def slow_vargrad(net, image, target, seed):
    slopes = list(noisy_slopes(net, image, target, seed))
    mean = sum(slopes) / 12
    return colours(sum((slope - mean) ** 2 for slope in slopes) / 11, image)


@twin_of("squaregrad")
def slow_squaregrad(net, image, target, seed):
    return colours(sum(slope**2 for slope in noisy_slopes(net, image, target, seed)) / 12, image)


@twin_of("rsi_gradcam")
def slow_rsi_gradcam(net, image, target, seed):
    return slow_rsi(net, image, target, torch.zeros_like(image), 20)


@twin_of("rsi_gradcam_authors")
def slow_rsi_gradcam_authors(net, image, target, seed):
    black = [-m / d for m, d in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    start = torch.stack([torch.full_like(channel, value) for channel, value in zip(image, black, strict=True)])
    return slow_rsi(net, image, target, start, 50)


def slow_rsi(net, image, target, start, steps):
    points = []
    for step in range(steps + 1):
        A = net.activations((start + (image - start) * step / steps)[None])[0].detach().requires_grad_()
        (G,) = torch.autograd.grad(net.logits_from(A[None])[0].softmax(0)[target], A)
        points.append((A.detach(), G.clamp(min=0)))
    total = torch.zeros_like(points[-1][0][0])
    for k in range(len(points[-1][0])):
        moved = 0.0
        for (A, G), (B, H) in pairwise(points):
            moved += float(((G[k] + H[k]) / 2 * (B[k] - A[k])).mean())
        total += moved * points[-1][0][k]
    return total


@twin_of("iia")
def slow_iia(net, image, target, seed):
    start = net.activations(torch.zeros_like(image)[None])[0].detach()
    total = torch.zeros_like(start[0])
    for t in range(1, 11):
        end = net.activations((image * t / 10)[None])[0].detach()
        for s in range(1, 11):
            here = (start + s / 10 * (end - start)).requires_grad_()
            (G,) = torch.autograd.grad(net.logits_from(here[None])[0, target], here)
            for k in range(len(start)):
                total += G[k] * (here.detach()[k] - start[k]).clamp(min=0) / 100
    return total


def smoe_of(A):
    h, w = A.shape[1:]
    out = torch.zeros(h, w, dtype=torch.float64)
    for i in range(h):
        for j in range(w):
            fibre = [max(a, 0.0) + 1e-7 for a in A[:, i, j].tolist()]
            mean = sum(fibre) / len(fibre)
            if max(fibre) > 1e-7:
                out[i, j] = mean * (math.log2(mean) - sum(math.log2(a) for a in fibre) / len(fibre))
    return out


@twin_of("smoe")
def slow_smoe(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    return smoe_of(A)


def squashed(map_):
    values = map_.flatten().tolist()
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    away = [(v - mean) / deviation if deviation > 0 else 0.0 for v in values]
    return torch.tensor([0.5 * (1 + math.erf(a / math.sqrt(2))) for a in away], dtype=torch.float64).view(map_.shape)


@twin_of("fastcam")
def slow_fastcam(net, image, target, seed):
    layers = [A for A, _ in last_of_each_size(tensors(net, image, target))]
    total = sum(enlarge(squashed(smoe_of(A)), net.image_size) for A in layers) / len(layers)
    A, G, _ = parts(net, image, target)
    cam = sum(G[k].mean() * A[k] for k in range(len(A))).clamp(min=0)
    return total * squashed(enlarge(cam, net.image_size))


@twin_of("fgcam")
def slow_fgcam(net, image, target, seed):
    """Through dense matrices from the layer down; at the pixels z^B, one weight after the other."""
    A, G, _ = parts(net, image, target)
    R = torch.stack([G[k].mean() * A[k] for k in range(len(A))]).flatten()
    trail, _ = forward(net, image)
    features = trail[: next(n for n, (step, _) in enumerate(trail) if step[0] == "take")]
    R = backward(features[1:], R, lambda W, b, x, R: shares(W, 0 * b, x, R, 1), kept, to_winner)
    (_, W, _), x = features[0]
    low, high = x.min(), x.max()
    contributions = W * x - W.clamp(min=0) * low - W.clamp(max=0) * high  # (out, in)
    return colours(contributions.T @ safe(R, contributions.sum(1)), image)

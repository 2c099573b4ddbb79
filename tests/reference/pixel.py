"""Twins of the pixel methods. The net becomes a list of dense matrices, so every rule is written as in the papers:
x_i, w_ij, z_j and a sum over j; pools are windows of indices (n, 4), the wall is a list of indices."""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from tests.reference import twin_of


@lru_cache(maxsize=2)
def dense(net):
    """[(kind, data)] of a net with flat vectors: ("affine", W, b), ("relu",), ("pool", windows), ("take", places)."""
    steps, shape = [], (3, *net.image_size)
    for module in net.features:
        steps.append(step_of(module, shape))
        shape = module(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:]
    cells = torch.arange(math.prod(shape)).view(shape)
    seen = torch.from_numpy(net.wall.seen.copy())
    steps.append(("take", cells[:, seen].flatten(), math.prod(shape)))
    for module in net.head:
        if not isinstance(module, (nn.Flatten, nn.Dropout)):
            steps.append(step_of(module, None))
    return steps


def step_of(module, shape):
    if isinstance(module, nn.ReLU):
        return ("relu",)
    if isinstance(module, nn.Linear):
        return ("affine", module.weight.detach(), module.bias.detach())
    if isinstance(module, nn.MaxPool2d):
        channels, height, width = shape
        index = torch.arange(math.prod(shape)).view(shape)
        windows = [
            index[c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten()
            for c in range(channels)
            for i in range(height // 2)
            for j in range(width // 2)
        ]
        return ("pool", torch.stack(windows))
    with torch.no_grad():
        unit = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
        bias = module(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
        return ("affine", module(unit).flatten(1).T - bias[:, None], bias)


def forward(net, image):
    """[(step, its input)] and the logits."""
    x, trail = image.flatten(), []
    for step in dense(net):
        trail.append((step, x))
        if step[0] == "affine":
            x = step[1] @ x + step[2]
        elif step[0] == "relu":
            x = x.clamp(min=0)
        elif step[0] == "pool":
            x = x[step[1]].amax(1)
        else:
            x = x[step[1]]
    return trail, x


def backward(trail, quantity, affine, relu, pool):
    for step, x in reversed(trail):
        if step[0] == "affine":
            quantity = affine(step[1], step[2], x, quantity)
        elif step[0] == "relu":
            quantity = relu(x, quantity)
        elif step[0] == "pool":
            quantity = pool(step[1], x, quantity)
        else:
            spread = torch.zeros(step[2], dtype=torch.float64)
            spread[step[1]] = quantity
            quantity = spread
    return quantity


def transposed(W, b, x, g):
    return W.T @ g


def gated(x, g):
    return g * (x > 0)


def to_winner(windows, x, g):
    winners = windows.gather(1, x[windows].argmax(1, keepdim=True))[:, 0]
    return torch.zeros_like(x).index_add(0, winners, g)


def kept(x, R):
    return R


def safe(top, bottom):
    return torch.tensor(
        [t / b if b != 0 else 0.0 for t, b in zip(top.tolist(), bottom.tolist(), strict=True)], dtype=torch.float64
    )


def one_hot(logits, target):
    start = torch.zeros_like(logits)
    start[target] = 1
    return start


def colours(vector, image):
    return vector.view(image.shape).sum(0)


def slow_gradient_at(net, image, target, relu=gated):
    trail, logits = forward(net, image)
    return backward(trail, one_hot(logits, target), transposed, relu, to_winner)


@twin_of("gradient")
def slow_gradient(net, image, target, seed):
    return colours(slow_gradient_at(net, image, target), image)


@twin_of("inputxgradient")
def slow_inputxgradient(net, image, target, seed):
    return colours(slow_gradient_at(net, image, target) * image.flatten(), image)


@twin_of("integrated_gradients")
def slow_integrated_gradients(net, image, target, seed):
    total = torch.zeros(image.numel(), dtype=torch.float64)
    for place, weight in zip(*np.polynomial.legendre.leggauss(16), strict=True):  # on [-1, 1], whose length is 2
        total += weight / 2 * slow_gradient_at(net, image * (place + 1) / 2, target) * image.flatten()
    return colours(total, image)


def draws_of(seed, salt):
    entropy = int(np.random.SeedSequence([seed, salt]).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(entropy)


@twin_of("smoothgrad")
def slow_smoothgrad(net, image, target, seed):
    draws, total = draws_of(seed, 31), torch.zeros(image.numel(), dtype=torch.float64)
    for _ in range(12):
        noise = torch.randn(image.shape, generator=draws, dtype=torch.float64)
        total += slow_gradient_at(net, image + 0.15 * (image.max() - image.min()) * noise, target) / 12
    return colours(total, image)


def slow_guided(net, image, target):
    return slow_gradient_at(net, image, target, relu=lambda x, g: g * (x > 0) * (g > 0))


@twin_of("guidedbp")
def slow_guidedbp(net, image, target, seed):
    return colours(slow_guided(net, image, target), image)


@twin_of("guidedgradcam")
def slow_guidedgradcam(net, image, target, seed):
    A = net.activations(image[None])[0].detach().requires_grad_()
    (G,) = torch.autograd.grad(net.logits_from(A[None])[0, target], A)
    coarse = sum(G[k].mean() * A[k].detach() for k in range(len(A))).clamp(min=0)
    (h, w), (H, W) = coarse.shape, net.image_size
    fine = torch.zeros(H, W, dtype=torch.float64)
    for r in range(H):
        for c in range(W):
            i, j = min(max((r + 0.5) * h / H - 0.5, 0), h - 1), min(max((c + 0.5) * w / W - 0.5, 0), w - 1)
            top, left = int(i), int(j)
            for a, p in ((top, 1 - i + top), (min(top + 1, h - 1), i - top)):
                for b, q in ((left, 1 - j + left), (min(left + 1, w - 1), j - left)):
                    fine[r, c] += p * q * coarse[a, b]
    return fine * colours(slow_guided(net, image, target), image)


@twin_of("deeplift")
def slow_deeplift(net, image, target, seed):
    trail, logits = forward(net, image)
    base, _ = forward(net, torch.zeros_like(image))
    m = one_hot(logits, target)
    for (step, x), (_, x0) in zip(reversed(trail), reversed(base), strict=True):
        if step[0] == "affine":
            m = step[1].T @ m
        elif step[0] == "relu":
            slopes = [
                (max(a, 0) - max(b, 0)) / (a - b) if a != b else float(a > 0)
                for a, b in zip(x.tolist(), x0.tolist(), strict=True)
            ]
            m = m * torch.tensor(slopes, dtype=torch.float64)
        elif step[0] == "pool":
            m = deeplift_pool(step[1], x, x0, m)
        else:
            spread = torch.zeros(step[2], dtype=torch.float64)
            spread[step[1]] = m
            m = spread
    return colours(m * image.flatten(), image)


def deeplift_pool(windows, x, x0, m):
    """Contributions m (top - out0) to the image's winner and m (out - top) to the baseline's, top the larger maximum."""
    multiplier = torch.zeros_like(x)
    for window, value in zip(windows.tolist(), m.tolist(), strict=True):
        here, there = window[int(x[window].argmax())], window[int(x0[window].argmax())]
        out, out0 = x[here], x0[there]
        if out > out0:
            multiplier[here] += value * (out - out0) / (x[here] - x0[here])
        if out < out0:
            multiplier[there] += value * (out - out0) / (x[there] - x0[there])
    return multiplier


def slow_relevance(net, image, target, affine, at_pixels=None):
    trail, logits = forward(net, image)
    R = backward(trail[1:], one_hot(logits, target) * logits, affine, kept, to_winner)
    (_, W, b), x = trail[0]
    return colours((at_pixels or affine)(W, b, x, R), image)


@twin_of("lrp_epsilon")
def slow_lrp_epsilon(net, image, target, seed):
    def affine(W, b, x, R):
        z, mass = W @ x + b, W.abs() @ x.abs() + b.abs()
        return x * (W.T @ safe(R, z + 0.02 * mass * z.sign()))

    return slow_relevance(net, image, target, affine)


@twin_of("lrp_gamma")
def slow_lrp_gamma(net, image, target, seed):
    def affine(W, b, x, R):
        V, c = W + W.clamp(min=0) / 4, b + b.clamp(min=0) / 4
        return x * (V.T @ safe(R, V @ x + c))

    def squared(W, b, x, R):
        return (W**2).T @ safe(R, (W**2).sum(1))

    return slow_relevance(net, image, target, affine, squared)


def shares(W, b, x, R, sign):
    contributions = (sign * W * x).clamp(min=0)  # (out, in)
    return contributions.T @ safe(R, contributions.sum(1) + (sign * b).clamp(min=0))


@twin_of("lrp_alpha_beta")
def slow_lrp_alpha_beta(net, image, target, seed):
    return slow_relevance(net, image, target, lambda W, b, x, R: 2 * shares(W, b, x, R, 1) - shares(W, b, x, R, -1))


@twin_of("lrp_alpha1_beta0")
def slow_lrp_alpha1_beta0(net, image, target, seed):
    return slow_relevance(net, image, target, lambda W, b, x, R: shares(W, b, x, R, 1))


def slow_excitation(net, image, target, sign):
    trail, _ = forward(net, image)
    (_, W, _), v = trail.pop()
    P = shares(sign * W[target : target + 1], torch.zeros(1).double(), v, torch.ones(1).double(), 1)
    return backward(trail, P, lambda W, b, x, R: shares(W, 0 * b, x, R, 1), kept, to_winner)


@twin_of("excitationbp")
def slow_excitationbp(net, image, target, seed):
    return colours(slow_excitation(net, image, target, 1), image)


@twin_of("excitationbp_contrastive")
def slow_excitationbp_contrastive(net, image, target, seed):
    return colours(slow_excitation(net, image, target, 1) - slow_excitation(net, image, target, -1), image)

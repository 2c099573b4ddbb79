"""Twins of CAM, of the pooled-gradient methods and of their other targets."""

import math
from functools import lru_cache

import numpy as np
import torch

from tests.reference import twin_of
from tests.reference.basic import parts


def logits_of(net, A):
    return net.logits_from(A[None])[0]


def parts_of(net, image, score):
    """A and d score(logits) / d A of one image, both (K, h, w)."""
    A = net.activations(image[None])[0].detach().requires_grad_()
    (G,) = torch.autograd.grad(score(logits_of(net, A)), A)
    return A.detach(), G


def combined(weights, A):
    total = torch.zeros_like(A[0])
    for weight, channel in zip(weights, A, strict=True):
        total += weight * channel
    return total


def draws(seed, salt, *shapes, uniform=False):
    """The recipe of Evidence.generator: a generator from (seed, salt), float32 draws, one after the other."""
    entropy = int(np.random.SeedSequence([seed, salt]).generate_state(1, np.uint64)[0] >> 1)
    generator = torch.Generator().manual_seed(entropy)
    draw = torch.rand if uniform else torch.randn
    return [draw(shape, generator=generator).double() for shape in shapes]


@twin_of("cam")
def slow_cam(net, image, target, seed):
    A = net.activations(image[None])[0].detach()
    (linear,) = (m for m in net.head if isinstance(m, torch.nn.Linear))
    return combined([linear.weight[target, k].item() for k in range(len(A))], A)


@twin_of("gradcampp_cubes")
def slow_gradcampp_cubes(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    weights = []
    for k in range(len(A)):
        below = sum(a * g**3 for a, g in zip(A[k].flatten().tolist(), G[k].flatten().tolist(), strict=True))
        weights.append(sum(g**2 / (2 * g**2 + below) * max(g, 0) for g in G[k].flatten().tolist() if g != 0))
    return combined(weights, A)


@twin_of("gradcampp_undivided")
def slow_gradcampp_undivided(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    return combined([sum(g**2 * max(g, 0) for g in G[k].flatten().tolist()) for k in range(len(A))], A)


@twin_of("gradcampp_authors")
def slow_gradcampp_authors(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    weights = []
    for k in range(len(A)):
        mass = A[k].sum().item()
        up = [g for g in G[k].flatten().tolist() if g > 0]
        alphas = [g**2 / (2 * g**2 + mass * g**3) for g in up]
        weights.append(sum(a / sum(alphas) * g for a, g in zip(alphas, up, strict=True)))
    return combined(weights, A)


# -- other targets --------------------------------------------------------------------------------


def three_nearest(y, target):
    return sorted((j for j in range(len(y)) if j != target), key=lambda j: abs((y[j] - y[target]).item()))[:3]


def finer_score(target, floor):
    def score(y):
        p = y.softmax(0)
        near = three_nearest(y, target)
        return sum(p[j] * (y[target] - y[j]) for j in near) / (sum(p[j] for j in near) + floor)

    return score


def finer_twins(suffix, floor):
    @twin_of(f"finercam{suffix}")
    def slow_finercam(net, image, target, seed):
        A, G = parts_of(net, image, finer_score(target, floor))
        return combined([G[k].sum() / G[k].numel() for k in range(len(A))], A)

    @twin_of(f"finer_layercam{suffix}")
    def slow_finer_layercam(net, image, target, seed):
        A, G = parts_of(net, image, finer_score(target, floor))
        return sum(G[k].clamp(min=0) * A[k] for k in range(len(A)))

    @twin_of(f"finer_hirescam{suffix}")
    def slow_finer_hirescam(net, image, target, seed):
        A, G = parts_of(net, image, finer_score(target, floor))
        return sum(G[k] * A[k] for k in range(len(A)))


finer_twins("", 0.0)
finer_twins("_authors", 1e-9)


@twin_of("finercam_mean")
def slow_finercam_mean(net, image, target, seed):
    def score(y):
        near = three_nearest(y, target)
        return y[target] - 0.6 * sum(y[j] for j in near) / len(near)

    A, G = parts_of(net, image, score)
    return combined([G[k].sum() / G[k].numel() for k in range(len(A))], A)


def shapley_W(net, image, score):
    """G - Hess A / 2, the product taken as the derivative of G . A0 in the direction of each entry (double backward)."""
    A = net.activations(image[None])[0].detach().requires_grad_()
    (G,) = torch.autograd.grad(score(logits_of(net, A)), A, create_graph=True)
    along = (G * A.detach()).sum()
    (product,) = torch.autograd.grad(along, A, allow_unused=True) if along.requires_grad else (None,)
    product = torch.zeros_like(A) if product is None else product
    return A.detach(), (G - product / 2).detach()


def shapley_twins(suffix, score_of):
    @twin_of(f"shapleycam_mean{suffix}")
    def slow_mean(net, image, target, seed):
        A, W = shapley_W(net, image, score_of(target))
        return combined([W[k].sum() / W[k].numel() for k in range(len(A))], A)

    @twin_of(f"shapleycam_x{suffix}")
    def slow_x(net, image, target, seed):
        A, W = shapley_W(net, image, score_of(target))
        return combined([(W[k] * A[k]).sum() / A[k].sum() if A[k].sum() != 0 else 0.0 for k in range(len(A))], A)

    @twin_of(f"shapleycam_hires{suffix}")
    def slow_hires(net, image, target, seed):
        A, W = shapley_W(net, image, score_of(target))
        return sum(W[k] * A[k] for k in range(len(A)))

    @twin_of(f"shapleycam_e{suffix}")
    def slow_e(net, image, target, seed):
        A, W = shapley_W(net, image, score_of(target))
        return sum((W[k] * A[k]).clamp(min=0) for k in range(len(A)))


shapley_twins("", lambda c: lambda y: y[c])
shapley_twins("_rest", lambda c: lambda y: y[c] + torch.log(torch.exp(y[c]) / torch.exp(y).sum()))


# -- noise and paths ------------------------------------------------------------------------------


def sigma_of(image):
    return 0.15 * (image.max() - image.min())


@twin_of("smooth_gradcampp")
def slow_smooth_gradcampp(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    Gs = [parts(net, image + sigma_of(image) * n, target)[1] for n in draws(seed, 1, *[image.shape] * 8)]
    weights = []
    for k in range(len(A)):
        weight, mass = 0.0, A[k].sum().item()
        for samples in zip(*(G[k].flatten().tolist() for G in Gs), strict=True):
            first, second, third = (sum(g**p for g in samples) / len(samples) for p in (1, 2, 3))
            if second != 0:
                weight += second / (2 * second + mass * third) * max(first, 0)
        weights.append(weight)
    return combined(weights, A)


@twin_of("smooth_gradcampp_last")
def slow_smooth_gradcampp_last(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    noisy = [parts(net, image + 0.3 * n, target) for n in draws(seed, 2, *[image.shape] * 4)]
    last_A, last_G, _ = noisy[-1]
    weights = []
    for k in range(len(A)):
        second = sum(G[k] ** 2 for _, G, _ in noisy) / 4
        third = sum(G[k] ** 3 for _, G, _ in noisy) / 4
        below = (A[k] * third).sum().item()
        weights.append(
            sum(
                s / (2 * s + below) * max(g, 0)
                for s, g in zip(second.flatten().tolist(), last_G[k].flatten().tolist(), strict=True)
                if s != 0
            )
        )
    return combined(weights, last_A)


@twin_of("integrated_gradcam")
def slow_integrated_gradcam(net, image, target, seed):
    start, _, _ = parts(net, torch.zeros_like(image), target)
    total = torch.zeros_like(start[0])
    for t in range(1, 21):
        A, G, _ = parts(net, t / 20 * image, target)
        total += combined([G[k].mean() for k in range(len(A))], A - start).clamp(min=0)
    return total / 20


@twin_of("integrated_gradcam_authors")
def slow_integrated_gradcam_authors(net, image, target, seed):
    total = 0
    for t in range(50):
        A, G, _ = parts(net, t / 50 * image, target)
        total = total + combined([G[k].mean() for k in range(len(A))], A).clamp(min=0)
    return total / 50


@twin_of("integrated_gradcam_weights")
def slow_integrated_gradcam_weights(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    Gs = [parts(net, t / 20 * image, target)[1] for t in range(1, 21)]
    return combined([sum(G[k].mean() for G in Gs) / 20 for k in range(len(A))], A)


@twin_of("expected_gradcam")
def slow_expected_gradcam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    near, far = (draws(seed, salt, *[image.shape] * 8) for salt in (1, 3))
    times = draws(seed, 4, (8,), uniform=True)[0].tolist()
    mean = [channel.mean() for channel in image]
    deviation = [math.sqrt(((channel - m) ** 2).mean()) for channel, m in zip(image, mean, strict=True)]
    weights = [0.0] * len(A)
    for t, n, f in zip(times, near, far, strict=True):
        end = image + sigma_of(image) * n
        start = torch.stack([m + d * channel for m, d, channel in zip(mean, deviation, f, strict=True)])
        gained = parts(net, end, target)[0] - parts(net, start, target)[0]
        _, G, _ = parts(net, start + t * (end - start), target)
        weights = [w + (G[k] * gained[k]).mean().item() / 8 for k, w in enumerate(weights)]
    return combined(weights, A)


# -- Augmented Grad-CAM ---------------------------------------------------------------------------


@lru_cache(maxsize=8)
def turn_matrix(angle, down, right, H, W):
    """Dense (H W, H W): what each pixel of the copy reads of the image."""
    T = torch.zeros(H * W, H * W, dtype=torch.float64)
    for i in range(H):
        for j in range(W):
            y, x = i - (H - 1) / 2, j - (W - 1) / 2
            a = math.cos(angle) * y - math.sin(angle) * x + (H - 1) / 2 + down
            b = math.sin(angle) * y + math.cos(angle) * x + (W - 1) / 2 + right
            for p in (math.floor(a), math.floor(a) + 1):
                for q in (math.floor(b), math.floor(b) + 1):
                    if 0 <= p < H and 0 <= q < W:
                        T[i * W + j, p * W + q] += (1 - abs(a - p)) * (1 - abs(b - q))
    return T


def bilinear_between(size, cells):
    """(cells, size): the two pixels around each cell's centre, half-pixel centres, whatever lies between the cells."""
    D = torch.zeros(cells, size, dtype=torch.float64)
    for i in range(cells):
        place = min(max((i + 0.5) * size / cells - 0.5, 0), size - 1)
        low = int(place)
        D[i, low] += 1 - (place - low)
        D[i, min(low + 1, size - 1)] += place - low
    return D


@twin_of("augmented_gradcam")
def slow_augmented_gradcam(net, image, target, seed):
    (H, W), (h, w) = net.image_size, net.wall.seen.shape
    moves = [(0, 0, 0)] + [(0.5 * a, 30 / 224 * H * b, 30 / 224 * W * c) for a, b, c in
                           (2 * draws(seed, 5, (7, 3), uniform=True)[0] - 1).tolist()]  # fmt: skip
    D = torch.kron(bilinear_between(H, h), bilinear_between(W, w))
    operators, cells = [], []
    for move in moves:
        T = turn_matrix(*move, H, W)
        A, G, _ = parts(net, torch.stack([(T @ c.flatten()).view(H, W) for c in image]), target)
        g = combined([G[k].mean() for k in range(len(A))], A).clamp(min=0)
        operators.append(D @ T)
        cells.append((g / g.max() if g.max() > 0 else g).flatten())
    return primal_dual(torch.cat(operators), torch.cat(cells), H, W)


def primal_dual(M, g, H, W):
    """Condat-Vu on half of ||M h - g||^2 + 8 * 0.0001 ||h||^2 + 8 * 0.002 (sum |vertical| + |horizontal differences|)."""
    across = [(i * W + j, i * W + j + 1) for i in range(H) for j in range(W - 1)]
    along = [(i * W + j, (i + 1) * W + j) for i in range(H - 1) for j in range(W)]
    pairs = torch.tensor(along + across)
    K = torch.zeros(len(pairs), H * W, dtype=torch.float64)
    for row, (p, q) in enumerate(pairs.tolist()):
        K[row, p], K[row, q] = -1, 1
    h, dual = torch.zeros(H * W, dtype=torch.float64), torch.zeros(len(pairs), dtype=torch.float64)
    bound = float(M.sum(0).max() * M.sum(1).max()) + 8 * 0.0001
    tau, sigma, limit = 1 / (0.6 * bound), bound / 80, 8 * 0.002 / 2
    K, M, against, back = (matrix.to_sparse() for matrix in (K, M, K.T, M.T))
    for _ in range(1000):
        new = h - tau * (back @ (M @ h - g) + 8 * 0.0001 * h + against @ dual)
        dual = (dual + sigma * (K @ (2 * new - h))).clamp(-limit, limit)
        h = new
    return h.view(H, W)

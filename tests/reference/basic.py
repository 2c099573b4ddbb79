"""Twins of the paper's eight methods and of the controls."""

import math

import torch
from torch.nn.functional import interpolate

from tests.reference import twin_of


def parts(net, image, target):
    """A (K, h, w), G (K, h, w) and the score of one image."""
    A = net.activations(image[None])[0].detach().requires_grad_()
    score = net.logits_from(A[None])[0, target]
    (G,) = torch.autograd.grad(score, A)
    return A.detach(), G, score.detach()


def score_of(net, A, target):
    with torch.no_grad():
        return net.logits_from(A[None])[0, target]


@twin_of("constant")
def slow_constant(net, image, target, seed):
    return torch.ones(net.wall.seen.shape, dtype=torch.float64)


@twin_of("seen_only")
def slow_seen_only(net, image, target, seed):
    h, w = net.wall.seen.shape
    return torch.tensor([[1.0 if net.wall.seen[i, j] else 0.0 for j in range(w)] for i in range(h)]).double()


@twin_of("unseen_only")
def slow_unseen_only(net, image, target, seed):
    return 1 - slow_seen_only(net, image, target, seed)


@twin_of("gradcam")
def slow_gradcam(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    return sum(G[k].sum() / G[k].numel() * A[k] for k in range(len(A)))


@twin_of("gradcampp")
def slow_gradcampp(net, image, target, seed, epsilon=0.0):
    A, G, _ = parts(net, image, target)
    total = torch.zeros_like(A[0])
    for k in range(len(A)):
        weight = 0.0
        for g in G[k].flatten().tolist():
            if g != 0:
                alpha = g**2 / (2 * g**2 + A[k].sum().item() * g**3 + epsilon)
                weight += alpha * max(g, 0.0)
        total += weight * A[k]
    return total


@twin_of("gradcampp_epsilon")
def slow_gradcampp_epsilon(net, image, target, seed):
    return slow_gradcampp(net, image, target, seed, epsilon=1e-6)


@twin_of("xgradcam")
def slow_xgradcam(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    total = torch.zeros_like(A[0])
    for k in range(len(A)):
        if A[k].sum() != 0:
            total += sum(G[k].flatten() * A[k].flatten()) / A[k].sum() * A[k]
    return total


@twin_of("hirescam")
def slow_hirescam(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    total = torch.zeros_like(A[0])
    for k in range(len(A)):
        for i in range(A.shape[1]):
            for j in range(A.shape[2]):
                total[i, j] += G[k, i, j] * A[k, i, j]
    return total


@twin_of("layercam")
def slow_layercam(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    total = torch.zeros_like(A[0])
    for k in range(len(A)):
        for i in range(A.shape[1]):
            for j in range(A.shape[2]):
                total[i, j] += max(G[k, i, j].item(), 0.0) * A[k, i, j]
    return total


@twin_of("scorecam")
def slow_scorecam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    scores = []
    for k in range(len(A)):
        up = interpolate(A[k][None, None], net.image_size, mode="bilinear", align_corners=True)[0, 0]
        spread = up.max() - up.min()
        mask = (up - up.min()) / spread if spread > 0 else torch.zeros_like(up)
        with torch.no_grad():
            # the increase over the black image, as the paper writes it
            increase = net((image * mask)[None]) - net(torch.zeros_like(image)[None])
        scores.append(increase[0, target].item())
    top = max(scores)
    exps = [math.exp(s - top) for s in scores]
    return sum(e / sum(exps) * A[k] for k, e in enumerate(exps))


@twin_of("ablationcam")
def slow_ablationcam(net, image, target, seed):
    A, _, score = parts(net, image, target)
    total = torch.zeros_like(A[0])
    for k in range(len(A)):
        without = torch.stack([torch.zeros_like(A[m]) if m == k else A[m] for m in range(len(A))])
        total += (score - score_of(net, without, target)) * A[k]
    return total


@twin_of("eigencam")
def slow_eigencam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    X = torch.stack([A[k].flatten() - A[k].mean() for k in range(len(A))], 1)  # (Z, K)
    _, _, Vh = torch.linalg.svd(X, full_matrices=False)
    projected = (X @ Vh[0]).view(A.shape[1:])
    return -projected if -projected.min() > projected.max() else projected

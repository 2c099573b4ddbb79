"""Twins of Conceptor-CAM: correlations summed state by state, C AND NOT B by the square root of Q, the aperture by brentq."""

import math

import numpy as np
import torch
from scipy.optimize import brentq

from tests.reference import twin_of
from tests.reference.basic import parts


def correlation(X):
    """X (n, T): mean over states of x x^T."""
    return sum(np.outer(x, x) for x in X.T) / X.shape[1]


def aperture_of(strengths):
    s = [max(v, 0.0) for v in strengths]
    if max(s) == 0:
        return 1.0

    def c(log):
        return [v * math.exp(log) / max(s) / (v * math.exp(log) / max(s) + 1) for v in s]

    def slope(log):
        return sum(x * x * (1 - x) * (2 - 3 * x) for x in c(log))

    step = math.log(1e6) / 64
    best = max(range(65), key=lambda i: sum(x * x * (1 - x) for x in c(i * step)))
    low = max((best - 1) * step, 0)
    log = brentq(slope, low, low + 2 * step, xtol=1e-14) if slope(low) > 0 else low
    return math.sqrt(math.exp(log) / max(s))


def and_not(positive, negative):
    """F (I + F^T (I + P) F)^-1 F^T with F F^T = Q: the pull of both inverses on the range of Q."""
    R = correlation(positive)
    values, vectors = np.linalg.eigh(R)
    a = aperture_of(values)
    F = a * vectors * np.sqrt(values.clip(min=0))
    P = a * a * correlation(negative)
    eye = np.eye(len(R))
    return F @ np.linalg.inv(eye + F.T @ (eye + P) @ F) @ F.T


def either(positive, negative):
    """C OR B = NOT (NOT C AND NOT B); NOT is I - C, and AND of two that know every direction (C^-1 + B^-1 - I)^-1."""
    R, eye = correlation(positive), np.eye(len(positive))
    a = aperture_of(np.linalg.eigvalsh(R))
    C, B = (a * a * M @ np.linalg.inv(a * a * M + eye) for M in (R, correlation(negative)))
    return eye - np.linalg.inv(np.linalg.inv(eye - C) + np.linalg.inv(eye - B) - eye)


def filtered(E, positive, negative, inter=True, intra=True, combined=and_not):
    shape, (E, positive, negative) = E.shape[1:], (t.flatten(1).numpy() for t in (E, positive, negative))
    if inter:
        E = combined(positive, negative) @ E
    if intra:
        E = E @ combined(positive.T, negative.T)
    return torch.from_numpy(E.sum(0)).view(shape)


def by_cell(E, **relations):
    return filtered(E, E.clamp(min=0), (-E).clamp(min=0), **relations)


def by_channel(E, A):
    positive, negative = torch.zeros_like(A), torch.zeros_like(A)
    for k in range(len(A)):
        vote = float(E[k].sum())
        (positive if vote > 0 else negative)[k] = abs(vote) * A[k]
    return filtered(E, positive, negative)


def pooled_evidence(A, G):
    return torch.stack([G[k].mean() * A[k] for k in range(len(A))])


@twin_of("conceptor_gradcam")
def slow_conceptor_gradcam(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    return by_cell(pooled_evidence(A, G))


@twin_of("conceptor_gradcam_or")
def slow_conceptor_gradcam_or(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    return by_cell(pooled_evidence(A, G), combined=either)


@twin_of("conceptor_gradcam_channels")
def slow_conceptor_gradcam_channels(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    return by_channel(pooled_evidence(A, G), A)


@twin_of("conceptor_gradcampp")
def slow_conceptor_gradcampp(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    weights = [
        sum(max(g, 0) / (2 + max(g, 0) * float(A[k].sum())) for g in G[k].flatten().tolist()) for k in range(len(A))
    ]
    return by_cell(torch.stack([w * a for w, a in zip(weights, A, strict=True)]))


@twin_of("conceptor_liftcam")
def slow_conceptor_liftcam(net, image, target, seed):
    """The Rescale rule written out for a head of Linear, ReLU, ..., Linear on the seen cells."""
    A, _, _ = parts(net, image, target)
    seen = torch.from_numpy(net.wall.seen.copy())
    x, x0, chords = A[:, seen].flatten(), torch.zeros_like(A[:, seen].flatten()), []
    linears = [m for m in net.head if isinstance(m, torch.nn.Linear)]
    for linear in linears[:-1]:
        z, z0 = linear.weight.detach() @ x + linear.bias.detach(), linear.weight.detach() @ x0 + linear.bias.detach()
        x, x0 = z.clamp(min=0), z0.clamp(min=0)
        chords.append((x - x0) / (z - z0))
    m = linears[-1].weight.detach()[target]
    for linear, chord in zip(reversed(linears[:-1]), reversed(chords), strict=True):
        m = linear.weight.detach().T @ (m * chord)
    C = (m.view(len(A), -1) * A[:, seen]).sum(1)
    return by_cell(C[:, None, None] * A)


@twin_of("conceptor_hirescam")
def slow_conceptor_hirescam(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    return by_cell(G * A)


@twin_of("conceptor_hirescam_inter")
def slow_conceptor_hirescam_inter(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    return by_cell(G * A, intra=False)


@twin_of("conceptor_hirescam_channels")
def slow_conceptor_hirescam_channels(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    return by_channel(G * A, A)

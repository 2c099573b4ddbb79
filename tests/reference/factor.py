"""Twins of DFF and DecomCAM."""

import math

import numpy as np
import torch
from torch.nn.functional import interpolate

from tests.reference import twin_of
from tests.reference.basic import parts
from tests.reference.subspace import larger_extreme_positive


@twin_of("dff")
def slow_dff(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    X = A.clamp(min=0).flatten(1).T.numpy()  # (Z, K)
    longest = max(np.linalg.norm(row) for row in X)
    left, H = X.copy(), []
    for _ in range(4):
        lengths = [np.linalg.norm(row) for row in left]
        z = int(np.argmax(lengths))
        H.append(X[z] if lengths[z] > 1e-9 * longest else 0 * X[z])
        if lengths[z] > 0:
            d = left[z] / lengths[z]
            left = np.stack([row - (row @ d) * d for row in left])
    H = np.stack(H)
    W = X @ H.T
    for _ in range(60):
        W = W * quotient(X @ H.T, W @ H @ H.T)
        H = H * quotient(W.T @ X, W.T @ W @ H)
    strength = [np.linalg.norm(W[:, r]) * np.linalg.norm(H[r]) for r in range(4)]
    r = int(np.argmax(strength))
    return torch.from_numpy(W[:, r] * np.linalg.norm(H[r])).view(A.shape[1:])


def quotient(top, bottom):
    return np.array(
        [[t / b if b != 0 else 0.0 for t, b in zip(*rows, strict=True)] for rows in zip(top, bottom, strict=True)]
    )


def principal(A, G, channels):
    """The first ten principal maps (rectified) of so many channels with the largest weights."""
    order = sorted(range(len(A)), key=lambda k: -float(G[k].mean()))[:channels]
    X = torch.stack([G[k].mean() * A[k] for k in order]).flatten(1).T.numpy()
    X = X - X.mean(0)
    _, _, Vt = np.linalg.svd(X, full_matrices=False)
    return [torch.from_numpy(larger_extreme_positive(X @ v)).view(A.shape[1:]).clamp(min=0) for v in Vt[:10]]


def up_and_stretched(map_, size, mode):
    up = interpolate(map_[None, None], size, mode=mode, align_corners=False)[0, 0]
    spread = up.max() - up.min()
    return up, (up - up.min()) / spread if spread > 0 else torch.zeros_like(up)


@twin_of("decomcam")
def slow_decomcam(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    behind, total = blurred(image, 10 / 224), torch.zeros_like(A[0])
    for map_ in principal(A, G, 100):
        _, mask = up_and_stretched(map_, net.image_size, "bilinear")
        with torch.no_grad():
            gain = net((mask * image + (1 - mask) * behind)[None]) - net(behind[None])
        total += max(float(gain[0, target]), 0.0) * map_
    return total


@twin_of("decomcam_authors")
def slow_decomcam_authors(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    behind, total = blurred(image, 10 / 224), torch.zeros(net.image_size, dtype=torch.float64)
    for map_ in principal(A, G, 500):
        up, mask = up_and_stretched(map_, net.image_size, "bicubic")
        with torch.no_grad():
            score = net(torch.maximum(mask * image, (1 - mask) * behind)[None])[0, target]
        total += max(float(score), 0.0) * up
    return total


def blurred(image, sides):
    """Gaussian blur, one axis after the other, by the definition; sigma in image sides."""
    for axis in (1, 2):
        size = image.shape[axis]
        lines = []
        for place in range(size):
            weights = [math.exp(-0.5 * ((place - other) / (sides * size)) ** 2) for other in range(size)]
            lines.append(sum(w / sum(weights) * image.select(axis, o) for o, w in enumerate(weights)))
        image = torch.stack(lines, axis)
    return image

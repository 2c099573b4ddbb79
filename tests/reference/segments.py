"""Twin of XRAI: components as sets of pixels, segments ranked one by one."""

import math

import numpy as np
import torch

from tests.reference import twin_of
from tests.reference.pixel import slow_gradient_at


def blurred(image, sigma):
    """(3, H, W): each axis by the definition, cut at four sigma, the border repeated and reflected."""
    reach = int(4 * sigma + 0.5)
    weights = np.array([math.exp(-0.5 * (o / sigma) ** 2) for o in range(-reach, reach + 1)])
    for axis in (1, 2):
        wide = np.pad(image, [(reach, reach) if a == axis else (0, 0) for a in range(3)], mode="symmetric")
        size = image.shape[axis]
        image = sum(w / weights.sum() * wide.take(range(n, n + size), axis) for n, w in enumerate(weights))
    return image


def components(image, scale, smallest):
    """Sets of pixels, as in the paper: whether a boundary stands is asked edge by edge."""
    _, H, W = image.shape
    edges = []
    for i in range(H):
        for j in range(W):
            for a, b in ((i, j + 1), (i + 1, j), (i + 1, j + 1), (i + 1, j - 1)):
                if a < H and 0 <= b < W:
                    edges.append((math.sqrt(sum((image[:, i, j] - image[:, a, b]) ** 2)), (i, j), (a, b)))
    edges.sort(key=lambda edge: edge[0])
    of, inside = {(i, j): frozenset([(i, j)]) for i in range(H) for j in range(W)}, {}

    def join(one, other, distance):
        both = one | other
        inside[both] = distance
        for pixel in both:
            of[pixel] = both

    for distance, p, q in edges:
        one, other = of[p], of[q]
        limit = min(inside.get(c, 0.0) + scale / len(c) for c in (one, other))
        if one is not other and distance <= limit:
            join(one, other, distance)
    for distance, p, q in edges:
        one, other = of[p], of[q]
        if one is not other and min(len(one), len(other)) < smallest:
            join(one, other, distance)
    return set(of.values())


def segments(image):
    _, H, W = image.shape
    share = H * W / 224**2
    low, high = image.min(), image.max()
    spread = 2 * (image - low) / (high - low) - 1 if high > low else 0 * image
    smooth, radius = blurred(spread, 0.8 * math.sqrt(share)), max(1, round(5 * math.sqrt(share)))
    disk = [
        (a, b) for a in range(-radius, radius + 1) for b in range(-radius, radius + 1) if a * a + b * b <= radius**2
    ]
    for scale in (50, 100, 150, 250, 500, 1200):
        for component in components(smooth, scale / 255 * share, 150 * share):
            near = {(i + a, j + b) for i, j in component for a, b in disk}
            yield {(i, j) for i, j in near if 0 <= i < H and 0 <= j < W}


def attribution(net, image, target, start):
    total = torch.zeros(image.numel(), dtype=torch.float64)
    for place, weight in zip(*np.polynomial.legendre.leggauss(8), strict=True):
        point = start + (place + 1) / 2 * (image - start)
        total += weight / 2 * slow_gradient_at(net, point, target)
    return total.view(image.shape) * (image - start)


@twin_of("xrai")
def slow_xrai(net, image, target, seed):
    H, W = net.image_size
    both = [attribution(net, image, target, image * 0 + extreme) for extreme in (image.min(), image.max())]
    worth = (sum(both) / 2).amax(0).numpy()
    least = max(1, round(50 * H * W / 224**2))
    worth = {(i, j): float(worth[i, j]) for i in range(H) for j in range(W)}
    left, out = set(worth), np.zeros((H, W))
    waiting = list(segments(image.numpy()))
    while waiting := [segment for segment in waiting if len(segment & left) >= least]:
        gains = [mean([worth[u] for u in sorted(segment & left)]) for segment in waiting]
        best = int(np.argmax(gains))
        new = waiting.pop(best) & left
        for u in new:
            out[u] = gains[best]
        left -= new
    for u in left:
        out[u] = mean([worth[v] for v in sorted(left)])
    return torch.from_numpy(out)


def mean(values):
    return sum(values) / len(values)

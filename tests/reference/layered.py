"""Twins of the layered methods."""

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from tests.reference import twin_of
from tests.reference.local import enlarge, last_of_each_size, layercams, stretch, tensors


@twin_of("winsorcam")
def slow_winsorcam(net, image, target, seed):
    return winsorised(net, image, target, lambda a: sum(a) / len(a))


@twin_of("winsorcam_max")
def slow_winsorcam_max(net, image, target, seed):
    return winsorised(net, image, target, max)


def winsorised(net, image, target, importance):
    layers = [(A, G) for module, A, G in tensors(net, image, target) if isinstance(module, torch.nn.Conv2d)]
    importances, maps = [], []
    for A, G in layers:
        a = [g.mean().item() for g in G]
        importances.append(max(importance(a), 0.0))
        maps.append(enlarge(stretch(sum(w * c for w, c in zip(a, A, strict=True)).clamp(min=0)), net.image_size))
    live = [value for value in importances if value > 0]
    total = torch.zeros(net.image_size, dtype=torch.float64)
    for value, map_ in zip(importances, maps, strict=True):
        if value > 0:
            cut = np.percentile(live, 80)
            low, high = min(live), min(max(live), cut)
            weight = 0.1 + 0.9 * (min(value, cut) - low) / (high - low) if high > low else 1.0
            total += weight * map_
    return total


@twin_of("refinecam")
def slow_refinecam(net, image, target, seed, last=lambda map_: map_):
    total = torch.ones(net.image_size, dtype=torch.float64)
    for A, G in last_of_each_size(tensors(net, image, target)):
        map_ = torch.zeros_like(A[0])
        for k in range(len(A)):
            positive = G[k][G[k] > 0]
            map_ += (positive**3 / (2 * positive**2 + A[k].sum() * positive**3)).sum() * A[k]
        total *= last(enlarge(stretch(map_.clamp(min=0)), net.image_size))
    return total


@twin_of("refinecam_authors")
def slow_refinecam_authors(net, image, target, seed):
    return slow_refinecam(net, image, target, seed, last=stretch)


@twin_of("refinecam_layercam")
def slow_refinecam_layercam(net, image, target, seed):
    total = torch.ones(net.image_size, dtype=torch.float64)
    for map_ in layercams(net, image, target):
        total *= enlarge(stretch(map_), net.image_size)
    return total


@twin_of("cameras")
def slow_cameras(net, image, target, seed, scales=(1, 2, 3), mode="bilinear"):
    (H, W), mean_A, mean_G = net.image_size, 0, 0
    for scale in scales:
        size = (round(scale * H), round(scale * W))
        bigger = interpolate(image[None], size, mode=mode, align_corners=False)
        A = net.features(bigger).detach().requires_grad_()
        (G,) = torch.autograd.grad(net.logits_from(adaptive_avg_pool2d(A, net.wall.seen.shape))[0, target], A)
        mean_A = mean_A + interpolate(A.detach(), (H, W), mode="bilinear", align_corners=False)[0] / len(scales)
        mean_G = mean_G + interpolate(G, (H, W), mode="bilinear", align_corners=False)[0] / len(scales)
    return sum(mean_A[k] * mean_G[k] for k in range(len(mean_A)))

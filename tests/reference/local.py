"""Twins of the local (element-wise) methods, of one layer and of several."""

import math

import torch
from torch.nn.functional import interpolate

from tests.reference import twin_of
from tests.reference.basic import parts


def cellwise(A, G, value):
    """(h, w): value(fibre of A, fibre of G) at each cell."""
    h, w = A.shape[1:]
    rows = [[value(A[:, i, j].tolist(), G[:, i, j].tolist()) for j in range(w)] for i in range(h)]
    return torch.tensor(rows, dtype=torch.float64)


@twin_of("gradcam_elementwise")
def slow_elementwise(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    return cellwise(A, G, lambda a, g: sum(max(x * y, 0) for x, y in zip(a, g, strict=True)))


@twin_of("normgrad")
def slow_normgrad(net, image, target, seed):
    """The Frobenius norm of the outer product of the two fibres."""
    A, G, _ = parts(net, image, target)
    return cellwise(A, G, lambda a, g: math.sqrt(sum((x * y) ** 2 for x in a for y in g)))


@twin_of("normgrad_scaling")
def slow_normgrad_scaling(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    return cellwise(A, G, lambda a, g: math.sqrt(sum((x * y) ** 2 for x, y in zip(a, g, strict=True))))


# -- several layers -------------------------------------------------------------------------------


def tensors(net, image, target):
    """[(module, output (K, h, w), gradient)] of the images and of every layer, each with a backward pass of its own."""
    modules = list(net.features)
    steps = [(None, image)]
    for module in modules:
        with torch.no_grad():
            steps.append((module, module(steps[-1][1][None])[0]))
    out = []
    for number, (module, output) in enumerate(steps):
        leaf = output.detach().requires_grad_()
        x = leaf[None]
        for later in modules[number:]:
            x = later(x)
        (gradient,) = torch.autograd.grad(net.logits_from(x)[0, target], leaf)
        out.append((module, output.detach(), gradient))
    return out


def last_of_each_size(steps):
    layers = steps[1:]
    return [
        (A, G)
        for n, (_, A, G) in enumerate(layers)
        if n + 1 == len(layers) or layers[n + 1][1].shape[1:] != A.shape[1:]
    ]


def stretch(t):
    low, high = t.min(), t.max()
    return (t - low) / (high - low) if high > low else torch.zeros_like(t)


def enlarge(map_, size, corners=False):
    return interpolate(map_[None, None], size, mode="bilinear", align_corners=corners)[0, 0]


def layercams(net, image, target):
    for A, G in last_of_each_size(tensors(net, image, target)):
        yield sum(G[k].clamp(min=0) * A[k] for k in range(len(A))).clamp(min=0)


@twin_of("layercam_fused")
def slow_layercam_fused(net, image, target, seed):
    maps = [m / m.max() if m.max() > 0 else m for m in layercams(net, image, target)]
    up = [enlarge(torch.tanh(2 * m) if n + 1 < len(maps) else m, net.image_size) for n, m in enumerate(maps)]
    total = up[0]
    for other in up[1:]:
        total = torch.where(other > total, other, total)
    return total


@twin_of("layercam_fused_tanh")
def slow_layercam_fused_tanh(net, image, target, seed):
    up = [enlarge(torch.tanh(2 * stretch(m)), net.image_size) for m in layercams(net, image, target)]
    total = up[0]
    for other in up[1:]:
        total = torch.where(other > total, other, total)
    return total


@twin_of("layercam_mean")
def slow_layercam_mean(net, image, target, seed):
    up = [enlarge(stretch(m), net.image_size) for m in layercams(net, image, target)]
    return sum(up) / len(up)


@twin_of("zoomcam")
def slow_zoomcam(net, image, target, seed):
    total = torch.zeros(net.image_size, dtype=torch.float64)
    for A, G in last_of_each_size(tensors(net, image, target)):
        up = enlarge(stretch(sum(G[k] * A[k] for k in range(len(A))).clamp(min=0)), net.image_size)
        total = torch.where(up > total, up, total)
    return total


def psi_sum(channels, size):
    """Enlarge channel by channel, then add: as the authors do."""
    return sum(enlarge(channel, size, corners=True) for channel in stretch(channels.abs()))


@twin_of("fullgrad")
def slow_fullgrad(net, image, target, seed):
    (_, x, Gx), *layers = tensors(net, image, target)
    total = stretch((x * Gx).abs()).sum(0)
    for module, _, G in layers:
        if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            total = total + psi_sum(
                torch.stack([b.item() * g for b, g in zip(module.bias, G, strict=True)]), x.shape[1:]
            )
    return total


@twin_of("fullgrad_by_channel")
def slow_fullgrad_by_channel(net, image, target, seed):
    (_, x, Gx), *layers = tensors(net, image, target)
    total = sum(stretch((x[c] * Gx[c]).abs()) for c in range(3))
    for module, _, G in layers:
        if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            for b, g in zip(module.bias, G, strict=True):
                total = total + enlarge(stretch((b.item() * g).abs()), x.shape[1:])
    return total


@twin_of("simple_fullgrad")
def slow_simple_fullgrad(net, image, target, seed):
    (_, x, Gx), *layers = tensors(net, image, target)
    total = stretch((x * Gx).abs()).sum(0)
    for module, _, G in layers:
        if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            total = total + psi_sum(G, x.shape[1:])
    return total

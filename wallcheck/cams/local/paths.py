"""Local, averaged over a path to the image: gradients along it meet what each cell has gained on it."""

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.cams._slopes import several
from wallcheck.evidence import Evidence

STEPS = 10


@cam_method(
    family="local",
    source="Barkan et al. 2023 (IIA), two integrals: over the image and over its layer, 10 x 10 steps from a zero image; the "
    "authors' code takes a layer's minimum over an axis of length 1 for its start, which leaves one point of the inner path",
    cost="11F+100(f+b)",
    verdict="zero",
)
def iia(ev: Evidence) -> Tensor:
    """mean_t mean_s sum_k G_k(A(0) + s (A(t) - A(0))) * relu(s (A_k(t) - A_k(0))), A(t) the layer of the image t x.

    Both t and s are 1/10 .. 1. What a cell has lost on the way counts for nothing.
    """
    start = ev.at(torch.zeros_like(ev.images)).activations
    total = torch.zeros_like(start)
    for images in several(ev, (ev.images * (step / STEPS) for step in range(1, STEPS + 1))):
        point, before = ev.at(images), start.repeat(len(images) // len(ev.images), 1, 1, 1)
        for share in range(1, STEPS + 1):
            gained = share / STEPS * (point.activations - before)
            added = slope_at(point, before + gained) * gained.clamp(min=0)
            total = total + added.unflatten(0, (-1, len(ev.images))).sum(0)
    return total.sum(1) / STEPS**2


def slope_at(ev: Evidence, activations: Tensor) -> Tensor:
    """d score / d A, (B, K, h, w), at other activations than the images' own."""
    with ev.plainly(), torch.enable_grad():
        leaf = activations.detach().requires_grad_()
        (slope,) = torch.autograd.grad(ev.explained(ev.graph.logits(leaf, ev.beside)).sum(), leaf)
    return slope

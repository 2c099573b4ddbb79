"""Rescoring with learnt weights: the weights that make the masked image score highest."""

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.cams.rescoring.masks import stretched, upsample
from wallcheck.evidence import Evidence
from wallcheck.numerics import weighted_sum

STEPS = 100
RATE = 0.1
BETAS = 0.9, 0.999  # Adam's memory of slopes and of their squares
FLOOR = 1e-8  # in units of the slope, Adam's published epsilon


@cam_method(
    family="rescoring",
    source="Zhang et al. 2023 (Opti-CAM), eq. 6-9; plain objective, 100 steps of Adam at rate 0.1, no early stop",
    cost="1F+100(F+B)",
    verdict="leaks",
)
def opticam(ev: Evidence) -> Tensor:
    """sum_k w_k relu(A_k), w = softmax(u), u maximising y(x * N(U(sum_k w_k relu(A_k)))).

    u starts constant (0; any constant is the same) and takes 100 steps of Adam (rate 0.1, beta 0.9
    and 0.999) on the logit itself; released copies use rates from 0.01 to 0.2 and stop early, for a
    whole batch at once, when a check every tenth step finds no progress. Images do not touch each
    other: Adam works entry by entry. A constant map has the mask 0 and no gradient.
    """
    maps = ev.activations.clamp(min=0)
    size = ev.chunk(6 * ev.graph.widest)  # a backward keeps what every layer made
    parts = torch.arange(len(maps)).split(size)
    weights = torch.cat([learnt_weights(ev, part.to(maps.device), maps[part]) for part in parts])
    return weighted_sum(weights, maps)


def learnt_weights(ev: Evidence, which: Tensor, maps: Tensor) -> Tensor:
    """(n, K): softmax(u) after Adam (Kingma and Ba 2015), for the images of these numbers and their maps (n, K, h, w)."""
    images = ev.images[which][(..., *ev.graph.visible)]
    u, mean, square = (torch.zeros(maps.shape[:2]).to(maps) for _ in range(3))
    for step in range(1, STEPS + 1):
        slope = slope_of_weights(ev, which, images, maps, u)
        mean = BETAS[0] * mean + (1 - BETAS[0]) * slope
        square = BETAS[1] * square + (1 - BETAS[1]) * slope.square()
        spread = (square / (1 - BETAS[1] ** step)).sqrt()
        u = u + RATE * mean / (1 - BETAS[0] ** step) / (spread + FLOOR)
    return u.softmax(1)


def slope_of_weights(ev: Evidence, which: Tensor, images: Tensor, maps: Tensor, u: Tensor) -> Tensor:
    """(n, K): d y(x * N(U(sum_k softmax(u)_k A_k))) / d u, from the visible parts of the images."""
    with ev.plainly(), torch.enable_grad():
        leaf = u.detach().requires_grad_()
        cells = stretched(weighted_sum(leaf.softmax(1), maps), ev.net.image_size)
        masks = upsample(cells, ev.net.image_size)[(..., *ev.graph.visible)]
        answers = ev.graph.visible_logits(images * masks[:, None])
        (slope,) = torch.autograd.grad(ev.of_target(answers, which).sum(), leaf)
    return slope

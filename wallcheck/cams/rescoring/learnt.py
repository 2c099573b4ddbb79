"""Rescoring with learnt weights: the weights that make the masked image score highest."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.cams.rescoring.masks import stretched, upsample
from wallcheck.data import MEAN, STD
from wallcheck.evidence import Evidence
from wallcheck.numerics import weighted_sum

RATE = 0.1
BETAS = 0.9, 0.999  # Adam's memory of slopes and of their squares
FLOOR = 1e-8  # in units of the slope, Adam's published epsilon
MEAN_COLOUR = (0.0, 0.0, 0.0)
BLACK = tuple(-mean / deviation for mean, deviation in zip(MEAN, STD, strict=True))


@dataclass(frozen=True)
class Search:
    """How the weights are looked for: steps of Adam; check: an image stops when its score has fallen between two
    checks so many steps apart (never, if None); hidden: the colour that a mask of 0 leaves."""

    steps: int = 100
    check: int | None = None
    hidden: tuple[float, float, float] = MEAN_COLOUR


def opticam_with(search: Search, exact: bool = True) -> Callable[[Evidence], Tensor]:
    """Opti-CAM by this search, in float64 unless exact is False."""

    def opticam(ev: Evidence) -> Tensor:
        """sum_k w_k relu(A_k), w = softmax(u), u maximising y(x * N(U(sum_k w_k relu(A_k)))).

        u starts constant (0; any constant is the same) and takes steps of Adam (rate 0.1, beta 0.9
        and 0.999) on the logit itself. Images do not touch each other: Adam works entry by entry. A constant map
        has the mask 0 and no gradient.

        Adam gives a slope that is all rounding error a full step, so in float32 rounding alone can move the map: by 0.09 to
        0.24 of its peak where it was met on untrained nets, hardly on trained ones. The search therefore runs in float64, on a copy of the net of twice its size that is kept
        for as long as the evidence is.
        """
        precise = ev.once(in_double) if exact else ev
        maps = precise.activations.clamp(min=0)
        size = precise.chunk(6 * precise.graph.widest)  # a backward keeps what every layer made
        parts = torch.arange(len(maps), device=maps.device).split(size)
        weights = torch.cat([learnt_weights(precise, part, maps[part], search) for part in parts])
        return weighted_sum(weights.to(ev.activations), ev.activations.clamp(min=0))

    return opticam


OPTICAM: dict[str, Any] = dict(family="rescoring", verdict="leaks")

opticam = cam_method(
    **OPTICAM,
    name="opticam",
    source="Zhang et al. 2023 (Opti-CAM), eq. 6-9; plain objective, 100 steps of Adam at rate 0.1, no early stop; float64",
    cost="1F+100(F+B)",
)(opticam_with(Search()))

opticam_authors = cam_method(
    **OPTICAM,
    name="opticam_authors",
    source="Zhang et al. 2023 (Opti-CAM), the authors' code: the mask lies on the image before normalisation (ImageNet's), so "
    "what it hides is black; at most 50 steps of Adam at rate 0.1, ended when a check every 5 finds the score fallen "
    "(there for the whole batch, here image by image); float64",
    cost="1F+50(F+B)",
)(opticam_with(Search(steps=50, check=5, hidden=BLACK)))


def in_double(ev: Evidence) -> Evidence:
    """The same question to the graph in float64."""
    if ev.images.dtype == torch.float64:
        return ev
    return Evidence(ev.net, ev.images, ev.targets, seed=ev.seed, budget_mb=ev.budget_mb, graph=ev.graph.double())


def learnt_weights(ev: Evidence, which: Tensor, maps: Tensor, search: Search) -> Tensor:
    """(n, K): softmax(u) after Adam (Kingma and Ba 2015), for the images of these numbers and their maps (n, K, h, w)."""
    images = ev.images[which][(..., *ev.graph.visible)]
    u, mean, square = (torch.zeros(maps.shape[:2]).to(maps) for _ in range(3))
    running, best = torch.ones(len(maps), 1, dtype=torch.bool, device=maps.device), -torch.inf
    for step in range(1, search.steps + 1):
        score, slope = slope_of_weights(ev, which, images, maps, u, search.hidden)
        if search.check and (step - 1) % search.check == 0:
            running, best = running & (score >= best)[:, None], score
        mean = BETAS[0] * mean + (1 - BETAS[0]) * slope
        square = BETAS[1] * square + (1 - BETAS[1]) * slope.square()
        spread = (square / (1 - BETAS[1] ** step)).sqrt()
        stepped = u + RATE * mean / (1 - BETAS[0] ** step) / (spread + FLOOR)
        u = torch.where(running, stepped, u)
    return u.softmax(1)


def slope_of_weights(
    ev: Evidence, which: Tensor, images: Tensor, maps: Tensor, u: Tensor, hidden: tuple[float, float, float]
) -> tuple[Tensor, Tensor]:
    """y(x * M + hidden * (1 - M)), (n,), and its slope in u, (n, K), M = N(U(sum_k softmax(u)_k A_k)); images are visible
    parts."""
    colour = images.new_zeros(max(3, images.shape[1]), 1, 1)
    colour[:3, 0, 0] = images.new_tensor(hidden)
    with ev.plainly(), torch.enable_grad():
        leaf = u.detach().requires_grad_()
        cells = stretched(weighted_sum(leaf.softmax(1), maps), ev.net.image_size)
        masks = upsample(cells, ev.net.image_size)[(..., *ev.graph.visible)][:, None]
        answers = ev.graph.visible_logits(images * masks + colour[: images.shape[1]] * (1 - masks))
        scores = ev.of_target(answers, which)
        (slope,) = torch.autograd.grad(scores.sum(), leaf)
    return scores.detach(), slope

"""Recipro-CAM: the value of a cell is the class's probability when the rest of the map is empty.

An unseen cell on its own leaves the head an empty map, so all unseen cells share the empty map's
probability, which is never 0.
"""

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.numerics import probabilities

KERNEL = ((1, 2, 1), (2, 4, 2), (1, 2, 1))  # over 16


@cam_method(
    family="ablation",
    source="Byun and Lee 2022 (Recipro-CAM), softmax, no spread: what the authors' 2024 code runs",
    cost="1F+Z f",
    verdict="zero_but_offset",
)
def reciprocam(ev: Evidence) -> Tensor:
    """softmax(head(A with all cells but u set to 0))_c. The paper then stretches the map to [0, 1]."""
    return ev.once(lone_probability)


@cam_method(
    family="ablation",
    source="Byun and Lee 2022 (Recipro-CAM), softmax, 3 x 3 spread, an option of their code",
    cost="1F+Z f",
    verdict="zero_but_offset_and_rim",
)
def reciprocam_spread(ev: Evidence) -> Tensor:
    """softmax(head(the fibre of u, laid on u and its neighbours with weights [1 2 1]^2 / 16, all else 0))_c.

    The fibre itself is copied to the neighbours, so an unseen cell beside the wall is carried
    through it: the map there depends on what the model cannot see.
    """
    return probability_alone(ev, spread_cells(ev))


@cam_method(
    family="repair",
    source="wallcheck: Recipro-CAM without spread, the empty map's probability subtracted",
    cost="1F+Z f",
    verdict="zero",
    repairs="reciprocam",
)
def reciprocam_subtracted(ev: Evidence) -> Tensor:
    """softmax(head(A with all cells but u set to 0))_c - softmax(head(0))_c."""
    return ev.once(lone_probability) - empty_probability(ev)[:, None, None]


def lone_probability(ev: Evidence) -> Tensor:
    """(B, h, w): the class's probability when all cells but u are set to 0."""
    each = torch.eye(ev.cells, device=ev.images.device, dtype=ev.images.dtype).view(-1, *ev.unseen.shape)
    return probability_alone(ev, each)


def probability_alone(ev: Evidence, laid: Tensor) -> Tensor:
    """(B, h, w): the class's probability when the fibre of cell u is laid on an empty map with weights laid[u].

    laid (Z, h, w). A fibre laid on unseen cells alone is not scored: it is given the empty map's
    probability itself, so that both are the same to the bit.
    """
    heard = (laid * ~ev.unseen).flatten(1).any(1).nonzero()[:, 0]
    fibres = ev.activations.flatten(2).transpose(1, 2)  # (B, Z, K)
    maps = empty_probability(ev)[:, None].repeat(1, ev.cells)
    for image, target in enumerate(ev.targets.tolist()):
        for cells in heard.split(ev.chunk(ev.activations[0].numel())):
            placed = fibres[image, cells][:, :, None, None] * laid[cells][:, None]
            maps[image, cells] = probabilities(ev.rescore(placed, image))[:, target]
    return maps.view(-1, *ev.unseen.shape)


def empty_probability(ev: Evidence) -> Tensor:
    """(B,): probability of the explained class for an all-zero map."""
    if not ev.graph.has_beside:
        return probabilities(ev.rescore(torch.zeros_like(ev.activations[:1])))[0, ev.targets]
    owner = torch.arange(len(ev.images))
    return probabilities(ev.rescore(torch.zeros_like(ev.activations), owner)).gather(1, ev.targets[:, None])[:, 0]


def spread_cells(ev: Evidence) -> Tensor:
    """(Z, h, w): each cell on itself and its neighbours, cut off at the border of the map."""
    each = torch.eye(ev.cells, device=ev.images.device, dtype=ev.images.dtype).view(-1, *ev.unseen.shape)
    kernel = torch.tensor(KERNEL, device=ev.images.device, dtype=ev.images.dtype) / 16
    return torch.nn.functional.conv2d(each[:, None], kernel[None, None], padding=1)[:, 0]

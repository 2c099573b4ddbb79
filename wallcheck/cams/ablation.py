"""Ablation and attribution through the head: the weight of a channel is the head's answer when it changes."""

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.numerics import weighted_sum


@cam_method(
    family="ablation",
    source="Desai and Ramaswamy 2020, eq. 4, without the division by y",
    cost="1F+K f",
    verdict="may_leak",
)
def ablationcam(ev: Evidence) -> Tensor:
    """w_k = y - y(A with channel k set to 0).

    The published division by y only rescales the map for y > 0 and turns it upside down for y < 0.
    """
    return weighted_sum(ev.score[:, None] - ablated_scores(ev), ev.activations)


def ablated_scores(ev: Evidence) -> Tensor:
    """(B, K): the explained logit with one channel set to 0."""
    columns = []
    for k in range(ev.activations.shape[1]):
        without = ev.activations.clone()
        without[:, k] = 0
        columns.append(ev.of_target(ev.rescore(without)))
    return torch.stack(columns, 1)

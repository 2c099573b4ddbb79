"""Rescoring with learnt weights: the weights that make the masked image score highest."""

import torch
from torch import Tensor

from wallcheck.cams._masks import stretched, upsample
from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.models import in_mode
from wallcheck.numerics import weighted_sum

STEPS = 100
RATE = 0.1


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
    size = ev.chunk(6 * ev.widest)  # a backward keeps what every layer made
    parts = torch.arange(len(maps)).split(size)
    weights = torch.cat([learnt_weights(ev, part.to(maps.device), maps[part]) for part in parts])
    return weighted_sum(weights, maps)


def learnt_weights(ev: Evidence, which: Tensor, maps: Tensor) -> Tensor:
    """(n, K): softmax(u) after Adam, for the images of these numbers and their maps (n, K, h, w)."""
    logits = torch.zeros(maps.shape[:2]).to(maps).requires_grad_()
    adam = torch.optim.Adam([logits], lr=RATE, maximize=True)
    images = ev.images[which][(..., *ev.net.visible)]
    with in_mode(ev.net), torch.enable_grad():
        for _ in range(STEPS):
            cells = stretched(weighted_sum(logits.softmax(1), maps), ev.net.image_size)
            masks = upsample(cells, ev.net.image_size)[(..., *ev.net.visible)]
            answers = ev.net.head(ev.net.seen_cells(images * masks[:, None]))
            (logits.grad,) = torch.autograd.grad(ev.of_target(answers, which).sum(), logits)
            adam.step()
    return logits.detach().softmax(1)

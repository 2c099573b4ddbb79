"""Rescoring: the weight of a channel is the score of the image seen through that channel's own map.

The weights are positive, so nothing cancels: wherever a channel is alive it lights up, seen or not.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.numerics import unit_range, weighted_sum


@cam_method(
    family="rescoring",
    source="Wang et al. 2020, eq. 4-8; softmax over channels of logits, masks stretched after upsampling",
    cost="1F+K F",
    verdict="leaks",
)
def scorecam(ev: Evidence) -> Tensor:
    """w = softmax_k y(x * M_k), M_k the upsampled A_k stretched to [0, 1].

    The paper's baseline score is one constant per image and cancels in the softmax.
    """
    scores = torch.stack([masked_scores(ev, i) for i in range(len(ev.images))])
    return weighted_sum(scores.softmax(1), ev.activations)


def masked_scores(ev: Evidence, image: int) -> Tensor:
    """(K,): the explained logit of one image seen through each channel; equal masks are scored once.

    A constant channel (a dead one above all) has the all-zero mask, so all of them share one forward.
    """
    maps = ev.activations[image]
    flat = maps.amax((1, 2)) == maps.amin((1, 2))
    living = (~flat).nonzero()[:, 0]
    order = torch.cat([living, flat.nonzero()[:1, 0]])

    def masked(part: slice) -> Tensor:
        up = interpolate(maps[order[part]][None], ev.net.image_size, mode="bilinear", align_corners=True)[0]
        return ev.images[image] * unit_range(up)[:, None]

    logits = ev.rescore_images(masked, len(order))[:, ev.targets[image]]
    scores = logits[-1:].expand(len(maps)).clone()
    scores[living] = logits[: len(living)]
    return scores

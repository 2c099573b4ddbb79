"""Twins of the sealed methods: the base's twin, cut by the wall that the net declares instead of by any gradient."""

import torch

from tests.reference import TWINS, twin_of

BASES = ("gradcam", "gradcampp", "xgradcam", "ablationcam", "scorecam", "liftcam", "eigencam", "rise", "rise_centred")


def sealed_twin(base):
    @twin_of(f"sealed_{base}")
    def slow(net, image, target, seed):
        map_ = TWINS[base](net, image, target, seed)
        hidden = net.wall.unseen if map_.shape == net.wall.unseen.shape else net.regions.unseen
        for i, j in zip(*hidden.nonzero(), strict=True):
            map_[i, j] = 0
        return map_.to(torch.float64)

    return slow


for base in BASES:
    sealed_twin(base)

"""Images masked by their maps, and what the net makes of them: the probabilities that faithfulness metrics compare.

A masked pixel is 0 in normalised space, the mean of ImageNet. All images go through `Evidence.rescore_images`,
which computes only what the net can see. Probabilities are double: near 1 a single one has no room for a gain.
"""

import torch
from torch import Tensor

from wallcheck.evidence import Evidence
from wallcheck.numerics import probabilities

STEPS = 24


def chances(ev: Evidence, masks: Tensor) -> Tensor:
    """p of the explained class for each image times each of its masks, (B, N, H, W) -> (B, N)."""
    owner = torch.arange(len(masks), device=masks.device).repeat_interleave(masks.shape[1])
    flat = masks.flatten(0, 1)[:, None]
    logits = ev.rescore_images(lambda piece: ev.images[owner[piece]] * flat[piece], len(flat))
    return ev.of_target(probabilities(logits.double()), owner).view(masks.shape[:2])


def asked(ev: Evidence, shown: Tensor, steps: int = STEPS) -> dict[str, Tensor]:
    """What each faithfulness metric asks for, by the names of `wallcheck.metrics.ASKED`.

    shown (B, H, W): maps from 0 to 1. kept and removed are (B,), deleted and inserted (B, steps + 1). An empty
    map says nothing, so its probabilities are NaN. Raises ValueError for maps outside [0, 1].
    """
    if shown.shape != ev.images[:, 0].shape or (shown < 0).any() or (shown > 1).any():
        raise ValueError(
            f"maps are {tuple(shown.shape)} from {shown.min():.3g} to {shown.max():.3g}, expected "
            f"{tuple(ev.images[:, 0].shape)} from 0 to 1; wallcheck.maps.displayed makes them so"
        )
    first = brightest_first(ev, shown, steps)
    found = {
        "kept": chances(ev, shown[:, None])[:, 0],
        "removed": chances(ev, 1 - shown[:, None])[:, 0],
        "deleted": chances(ev, ~first),
        "inserted": chances(ev, first),
    }
    empty = (shown == 0).flatten(1).all(1)
    return {name: p.masked_fill(empty.view(-1, *[1] * (p.ndim - 1)), torch.nan) for name, p in found.items()}


def brightest_first(ev: Evidence, maps: Tensor, steps: int) -> Tensor:
    """(B, steps + 1, H, W) Boolean: the brightest 0, 1, ..., all `steps`-ths of the pixels of maps (B, H, W).

    Equal pixels come in a random order, the same for every image: whatever order an image is stored in
    would favour its top rows, and most maps are 0 over half the image.
    """
    values = maps.flatten(1)
    count = values.shape[1]
    shuffled = torch.randperm(count, generator=ev.generator(salt=71), device=values.device)
    order = shuffled[values[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    place = torch.empty_like(order).scatter_(1, order, torch.arange(count, device=order.device).expand_as(order))
    step = torch.arange(steps + 1, device=order.device)[:, None]
    return (place[:, None] * steps < step * count).view(len(maps), steps + 1, *maps.shape[1:])

"""Rescoring of several layers' masks, each layer's map cut to where the next one is bright (SISE)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wallcheck.cams._layers import by_portion, stages
from wallcheck.cams._method import cam_method
from wallcheck.cams.rescoring.masks import chances_through, stretched, upsample
from wallcheck.evidence import Evidence
from wallcheck.numerics import unit_range

SISE: dict[str, Any] = dict(family="rescoring", grid="pixels", verdict="may_leak")
SOURCE = "Sattarzadeh et al. 2021 (SISE); last layer of each resolution, Otsu's threshold without a histogram; {}"


def fused_with(chosen: Callable[[Tensor], Tensor]) -> Callable[[Evidence], Tensor]:
    """SISE with chosen(mean gradients (B, K)) -> (B, K) Boolean, the channels that make masks."""

    @by_portion
    def fused(ev: Evidence) -> Tensor:
        """F_1 = V_1, F_l = (F_{l-1} + V_l) * [V_l > its Otsu threshold], V_l = N(sum_k p(x * M_k) M_k), M_k = N(U(A_k)).

        From the shallowest layer to the target layer. Scores are probabilities. A layer whose V is one value, as where no
        channel is chosen, has no bright part and empties the map. The last layer decides what is lit at all, so what it
        says behind the wall stands.
        """
        total: Tensor | None = None
        for layer in stages(ev):
            here = seen_through(ev, layer.output, chosen(layer.gradient.mean((2, 3))))
            total = here if total is None else (total + here) * brighter_part(here)
        return total

    return fused


def positive(slopes: Tensor) -> Tensor:
    """(B, K) Boolean: channels whose mean gradient speaks for the class."""
    return slopes > 0


def outstanding(slopes: Tensor) -> Tensor:
    """(B, K) Boolean: channels whose mean gradient exceeds Otsu's threshold of the positive ones; all positive ones where these
    are equal."""
    cuts = [otsu(row[row > 0]) if (row > 0).any() else None for row in slopes]
    return torch.stack([row > (0 if cut is None else cut) for row, cut in zip(slopes, cuts, strict=True)])


sise = cam_method(
    **SISE,
    name="sise",
    source=SOURCE.format("channels of positive mean gradient (mu = 0)"),
    cost="2F+1B+sum_l K_l/2 F",
)(fused_with(positive))

adasise = cam_method(
    **SISE,
    name="adasise",
    source=SOURCE.format(
        "Sudhakar et al. 2021 (Ada-SISE): channels above Otsu's threshold of the positive mean gradients"
    ),
    cost="2F+1B+sum_l K_l/4 F",
)(fused_with(outstanding))


def seen_through(ev: Evidence, activations: Tensor, chosen: Tensor) -> Tensor:
    """V (B, H, W): masks of the chosen channels of a layer (B, K, h, w), each times its score, added up and stretched."""
    maps = []
    for image, (layer, which) in enumerate(zip(activations, chosen, strict=True)):
        if which.any():
            cells = stretched(layer[which], ev.net.image_size)
            maps.append(torch.einsum("n,nhw->hw", chances_through(ev, image, cells), cells))
        else:
            maps.append(torch.zeros_like(layer[0]))
    return unit_range(upsample(torch.stack(maps), ev.net.image_size))


def brighter_part(maps: Tensor) -> Tensor:
    """(B, H, W) Boolean: the pixels of each map above its Otsu threshold."""
    cuts = [otsu(map_.flatten()) for map_ in maps]
    return torch.stack(
        [torch.zeros_like(m, dtype=torch.bool) if cut is None else m > cut for m, cut in zip(maps, cuts, strict=True)]
    )


def otsu(values: Tensor) -> Tensor | None:
    """The value of (n,) up to which the lower class goes when values are cut in two of the largest variance between; None
    where all are equal (Otsu 1979, every cut tried).

    >>> otsu(torch.tensor([1.0, 9.0, 2.0, 8.0]))
    tensor(2.)
    """
    ordered = values.sort().values
    count = torch.arange(1, len(values), device=values.device)
    below = ordered.double().cumsum(0)
    low, high = below[:-1] / count, (below[-1] - below[:-1]) / (len(values) - count)
    between = count * (len(values) - count) * (high - low).square()
    between = between.masked_fill(ordered[1:] == ordered[:-1], -torch.inf)
    return ordered[between.argmax()] if len(count) and between.max() > -torch.inf else None

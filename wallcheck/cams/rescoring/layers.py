"""Rescoring at several layers: Score-CAM-like maps of every resolution, multiplied from deep to shallow (Poly-CAM)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.cams.rescoring.masks import chances_through, upsample
from wallcheck.evidence import Evidence
from wallcheck.numerics import probabilities, ratio

POLYCAM: dict[str, Any] = dict(family="rescoring", verdict="may_leak", grid="pixels")
SOURCE = "Englebert et al. 2022 (Poly-CAM), {}; masks as in the authors' code"
TAIL = 0.001  # of a map's values, cut off at either end


@cam_method(**POLYCAM, source=SOURCE.format("PCAM+"), cost="2F+sum_l K_l F")
def polycam_plus(ev: Evidence) -> Tensor:
    """w_k = p(x * M_k): the class's probability when only this map's place is shown. See `merged`."""
    return merged(ev, ev.once(shown))


@cam_method(**POLYCAM, source=SOURCE.format("PCAM-"), cost="3F+sum_l K_l F")
def polycam_minus(ev: Evidence) -> Tensor:
    """w_k = relu(p(x) - p(x * (1 - M_k))): what is lost when this map's place is hidden. See `merged`."""
    whole = ev.of_target(probabilities(ev.logits))[:, None]
    return merged(ev, [(whole - without).clamp(min=0) for without in ev.once(hidden)])


@cam_method(**POLYCAM, source=SOURCE.format("PCAM+-"), cost="4F+2 sum_l K_l F")
def polycam(ev: Evidence) -> Tensor:
    """w_k = relu(p(x * M_k) + p(x) - p(x * (1 - M_k))): both at once. See `merged`."""
    whole = ev.of_target(probabilities(ev.logits))[:, None]
    pairs = zip(ev.once(shown), ev.once(hidden), strict=True)
    return merged(ev, [(alone + whole - without).clamp(min=0) for alone, without in pairs])


def layers(ev: Evidence, image: int) -> list[Tensor]:
    """Activations (K_l, h_l, w_l) of one image in the last layer of every resolution, shallow to deep; the target layer
    last. Together they are large, so no more than one image's are held."""
    with ev.plainly(), torch.no_grad():
        return [maps[0] for maps in ev.graph.stage_maps(ev.images[image : image + 1])]


def shown(ev: Evidence) -> list[Tensor]:
    """Per layer, (B, K_l): the explained class's probability with only the place of a channel shown, p(x * M_k)."""
    return each_layer(ev, lambda image, cells: chances_through(ev, image, cells))


def hidden(ev: Evidence) -> list[Tensor]:
    """Per layer, (B, K_l): the explained class's probability with the place of a channel hidden, p(x * (1 - M_k))."""
    return each_layer(ev, lambda image, cells: chances_through(ev, image, cells, paint=lambda x, m: x * (1 - m)))


def each_layer(ev: Evidence, answers: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
    """Per layer, (B, K_l): answers(image, masks (K_l, h_l, w_l)) of each image."""
    by_image = []
    for image in range(len(ev.images)):
        left, found = layers(ev, image), []
        while left:  # deep to shallow, and let go: the shallow layers, done last, are the large ones
            found.insert(0, answers(image, masks(left.pop())))
        by_image.append(found)
    return [torch.stack(layer) for layer in zip(*by_image, strict=True)]


def masks(maps: Tensor) -> Tensor:
    """Cells (K, h, w) of M_k = U(clip((A_k - q) / r, 0, 1)), q and r the 0.1 and 99.9 % quantiles of A_k.

    The authors' code divides by r, not by r - q. A map with r = 0 has the mask 0.
    """
    tails = torch.tensor([TAIL, 1 - TAIL], dtype=maps.dtype, device=maps.device)
    low, high = torch.stack([each.flatten().quantile(tails) for each in maps], 1)[..., None, None]  # a sort of one map
    return (maps - low).mul_(ratio(torch.ones_like(high), high.clamp(min=0))).clamp_(0, 1)


def merged(ev: Evidence, weights: list[Tensor]) -> Tensor:
    """P_1 at the image's size: R_l = relu(sum_k w_k A_k), P_L = R_L, P_l = R_l / U(D(R_l)) * U(P_{l+1}).

    D reduces to the size of the deeper layer (bilinear), so that R_l adds only its contrast within a
    deeper cell; 0 where that local mean is 0, where the authors' code divides by 1e-12 instead: the same to rounding
    where each layer is twice as fine as the next, since U(D(R)) is then 0 only where R is. The product is zero only where some factor is: a
    gated deepest map would repair it, but R_L is Score-CAM-like and leaks.
    """
    by_image = [
        [torch.einsum("k,khw->hw", w[image], maps) for w, maps in zip(weights, layers(ev, image), strict=True)]
        for image in range(len(ev.images))
    ]
    maps = [torch.stack(layer).clamp(min=0) for layer in zip(*by_image, strict=True)]
    product = maps[-1]
    for here in reversed(maps[:-1]):
        size = tuple(here.shape[1:])
        local = upsample(upsample(here, tuple(product.shape[1:])), size)
        product = ratio(here, local) * upsample(product, size)
    return upsample(product, ev.net.image_size)

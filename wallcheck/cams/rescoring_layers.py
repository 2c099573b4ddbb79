"""Rescoring at several layers: Score-CAM-like maps of every resolution, multiplied from deep to shallow (Poly-CAM)."""

import torch
from torch import Tensor

from wallcheck.cams._masks import chances_through, upsample
from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.models import chain, in_mode
from wallcheck.numerics import ratio, weighted_sum

POLYCAM = dict(family="rescoring", verdict="may_leak", grid="pixels")
SOURCE = "Englebert et al. 2022 (Poly-CAM), {}; masks as in the authors' code"
TAIL = 0.001  # of a map's values, cut off at either end


@cam_method(**POLYCAM, source=SOURCE.format("PCAM+"), cost="2F+sum_l K_l F")
def polycam_plus(ev: Evidence) -> Tensor:
    """w_k = p(x * M_k): the class's probability when only this map's place is shown. See `merged`."""
    return merged(ev, ev.once(shown))


@cam_method(**POLYCAM, source=SOURCE.format("PCAM-"), cost="2F+sum_l K_l F")
def polycam_minus(ev: Evidence) -> Tensor:
    """w_k = relu(p(x) - p(x * (1 - M_k))): what is lost when this map's place is hidden. See `merged`."""
    whole = ev.of_target(ev.logits.softmax(1))[:, None]
    return merged(ev, [(whole - without).clamp(min=0) for without in ev.once(hidden)])


@cam_method(**POLYCAM, source=SOURCE.format("PCAM+-"), cost="2F+2 sum_l K_l F")
def polycam(ev: Evidence) -> Tensor:
    """w_k = relu(p(x * M_k) + p(x) - p(x * (1 - M_k))): both at once. See `merged`."""
    whole = ev.of_target(ev.logits.softmax(1))[:, None]
    pairs = zip(ev.once(shown), ev.once(hidden), strict=True)
    return merged(ev, [(alone + whole - without).clamp(min=0) for alone, without in pairs])


def layers(ev: Evidence) -> list[Tensor]:
    """Activations (B, K_l, h_l, w_l) of the last layer of every resolution, shallow to deep; the target layer last."""
    kept, maps = [], ev.images
    with in_mode(ev.net), torch.no_grad():
        for module in chain(ev.net.features):
            before, maps = maps, module(maps)
            if maps.shape[2:] != before.shape[2:] and before is not ev.images:
                kept.append(before)
    return [*kept, maps]


def shown(ev: Evidence) -> list[Tensor]:
    """Per layer, (B, K_l): the explained class's probability with only the place of a channel shown, p(x * M_k)."""
    return [torch.stack([chances_through(ev, i, each) for i, each in enumerate(masks(maps))]) for maps in layers(ev)]


def hidden(ev: Evidence) -> list[Tensor]:
    """Per layer, (B, K_l): the explained class's probability with the place of a channel hidden, p(x * (1 - M_k))."""
    answers = []
    for maps in layers(ev):
        without = [chances_through(ev, i, each, paint=lambda x, m: x * (1 - m)) for i, each in enumerate(masks(maps))]
        answers.append(torch.stack(without))
    return answers


def masks(maps: Tensor) -> Tensor:
    """Cells (B, K, h, w) of M_k = U(clip((A_k - q) / r, 0, 1)), q and r the 0.1 and 99.9 % quantiles of A_k.

    The authors' code divides by r, not by r - q. A map with r = 0 has the mask 0.
    """
    low, high = (quantile(maps, share)[..., None, None] for share in (TAIL, 1 - TAIL))
    return ratio(maps - low, high.clamp(min=0)).clamp(0, 1)


def quantile(maps: Tensor, share: float) -> Tensor:
    """(B, K): a quantile of each map, linear between neighbouring values; image by image, as torch limits its size."""
    return torch.stack([each.flatten(1).quantile(share, dim=1) for each in maps])


def merged(ev: Evidence, weights: list[Tensor]) -> Tensor:
    """P_1 at the image's size: R_l = relu(sum_k w_k A_k), P_L = R_L, P_l = R_l / U(D(R_l)) * U(P_{l+1}).

    D reduces to the size of the deeper layer (bilinear), so that R_l adds only its contrast within a
    deeper cell; 0 where that local mean is 0. The product is zero only where some factor is: a
    gated deepest map would repair it, but R_L is Score-CAM-like and leaks.
    """
    maps = [weighted_sum(w, a).clamp(min=0) for w, a in zip(weights, layers(ev), strict=True)]
    product = maps[-1]
    for here in reversed(maps[:-1]):
        size = tuple(here.shape[1:])
        local = upsample(upsample(here, tuple(product.shape[1:])), size)
        product = ratio(here, local) * upsample(product, size)
    return upsample(product, ev.net.image_size)

"""Factorisations of one image's activations: parts instead of directions.

DFF asks the head nothing. DecomCAM chooses and weighs its parts by the head, but the parts are made
of whole channels.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wallcheck.cams._blur import blurred
from wallcheck.cams._method import cam_method
from wallcheck.cams.rescoring.masks import scores_through, stretched
from wallcheck.cams.subspace.eigen import fibres_of
from wallcheck.evidence import Evidence
from wallcheck.numerics import in_double, ratio, unit_range, weighted_sum


@cam_method(
    family="subspace",
    source="Collins et al. 2018 (DFF), one image, 4 factors; start, number of steps and the choice of one factor are ours",
    cost="1F",
    verdict="class_free",
)
def dff(ev: Evidence) -> Tensor:
    """X ~ W H with W, H >= 0; the map is W's column of the strongest factor, the largest |W_r| |H_r|.

    X (Z, K) are the fibres, negative activations cut off. The paper shows every factor, and so does
    `factors`; as one map stands the factor that explains most.
    """
    parts, profiles = factors(ev.activations.clamp(min=0))
    parts = parts * profiles.norm(dim=2)[:, None]
    strongest = parts.norm(dim=1).argmax(1)
    chosen = parts[torch.arange(len(parts), device=parts.device), :, strongest]
    return chosen.view(len(parts), *ev.wall.seen.shape).to(ev.activations.dtype)


def factors(activations: Tensor, rank: int = 4, steps: int = 60) -> tuple[Tensor, Tensor]:
    """W (B, Z, R) and H (B, R, K) of X ~ W H by multiplicative updates (Lee and Seung 2001), without a random start.

    H starts with the fibres that successive projection picks: the longest, then always the longest of
    what is left orthogonal to those picked. W starts as X H^T. A factor for which nothing is left is 0.
    """
    fibres = fibres_of(activations)
    profiles = extreme_fibres(fibres, rank)
    parts = fibres @ profiles.mT
    for _ in range(steps):
        parts = parts * ratio(fibres @ profiles.mT, parts @ (profiles @ profiles.mT))
        profiles = profiles * ratio(parts.mT @ fibres, (parts.mT @ parts) @ profiles)
    return parts, profiles


def extreme_fibres(fibres: Tensor, count: int) -> Tensor:
    """(B, count, K): rows of X (B, Z, K) by successive projection; 0 once less than 1e-9 of the longest is left."""
    left, picked, images = fibres, [], torch.arange(len(fibres), device=fibres.device)
    enough = 1e-9 * fibres.norm(dim=2).amax(1)
    for _ in range(count):
        length, place = left.norm(dim=2).max(1)
        direction = ratio(left[images, place], length[:, None])
        picked.append(torch.where((length > enough)[:, None], fibres[images, place], 0.0))
        left = left - (left @ direction[..., None]) * direction[:, None]
    return torch.stack(picked, 1)


def decomcam_with(channels: int, components: int) -> Callable[[Evidence], Tensor]:
    """DecomCAM of the `channels` channels with the largest Grad-CAM weights and this many components."""

    def decomposed(ev: Evidence) -> Tensor:
        """sum_q relu(y(x through M_q) - y(blurred x)) relu(P_q), P_q the q-th principal map of the w_k A_k.

        Outside its mask M_q, the upsampled P_q stretched to [0, 1], the image is blurred. A component
        that is constant has the mask 0 and weighs 0.
        """
        maps = principal_maps(ev, channels, components).clamp(min=0)
        weights = torch.stack([gains(ev, image, maps[image]) for image in range(len(maps))])
        return weighted_sum(in_double(weights), maps)  # products of 1e-21 are no single-precision numbers

    return decomposed


decomcam = cam_method(
    family="subspace",
    name="decomcam",
    source="Yang et al. 2024 (DecomCAM): 10 components of the 100 channels with the largest mean gradient, PCA centred; sign "
    "by the larger extreme, as scikit-learn's before 1.5; masks over the blurred image by addition, ours",
    cost="1F+1b+11F",
    verdict="may_leak",
)(decomcam_with(channels=100, components=10))


@cam_method(
    family="subspace",
    grid="pixels",
    source="Yang et al. 2024 (DecomCAM), the authors' code: 500 channels, bicubic maps and masks, masked and blurred image "
    "joined by their maximum, nothing taken off the score",
    cost="1F+1b+10F",
    verdict="may_leak",
)
def decomcam_authors(ev: Evidence) -> Tensor:
    """sum_q relu(y(max(x M_q, blur(x) (1 - M_q)))) U(relu(P_q)), M_q = N(U(relu(P_q))), U bicubic: below 0 here and there.

    The maximum is taken entry by entry. The weights' common scale and the cut of logits below 0.001 are left out; the
    blur is that of `decomcam`.
    """
    maps = principal_maps(ev, channels=500, components=10).clamp(min=0)
    fine = interpolate(maps, ev.net.image_size, mode="bicubic", align_corners=False)
    masks = unit_range(fine)[:, :, None]
    weights = []
    for image, target in enumerate(ev.targets.tolist()):
        sharp, behind, mask = ev.images[image], blurred(ev.images[image]), masks[image]

        def through(piece: slice, sharp=sharp, behind=behind, mask=mask) -> Tensor:
            return torch.maximum(sharp * mask[piece], behind * (1 - mask[piece]))

        weights.append(ev.rescore_images(through, len(mask))[:, target].clamp(min=0))
    return weighted_sum(in_double(torch.stack(weights)), fine)


def principal_maps(ev: Evidence, channels: int, components: int) -> Tensor:
    """(B, Q, h, w): projections of the cells on the first principal directions of the chosen w_k A_k, centred."""
    weights = ev.gradient.mean((2, 3))
    chosen = weights.topk(min(channels, weights.shape[1]), dim=1).indices
    weighted = (weights[..., None, None] * ev.activations).gather(
        1, chosen[..., None, None].expand(-1, -1, *ev.wall.seen.shape)
    )
    fibres = fibres_of(weighted)
    fibres = fibres - fibres.mean(1, keepdim=True)
    _, vectors = torch.linalg.eigh(fibres.mT @ fibres)
    maps = (fibres @ vectors[..., -components:].flip(-1)).mT  # (B, Q, Z)
    sign = torch.where(-maps.amin(2, keepdim=True) > maps.amax(2, keepdim=True), -1.0, 1.0)
    return (sign * maps).unflatten(2, ev.wall.seen.shape).to(ev.activations.dtype)


def gains(ev: Evidence, image: int, maps: Tensor) -> Tensor:
    """(Q,): what the logit of an image gains over its blurred self when seen through each map; never negative."""
    behind = blurred(ev.images[image])[(..., *ev.graph.visible)]
    cells = torch.cat([stretched(maps, ev.net.image_size), torch.zeros_like(maps[:1])])
    scores = scores_through(ev, image, cells, paint=lambda part, masks: behind + masks * (part - behind))
    return (scores[:-1] - scores[-1]).clamp(min=0)

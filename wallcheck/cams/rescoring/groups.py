"""Rescoring of groups of channels: one masked image per group instead of one per channel."""

import torch
from torch import Tensor

from wallcheck.cams._blur import reflected
from wallcheck.cams._method import cam_method
from wallcheck.cams.rescoring.masks import chances_through, scores_through, stretched
from wallcheck.evidence import Evidence
from wallcheck.numerics import weighted_sum

GROUPS = 32
CLUSTERS = 8
ROUNDS = 20


@cam_method(
    family="rescoring",
    source="Zhang et al. 2021 (Group-CAM), 32 groups of consecutive channels, rectified gain in probability",
    cost="1F+1b+33F",
    verdict="may_leak",
)
def groupcam(ev: Evidence) -> Tensor:
    """sum_g r_g T_g, T_g = relu(sum_{k in g} a_k A_k), a_k = mean_u G_k,
    r_g = relu(p(x * M_g + blur(x) * (1 - M_g)) - p(blur(x))), M_g = N(U(T_g)).

    A constant group has the mask 0, so r_g = 0: it is left out. The blur carries unseen pixels into
    seen ones.
    """
    groups = grouped(ev)
    gains = gains_over_blur(ev, [stretched(maps, ev.net.image_size) for maps in groups])
    return weighted_sum(gains.clamp(min=0), groups)


@cam_method(
    family="rescoring",
    source="Zhang et al. 2021 (Group-CAM), the code as released from 30 May to 18 August 2021 and not since: groups cut at "
    "their 70th percentile, gains keep their sign, stretched masks are added up",
    cost="1F+1b+33F",
    verdict="may_leak",
)
def groupcam_denoised(ev: Evidence) -> Tensor:
    """sum_g (p(x * M_g + blur(x) * (1 - M_g)) - p(blur(x))) M_g, M_g = N(U(T_g [T_g > its 70th percentile])).

    The map is given on the cells; U of it is the code's map before its final rectification. From March to May 2021
    the code cut the groups too but took no probability off; since 18 August it is `groupcam`, 0.4 to 1.0 of the peak
    away (docs/disagreements.md).
    """
    groups = grouped(ev)
    threshold = groups.flatten(2).quantile(0.7, dim=2)[..., None, None]
    masks = [stretched(maps, ev.net.image_size) for maps in groups * (groups > threshold)]
    return weighted_sum(gains_over_blur(ev, masks), torch.stack(masks))


@cam_method(
    family="rescoring",
    source="Feng et al. 2023 (Cluster-CAM): clusters of channels, a cognition base and cognition scissors, merged; "
    "clustering, number of clusters and the merge are our choices",
    cost="1F+8F",
    verdict="may_leak",
)
def clustercam(ev: Evidence) -> Tensor:
    """base - scissors: the mean map of the cluster with the largest y(x * N(U(mean map))), less that of the smallest.

    From the paper's abstract: feature maps are split into clusters without supervision, one forward
    each; a base map and scissors are forged from the clusters and merged. Ours: k-means on the maps
    of the living channels (8 clusters, started from the largest map and then from the map farthest
    from all chosen, 20 rounds), a cluster speaks through its mean, merging is subtraction. One
    cluster has no scissors: its mean is the map; no living channel: 0.
    """
    return torch.stack([base_less_scissors(ev, i, maps) for i, maps in enumerate(ev.activations)])


def grouped(ev: Evidence) -> Tensor:
    """T, (B, G, h, w): rectified sums of Grad-CAM's terms over at most 32 runs of consecutive channels."""
    terms = ev.gradient.mean((2, 3), keepdim=True) * ev.activations
    return torch.stack([run.sum(1) for run in terms.chunk(GROUPS, 1)], 1).clamp(min=0)


def gains_over_blur(ev: Evidence, masks: list[Tensor]) -> Tensor:
    """(B, G): probability of the explained class through each mask with the blurred image behind it, less that of the
    blurred image alone."""
    gains = []
    for i, cells in enumerate(masks):
        behind = blurred(ev.images[i])[(..., *ev.graph.visible)]
        nothing = torch.zeros_like(cells[:1])
        chances = chances_through(ev, i, torch.cat([cells, nothing]), paint=lambda x, m, b=behind: x * m + b * (1 - m))
        gains.append(chances[:-1] - chances[-1])
    return torch.stack(gains)


def blurred(image: Tensor) -> Tensor:
    """(3, H, W) -> same: Gaussian of sigma 50 cut at 25 pixels in an image of 224, in proportion in another;
    reflected at the border. The published 51 x 51 kernel does not fit small images."""
    rows, columns = (reflected(size, round(25 * size / 224), 50 * size / 224).to(image) for size in image.shape[1:])
    return rows @ (image @ columns.T)


def base_less_scissors(ev: Evidence, image: int, maps: Tensor) -> Tensor:
    """(h, w): the mean map of the best scored cluster of one image's maps (K, h, w) less that of the worst."""
    living = maps[maps.flatten(1).any(1)]
    if not len(living):
        return torch.zeros_like(maps[0])
    owner = k_means(living.flatten(1).double(), CLUSTERS)
    means = torch.stack([living[owner == c].mean(0) for c in owner.unique()])
    scores = scores_through(ev, image, stretched(means, ev.net.image_size))
    return means[scores.argmax()] - means[scores.argmin()] if len(means) > 1 else means[0]


def k_means(points: Tensor, clusters: int) -> Tensor:
    """(N,): the cluster of each of N points (N, d). Started from the longest point, then from the one farthest from
    all chosen, so that neither chance nor order matters; clusters that lose their points keep their centre."""
    chosen = [int(points.norm(dim=1).argmax())]
    for _ in range(min(clusters, len(points)) - 1):
        chosen.append(int(torch.cdist(points, points[chosen]).amin(1).argmax()))
    centres = points[chosen]
    for _ in range(ROUNDS):
        owner = torch.cdist(points, centres).argmin(1)
        centres = torch.stack([points[owner == c].mean(0) if (owner == c).any() else m for c, m in enumerate(centres)])
    return owner

"""Rescoring by masks made of clusters of channels: made for transformers, whose channels are many and alike, and defined on any
layer of cells."""

import numpy as np
import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.cams.rescoring.groups import k_means
from wallcheck.cams.rescoring.masks import bilinear, logits_through, stretched, upsample
from wallcheck.evidence import Evidence
from wallcheck.numerics import probabilities, ratio

APART, NOISE = (
    0.1,
    0.1,
)  # ViT-CX: cosine distance within a cluster; deviation of the noise, in units of the normalised image
SUBSETS, KEPT = 64, 0.5  # TIS: masks; share of the cells in each
FIELD, ORDER = 61, 62  # salts


@cam_method(
    family="rescoring",
    grid="pixels",
    source="Xie et al. 2023 (ViT-CX), as the authors' code: clusters by complete linkage below cosine distance 0.1, noise "
    "0.1; ours: the target layer, one field of noise for all masks",
    cost="1F+2K F at most",
    verdict="may_leak",
)
def vitcx(ev: Evidence) -> Tensor:
    """mean_i s_i M_i(u) / sum_j M_j(u), s_i = p(x * M_i + z_i) - p(x + z_i) + p(x), z_i = noise * (1 - M_i); 0 where no mask is.

    Masks of channels, N(U(A_k)), that are alike are added up and stretched again: M_i. A constant channel has no mask. Dividing
    by the cover of a pixel makes its value a mean of scores, whether the net sees it or not.
    """
    maps = [weighed_by_cover(ev, image) for image in range(len(ev.images))]
    return torch.stack(maps)


@cam_method(
    family="rescoring",
    source="Englebert et al. 2023 (TIS): subsets of tokens by k-means of channels, score / coverage; ours: the target layer's "
    "channels, 64 subsets (paper: 1024 of all blocks'), hidden cells are black pixels, as a graph of fixed size drops no token",
    cost="1F+64F",
    verdict="may_leak",
)
def tis(ev: Evidence) -> Tensor:
    """sum_i p(x M_i) m_i(u) / sum_i m_i(u), m_i the half of the cells where the i-th mean channel is largest; 0 where none is.

    M_i is m_i on the pixels of its cells. Channels that are 0 everywhere are left out, equal cells are taken in one random
    order for all images and masks, and clusters start as in `clustercam`.
    """
    height, width = ev.wall.seen.shape
    order = torch.randperm(ev.cells, generator=ev.generator(salt=ORDER)).to(ev.images.device)
    found = []
    for image, maps in enumerate(ev.activations):
        subsets = chosen_cells(maps.flatten(1), order)
        chances = chances_of_cells(ev, image, subsets.unflatten(1, (height, width)))
        found.append(ratio(chances @ subsets, subsets.sum(0)).view(height, width))
    return torch.stack(found)


def weighed_by_cover(ev: Evidence, image: int) -> Tensor:
    """(H, W): ViT-CX of one image."""
    maps, size = ev.activations[image], ev.net.image_size
    varied = maps[maps.amax((1, 2)) > maps.amin((1, 2))]
    if not len(varied):
        return torch.zeros(size).to(maps)
    cells = stretched(varied, size)
    owner = torch.from_numpy(alike(cells, size)).to(maps.device)
    cells = stretched(torch.stack([cells[owner == cluster].sum(0) for cluster in owner.unique()]), size)
    noise = torch.randn(ev.images.shape[1:], generator=ev.generator(salt=FIELD), dtype=torch.float64)
    noise = (NOISE * noise[(..., *ev.graph.visible)]).to(maps)
    alone = logits_through(ev, image, cells, paint=lambda x, m: x * m + noise * (1 - m))
    noisy = logits_through(ev, image, cells, paint=lambda x, m: x + noise * (1 - m))
    chances = [probabilities(logits.double())[:, ev.targets[image]] for logits in (alone, noisy, ev.logits[[image]])]
    scores = (chances[0] - chances[1] + chances[2]).to(cells)  # in double: on a sure net all but the first are near 1
    weighed, cover = torch.einsum("n,nhw->hw", scores, cells), cells.sum(0)
    return ratio(upsample(weighed, size), upsample(cover, size)) / len(cells)


def alike(cells: Tensor, size: tuple[int, int]) -> np.ndarray:
    """(n,): numbers of the clusters of masks U(cells), cells (n, h, w): in each, cosine distances are at most 0.1.

    U is two products by matrices, so the masks' products are taken on cells and no mask is built.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    rows, columns = (bilinear(count, side, False) for count, side in zip(cells.shape[1:], size, strict=True))
    values = cells.double().cpu()
    weighed = (rows.T @ rows) @ values @ (columns.T @ columns)
    products = values.flatten(1) @ weighed.flatten(1).T
    lengths = products.diagonal().sqrt()
    distance = (1 - ratio(products, lengths[:, None] * lengths)).clamp(min=0).fill_diagonal_(0)
    if len(distance) == 1:
        return np.ones(1, dtype=int)
    return fcluster(linkage(squareform(distance.numpy(), checks=False), "complete"), APART, "distance")


def chosen_cells(channels: Tensor, order: Tensor) -> Tensor:
    """(n, Z) of 0 and 1: of the mean channel of each cluster of channels (K, Z), the half of the cells where it is largest."""
    living = channels[channels.any(1)].double()
    if not len(living):
        return torch.zeros_like(channels[:1])
    owner = k_means(living, SUBSETS)
    means = torch.stack([living[owner == cluster].mean(0) for cluster in owner.unique()])
    ranked = order[means[:, order].argsort(dim=1, descending=True, stable=True)]
    kept = ranked[:, : int(KEPT * channels.shape[1])]
    return torch.zeros_like(means).scatter_(1, kept, 1).to(channels)


def chances_of_cells(ev: Evidence, image: int, masks: Tensor) -> Tensor:
    """(n,): the explained class's probability with only the pixels of some cells shown, masks (n, h, w) of 0 and 1."""
    rows, columns = (
        (torch.arange(side, device=masks.device) * count // side)[part]
        for count, side, part in zip(masks.shape[1:], ev.net.image_size, ev.graph.visible, strict=True)
    )
    part = ev.images[image][(..., *ev.graph.visible)]
    logits = ev.rescore_visible(lambda piece: part * masks[piece][:, None, rows[:, None], columns], len(masks))
    return probabilities(logits)[:, ev.targets[image]]

"""Pixel level, by segments of the image: each has the mean attribution of what it adds to better segments (XRAI)."""

import numpy as np
import torch
from scipy.ndimage import binary_dilation, gaussian_filter
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.cams._slopes import gradients_at
from wallcheck.evidence import Evidence

SCALES = tuple(scale / 255 for scale in (50, 100, 150, 250, 500, 1200))  # the authors' six, in their library's unit
SIGMA, SMALLEST, SPREAD, ADDED = (
    0.8,
    150,
    5,
    50,
)  # in an image of 224 x 224; blur, least segment, dilation, least gain of pixels
STEPS = 8


@cam_method(
    family="pixel",
    grid="pixels",
    source="Kapishnikov et al. 2019 (XRAI), the authors' code: integrated gradients from the image's least and from its largest value, "
    "largest colour; six segmentations by Felzenszwalb and Huttenlocher 2004, written anew, sizes in proportion to the image "
    "(there it is enlarged to 224 x 224); 8 Gauss-Legendre steps (there 100)",
    cost="16(F+B)",
    verdict="may_leak",
)
def xrai(ev: Evidence) -> Tensor:
    """Segment by segment, the one whose new pixels have the largest mean attribution; they are given that mean.

    The segmentation is skimage's of the same image, pixel by pixel. A segment that would add too few pixels is left out, and the pixels of none share their own mean. A segment wholly behind
    the wall has the mean 0; one across it carries what it has before the wall past it.
    """
    attribution = torch.stack([paths_from(ev, ev.images.amin), paths_from(ev, ev.images.amax)]).mean(0).amax(1)
    images, attribution = (values.double().cpu().numpy() for values in (ev.images, attribution))
    maps = [ranked(a, segments_of(x)) for a, x in zip(attribution, images, strict=True)]
    return torch.from_numpy(np.stack(maps)).to(ev.images)


def paths_from(ev: Evidence, extreme) -> Tensor:
    """(x - b) * int_0^1 dy/dx (b + t (x - b)) dt, (B, 3, H, W), b the image's extreme(dim) value everywhere."""
    apart = ev.images - extreme((1, 2, 3), keepdim=True)
    places, weights = np.polynomial.legendre.leggauss(STEPS)
    total = torch.zeros_like(ev.images)
    slopes = gradients_at(ev, (ev.images - (1 - place) / 2 * apart for place in places.tolist()))
    for weight, slope in zip(weights.tolist(), slopes, strict=True):
        total = total + weight / 2 * slope
    return apart * total


def ranked(attribution: np.ndarray, segments: list[np.ndarray]) -> np.ndarray:
    """(H, W): attribution (H, W) averaged over what each segment (H, W), Boolean, adds to those before it, best first."""
    least = max(1, round(ADDED * attribution.size / 224**2))
    worth = attribution.ravel()
    found, left = np.zeros_like(worth), np.ones(worth.shape, dtype=bool)
    masks = np.stack(segments).reshape(len(segments), -1)
    counts, sums = masks.sum(1), masks @ worth
    while (counts >= least).any():
        gains = np.where(counts >= least, sums / np.maximum(counts, 1), -np.inf)
        new = np.flatnonzero(masks[gains.argmax()] & left)
        found[new], left[new] = worth[new].mean(), False
        counts, sums = counts - masks[:, new].sum(1), sums - masks[:, new] @ worth[new]  # no pixel is taken twice
    found[left] = worth[left].mean() if left.any() else 0
    return found.reshape(attribution.shape)


def segments_of(image: np.ndarray) -> list[np.ndarray]:
    """Boolean (H, W) of every segment of an image (3, H, W), at six scales, widened by 5 / 224 of the side."""
    share = image[0].size / 224**2
    low, high = image.min(), image.max()
    spread = np.zeros_like(image) if high == low else 2 * (image - low) / (high - low) - 1
    smooth = gaussian_filter(spread, (0, SIGMA * share**0.5, SIGMA * share**0.5))
    edges, radius = weighted_edges(smooth), max(1, round(SPREAD * share**0.5))
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk, found = x**2 + y**2 <= radius**2, []
    for scale in SCALES:
        labels = felzenszwalb(edges, image[0].size, scale * share, SMALLEST * share).reshape(image.shape[1:])
        found += [binary_dilation(labels == label, disk) for label in np.unique(labels)]
    return found


def weighted_edges(image: np.ndarray) -> list[tuple[float, int, int]]:
    """(distance of colours, pixel, pixel) of neighbours (of eight) in an image (3, H, W), nearest colours first."""
    height, width = image.shape[1:]
    number = np.arange(height * width).reshape(height, width)
    ends = [
        (number[:, :-1], number[:, 1:]),
        (number[:-1], number[1:]),
        (number[:-1, :-1], number[1:, 1:]),
        (number[:-1, 1:], number[1:, :-1]),
    ]
    one, other = (np.concatenate([pair[side].ravel() for pair in ends]) for side in (0, 1))
    flat = image.reshape(len(image), -1)
    distance = np.sqrt(((flat[:, one] - flat[:, other]) ** 2).sum(0))
    order = distance.argsort(kind="stable")
    return list(zip(distance[order].tolist(), one[order].tolist(), other[order].tolist(), strict=True))


def felzenszwalb(edges: list[tuple[float, int, int]], pixels: int, scale: float, smallest: float) -> np.ndarray:
    """(pixels,) labels. In the order of the edges two components are joined whose edge is no longer than either one's longest
    within + scale / size; then those smaller than `smallest`, by their nearest edges.

    >>> felzenszwalb([(0.1, 0, 1), (0.2, 2, 3), (5.0, 1, 2)], 4, scale=1.0, smallest=0).tolist()
    [0, 0, 2, 2]
    """
    parent, size, inside = list(range(pixels)), [1] * pixels, [0.0] * pixels

    def root(pixel: int) -> int:
        while parent[pixel] != pixel:
            parent[pixel] = pixel = parent[parent[pixel]]
        return pixel

    def join(one: int, other: int, distance: float) -> None:
        one, other = min(one, other), max(one, other)
        parent[other], size[one], inside[one] = one, size[one] + size[other], distance

    for distance, one, other in edges:
        one, other = root(one), root(other)
        if one != other and distance <= min(inside[one] + scale / size[one], inside[other] + scale / size[other]):
            join(one, other, distance)
    for distance, one, other in edges:
        one, other = root(one), root(other)
        if one != other and min(size[one], size[other]) < smallest:
            join(one, other, distance)
    return np.array([root(pixel) for pixel in range(pixels)])

"""Slopes of the score in images and in cells: as many images at a time as the memory budget allows, and on a GPU several points at once."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from wallcheck.evidence import Evidence
from wallcheck.memory import slices


def slopes(ev: Evidence, logits_of: Callable[[Tensor], Tensor], images: Tensor, each: int) -> Tensor:
    """d score / d images, shaped as they are: images (B, 3, H, W), or copies of the batch one after the other (n B, 3, H, W).

    logits_of: images (m, 3, H, W) -> logits (m, D). each: values that one image takes, in units of `ev.chunk`.
    """
    count, found = len(ev.images), []
    size = ev.chunk(each)
    size = size // count * count or size  # whole batches, or a part of one
    for batch in slices(0, len(images), max(size, count)):
        for which in slices(0, batch.stop - batch.start, size):
            with ev.plainly(), torch.enable_grad():
                leaf = images[batch][which].detach().requires_grad_()
                scores = ev.explained_of(logits_of(leaf), which, own=images is ev.images)
                found += torch.autograd.grad(scores.sum(), leaf)
    return found[0] if len(found) == 1 else torch.cat(found)


def image_gradient(ev: Evidence, images: Tensor) -> Tensor:
    """d y / d images (B, 3, H, W); only what the head can see is computed, the rest is 0."""
    return slopes(ev, ev.logits_of, images, ev.graph.kept)


def gradients_at(ev: Evidence, points: Iterable[Tensor]) -> Iterator[Tensor]:
    """`image_gradient` at each of points (B, 3, H, W), in turn."""
    for some in several(ev, points):
        yield from image_gradient(ev, some).split(len(ev.images))


def cells_at(ev: Evidence, points: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """(A, G), (B, K, h, w) each, at each of points (B, 3, H, W), in turn."""
    for some in several(ev, points):
        there = ev.at(some)
        yield from zip(*(cells.split(len(ev.images)) for cells in (there.activations, there.gradient)), strict=True)


def several(ev: Evidence, points: Iterable[Tensor]) -> Iterator[Tensor]:
    """The points, on a GPU as many of them at once as the budget allows: there the number of launches decides."""
    ahead = iter(points)
    many = max(1, ev.chunk(ev.graph.kept) // len(ev.images)) if ev.images.is_cuda else 1
    while some := list(islice(ahead, many)):
        yield some[0] if len(some) == 1 else torch.cat(some)


__all__ = ["cells_at", "gradients_at", "image_gradient", "several", "slopes"]

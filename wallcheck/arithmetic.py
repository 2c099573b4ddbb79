"""This machine's arithmetic put to the test on drawn images: what the proof of a wall says of all images must hold on these.

Each test takes the logits as a function of images and yields what it finds wrong, in words; one that yields nothing holds.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from wallcheck.graph import BlindGraph
from wallcheck.keeping import seeded
from wallcheck.models import BlindNet

EXACT = "cpu"  # the device whose sums hold no more than their terms
EXTREMES = (0.0, 1.0, -1e3, 1e6)
SPIKES = (1e3, -1e3, 1e6, -1e6)
BORDER = 64  # pixels tried one by one; each takes a forward

Logits = Callable[[Tensor], Tensor]


def summed_plainly(graph: BlindGraph, net: BlindNet) -> tuple[BlindGraph, BlindNet]:
    """Graph and net where a convolution is the sum of what it looks at and of nothing else: on a CPU.

    A GPU's convolutions go by tiles (Winograd, Fourier), in which a value that has no part in a sum is added and taken away again. What
    rounding leaves of it says nothing of the wall: with 1e6 in unseen pixels a VGG16's logit of -25.6877 became -25.6861 on an H200.
    The net is a copy, for training mode leaves more behind than can be put back; one that cannot be copied is tried where it is.
    """
    with suppress(Exception):
        net = copy.deepcopy(net).to(EXACT)
    return (graph if graph.example.device.type == EXACT else graph.on_cpu()), net


class Noise:
    """Images and values drawn for a graph."""

    def __init__(self, graph: BlindGraph, seeds: int, images: int):
        self.seeds, self.count, self.graph = range(seeds), images, graph
        self.unseen = torch.from_numpy(graph.proof.unseen_pixels.copy()).to(graph.example.device)

    def images(self, seed: int, count: int | None = None) -> Tensor:
        shape = count or self.count, self.graph.walled.graph.colours, *self.graph.image_size
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self.graph.example)


def bits(noise: Noise, logits_of: Logits) -> Iterator[str]:
    """Logits, equal to the last bit whatever stands in unseen pixels: noise or extreme values."""
    for seed in noise.seeds:
        plain = noise.images(seed)
        values = [1e3 * noise.images(seed + 10_000), *(torch.full_like(plain, v) for v in EXTREMES)]
        before = _logits(logits_of, plain, seed)
        for value in values:
            after = _logits(logits_of, torch.where(noise.unseen, value, plain), seed)
            if not torch.equal(before, after):
                image, logit = (before != after).nonzero()[0].tolist()
                yield f"unseen pixels change logit {logit}: {before[image, logit]:.9g} became {after[image, logit]:.9g}"


def gradient(noise: Noise, logits_of: Logits) -> Iterator[str]:
    """d logits / d unseen pixels, exactly zero."""
    for seed in noise.seeds:
        slope = _slope(logits_of, noise.images(seed), seed)
        leaks = (slope != 0).any(0).any(0) & noise.unseen
        if leaks.any():
            y, x = leaks.nonzero()[0].tolist()
            yield f"d logits / d pixel ({y}, {x}) is not zero"


def maximal(noise: Noise, logits_of: Logits) -> Iterator[str]:
    """Seen pixels at the border of the mask, each of which changes a logit.

    A nonzero derivative shows that a pixel matters; where none was met, extreme values are tried.
    """
    unseen = noise.unseen.cpu().numpy()
    if not unseen.any():
        return
    silent = _border(unseen)
    for seed in noise.seeds:
        silent &= ~(_slope(logits_of, noise.images(seed, 2), seed) != 0).any(0).any(0).cpu().numpy()
    plain = noise.images(0, 1).repeat(len(SPIKES), 1, 1, 1)  # equal batches round equally
    before = _logits(logits_of, plain, 0)
    for y, x in np.argwhere(silent)[:BORDER]:
        spiked = plain.clone()
        spiked[:, :, y, x] = plain.new_tensor(SPIKES)[:, None]
        if torch.equal(_logits(logits_of, spiked, 0), before):
            yield f"seen pixel ({y}, {x}) at the border changes no logit on these images: its weights are 0 or its units saturated"


def _border(unseen: np.ndarray) -> np.ndarray:
    """Seen pixels with an unseen one above, below, left or right of them."""
    padded = np.pad(unseen, 1, constant_values=False)
    beside = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return beside & ~unseen


def _slope(logits_of: Logits, images: Tensor, seed: int) -> Tensor:
    """d (random mixture of all logits) / d images."""
    with torch.enable_grad():
        leaf = images.clone().requires_grad_()
        with seeded(seed, leaf.device):
            logits = logits_of(leaf)
        mixture = torch.randn(logits.shape[1], generator=torch.Generator().manual_seed(seed)).to(logits)
        known = logits.requires_grad  # not where all goes through whole numbers
        slope = torch.autograd.grad((logits @ mixture).sum(), leaf, allow_unused=True)[0] if known else None
    return torch.zeros_like(images) if slope is None else slope


def _logits(logits_of: Logits, images: Tensor, seed: int) -> Tensor:
    """Dropout in training mode draws the same units each time."""
    with torch.no_grad(), seeded(seed, images.device):
        return logits_of(images)

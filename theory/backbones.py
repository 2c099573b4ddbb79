"""Activations of several kinds of network, for the claims that hold whatever lies below the head (T3, T4, T7).

Each entry takes a generator and returns A (V, h, w) for one random image; V from 1 up.
`fixed_case` pairs one with a head.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from theory.geometries import random_head, random_image, random_stem
from theory.networks import Head
from theory.runs import Run

BACKBONES: dict[str, Callable[[Generator], Tensor]] = {}


def _backbone(function):
    BACKBONES[function.__name__] = function
    return function


def _gaussian(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


@_backbone
def one_convolution(generator: Generator) -> Tensor:
    """A random stem and ReLU, as in T2."""
    index = int(torch.randint(2, 100, (), generator=generator))
    return random_stem(index, generator).draw(1, generator)[0].relu() + 0.0


@_backbone
def deep_with_biases(generator: Generator) -> Tensor:
    """Three biased convolutions."""
    return deep_batch(generator, 1)[0]


def deep_batch(generator: Generator, count: int) -> Tensor:
    """Activations (count, 5, 6, 5) of several images under one network of three biased convolutions."""
    maps = torch.stack([random_image(3, 12, 11, generator) for _ in range(count)])
    for channels_in, channels_out in ((3, 6), (6, 6), (6, 5)):
        weight = _gaussian(generator, channels_out, channels_in, 3, 3) * (2 / (9 * channels_in)) ** 0.5
        maps = F.conv2d(maps, weight, bias=0.2 * _gaussian(generator, channels_out)).relu()
    return maps


@_backbone
def batch_normed(generator: Generator) -> Tensor:
    """Convolution, batch-norm with running statistics and affine part, ReLU, max-pooling."""
    maps = F.conv2d(random_image(3, 14, 14, generator)[None], _gaussian(generator, 4, 3, 3, 3) * 0.3)
    mean, scale, shift = _gaussian(generator, 4) * 0.2, 1 + 0.3 * _gaussian(generator, 4), _gaussian(generator, 4)
    maps = F.batch_norm(maps, mean, torch.ones(4), scale, shift, training=False)
    return F.max_pool2d(maps.relu(), 2)[0]


@_backbone
def signed(generator: Generator) -> Tensor:
    """A smooth nonlinearity: activations of both signs."""
    maps = F.conv2d(random_image(2, 8, 8, generator)[None], _gaussian(generator, 3, 2, 3, 3) * 0.4)
    return F.gelu(maps)[0]


@_backbone
def one_channel(generator: Generator) -> Tensor:
    """V = 1."""
    return F.conv2d(random_image(1, 7, 8, generator)[None], _gaussian(generator, 1, 1, 3, 3)).relu()[0] + 0.05


@_backbone
def trained(generator: Generator) -> Tensor:
    """Two convolutions trained for 30 steps to tell flat images from noisy ones."""
    layers = [_gaussian(generator, 6, 1, 3, 3) * 0.4, 0.1 * _gaussian(generator, 4, 6, 3, 3), _gaussian(generator, 4)]
    layers = [layer.requires_grad_() for layer in layers]
    labels = (torch.arange(32) % 2).float()
    images = _gaussian(generator, 32, 1, 9, 9) * (0.2 + labels)[:, None, None, None]

    def features(x):
        return F.conv2d(F.conv2d(x, layers[0]).relu(), layers[1]).relu()

    for _ in range(30):
        logits = features(images).mean((2, 3)) @ layers[2]
        gradients = torch.autograd.grad(F.binary_cross_entropy_with_logits(logits, labels), layers)
        layers = [(w - 0.5 * g).detach().requires_grad_() for w, g in zip(layers, gradients, strict=True)]
    return features(images[1:2])[0].detach()


def fixed_case(run: Run, claim: str, index: int, depth: int | None = None) -> tuple[str, Tensor, Head]:
    """(kind, A, head): the index-th fixed activations of a claim under a walled head that is handed something alive."""
    kind = list(BACKBONES)[index % len(BACKBONES)]
    generator = run.generator(claim, "case", index, device="cpu")
    while True:
        activations = BACKBONES[kind](generator)
        head = random_head(index, tuple(activations.shape[1:]), generator, depth)
        if head.read(activations[None]).any():
            return kind, activations.to(run.device), head

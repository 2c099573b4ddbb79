"""Small blind nets for the tests: quick to run, and one that has learnt something."""

from functools import cache

import torch

from wallcheck.models import BlindNet, WalledModel, assemble, blind, opened, vgg

CLASSES = 4
SIZE = 24
HEADS = 2  # of every block of the transformers below
SOME = (
    "gradcam",
    "hirescam",
    "scorecam",
    "eigencam",
    "random",
)  # methods: one of every way to a map, and one by chance


def tiny(seed: int = 1, **changes) -> BlindNet:
    """24 px, 12 x 12 cells of 8 channels, the bottom 7 rows of cells unseen, a two-layer head; untrained."""
    fields = (
        dict(
            plan=(6, "M", 8),
            image_size=SIZE,
            num_classes=CLASSES,
            hidden=(16,),
            wall={"side": "bottom", "cells": 7},
            seed=seed,
        )
        | changes
    )
    net = vgg(**fields)
    _draw_convolutions(net, seed)
    for name, parameter in net.named_parameters():  # biases and heads that are not almost zero
        if "head" in name or "bias" in name:
            drawn = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)) * 0.15
            parameter.data.copy_(drawn)
    return net.eval()


def _draw_convolutions(net: BlindNet, seed: int) -> None:
    """From a stream of the tests' own: no change of the library's initialisation moves the nets under the tests."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        assemble(net.description)
        for module in net.features:
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def photos(count: int, seed: int = 0, size: int = SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, 3, H, W) with a bright patch in one of four places above the wall, another anywhere below; labels."""
    draw = torch.Generator().manual_seed(seed)
    images = 0.5 * torch.randn(count, 3, size, size, generator=draw)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    below = torch.randint(CLASSES, (count,), generator=draw)
    for image, label, other in zip(images, labels.tolist(), below.tolist(), strict=True):
        image[label % 3, 2:7, 5 * label + 1 : 5 * label + 5] += 2
        image[other % 3, 16:22, 5 * other + 1 : 5 * other + 5] += 2
    return images, labels


@cache
def trained_tiny(pooled: bool = False) -> BlindNet:
    """`tiny` after 120 steps of Adam: it tells the four places apart (a pooled head: the colours). Treat it as
    read-only."""
    return _learnt(tiny(seed=3, hidden=(), pooled=True) if pooled else tiny(seed=3))


@cache
def trained_open() -> BlindNet:
    """The twin of `trained_tiny` without a wall, trained on the same images. Treat it as read-only."""
    return _learnt(tiny(seed=3, wall=None))


def _learnt(net: BlindNet) -> BlindNet:
    net.train()
    images, labels = photos(256, seed=11)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(120):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimiser.step()
    optimiser.zero_grad()  # what training left would look like a test's doing
    return net.eval()


def pooled_sibling(net: BlindNet) -> BlindNet:
    """A net as net, trained or not, whose head averages the seen cells and has one Linear."""
    return trained_tiny(pooled=True) if net is trained_tiny() else _untrained_sibling()


@cache
def _untrained_sibling() -> BlindNet:
    return tiny(hidden=(), pooled=True)


@cache
def tiny_residual() -> BlindNet:
    """24 px, two residual blocks, 6 x 6 cells of 8 channels, a trunk wall that hides the lower half, an averaging head;
    untrained, biases and statistics of norms not those of a new net. Treat it as read-only."""
    model = opened("wallcheck:resnet_small", num_classes=CLASSES, channels=(6, 8), seed=1)
    draw = torch.Generator().manual_seed(1)
    for name, value in model.state_dict().items():
        if "bias" in name or "running_mean" in name:
            value += 0.3 * torch.randn(value.shape, generator=draw)
    return blind(model, SIZE, layer="blocks", wall="bottom:1/2", kind="trunk").eval()


# -- transformers -----------------------------------------------------------------------------------


def tiny_vit(seed: int = 1, pooled: bool = False, wall: str = "bottom:1/2") -> WalledModel:
    """24 px, patches of 4 px: 6 x 6 tokens of 16 channels and a class token (pooled: none), 3 blocks of 2 heads behind a trunk
    wall that hides the bottom 3 rows; untrained, biases and tokens not almost zero. Its graph is trained."""
    options = dict(num_classes=CLASSES, image_size=SIZE, patch=4, channels=16, depth=3, heads=HEADS)
    model = opened("wallcheck:vit_small", seed=seed, pooled=pooled, **options)
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name or "token" in name or "positions" in name:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=draw)
    return blind(model, SIZE, wall=wall, kind="trunk").trainable().eval()


@cache
def trained_tiny_vit(pooled: bool = False) -> WalledModel:
    """`tiny_vit` after 60 steps of Adam: it tells the four places apart. Treat it as read-only."""
    net = tiny_vit(seed=3, pooled=pooled).train()
    images, labels = photos(256, seed=11)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimiser.step()
    return net.eval()


@cache
def _untrained_vit(pooled: bool) -> WalledModel:
    return tiny_vit(pooled=pooled)


VITS = {
    "class token, untrained": lambda: _untrained_vit(False),
    "class token, trained": lambda: trained_tiny_vit(False),
    "pooled, untrained": lambda: _untrained_vit(True),
    "pooled, trained": lambda: trained_tiny_vit(True),
}


def suited(method, net: BlindNet) -> BlindNet:
    """net, or one like it, trained or not, on which the method is defined: with a pooled head, else a transformer."""
    if not method.refuses(net):
        return net
    sibling = pooled_sibling(net)
    if not method.refuses(sibling):
        return sibling
    return trained_tiny_vit() if net is trained_tiny() else _untrained_vit(False)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    theirs = other.state_dict()
    return one.state_dict().keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in one.state_dict().items()
    )

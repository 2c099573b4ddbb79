"""VGG-like blind networks from a JSON-able description, and the presets."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from wallcheck.geometry import Layer, Sight, Wall, lengths, read_wall
from wallcheck.keeping import seeded
from wallcheck.models._blind import BlindNet
from wallcheck.registry import Registry

POOL = "M"
VGG16_PLAN = (64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 256)
SMALL_PLAN = (8, 16, POOL, 24, POOL, 32, POOL, 64)

PRESETS = Registry("preset")


def vgg(
    plan: Sequence[int | str],
    image_size: int,
    num_classes: int,
    hidden: Sequence[int] = (),
    wall: dict | None = None,
    pooled: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
) -> BlindNet:
    """A chain of 3 x 3 convolutions (channel counts) and 2 x 2 max-pools ("M"), a wall, and a fully connected head.

    wall: None, or {"side": "bottom", "cells": 9}, or {"side": "centre", "cells": margin of the frame}.
    hidden: widths between the handed cells and the logits. pooled: the head averages over the seen
    cells first, so that CAM is defined. Initialisation as torchvision's VGG (convolutions
    N(0, 2 / fan out), linear layers N(0, 0.01^2), biases 0), drawn from `seed` alone.
    """
    description = dict(
        builder="vgg",
        plan=list(plan),
        image_size=image_size,
        num_classes=num_classes,
        hidden=list(hidden),
        wall=wall,
        pooled=pooled,
        dropout=dropout,
    )
    return initialised(description, seed)


def initialised(description: dict, seed: int) -> BlindNet:
    """The network a description names, with weights drawn from the seed alone.

    Every module draws from a stream of its own, so that twins start from equal weights wherever their shapes agree.
    """
    with seeded(seed):
        net = assemble(description)
    for number, module in enumerate(net.modules()):
        with seeded(int(np.random.SeedSequence([seed, number]).generate_state(1)[0])):
            _initialise(module)
    return net


def assemble(description: dict) -> BlindNet:
    """The network a description names, with torch's default weights; see `vgg` for the fields."""
    fields = dict(description)
    if fields.pop("builder", None) != "vgg":
        raise ValueError(f"no builder named {description.get('builder')!r}; this version of wallcheck knows 'vgg'")
    size = fields["image_size"]
    wall = wall_of(fields["wall"], grid(fields["plan"], size))
    features, channels = _features(fields["plan"])
    cells = 1 if fields["pooled"] else int(wall.seen.sum())
    head = _head(channels * cells, fields["hidden"], fields["num_classes"], fields["pooled"], fields["dropout"])
    features = features.to(memory_format=torch.channels_last)  # 1.4 times as fast on a CPU
    return BlindNet(features, head, wall, (size, size), description)


def wall_of(wall: dict | None, shape: tuple[int, int]) -> Wall:
    """The Wall that {"side", "cells"} names on a map of this shape; None is no wall."""
    if wall is None:
        return Wall.none(shape)
    if wall["side"] == "centre":
        return Wall.centre(shape, wall["cells"])
    return Wall.behind(wall["side"], shape, wall["cells"])


def grid(plan: Sequence[int | str], image_size: int) -> tuple[int, int]:
    """Cells of the target layer."""
    return (lengths([layer.rows for layer in _layers(plan)], image_size)[-1],) * 2


def wall_from(text: str, plan: Sequence[int | str], image_size: int, walled: bool = True) -> dict | None:
    """The description of the wall that a text names (`wallcheck.geometry.read_wall`) on a chain for images of this size.

    Shares are those of unseen pixels, taken to the nearest that this chain's strides and receptive field allow.
    """
    if not walled:
        return None
    named = read_wall(text, grid(plan, image_size), nearest=True, sight=Sight(_layers(plan), (image_size, image_size)))
    return None if named is None else {"side": named[0], "cells": named[1]}


def _layers(plan: Sequence[int | str]) -> list[Layer]:
    return [Layer.square(2, stride=2) if step == POOL else Layer.square(3, pad=1) for step in plan]


def _features(plan: Sequence[int | str]) -> tuple[nn.Sequential, int]:
    modules, channels = [], 3
    for step in plan:
        if step == POOL:
            modules.append(nn.MaxPool2d(2))
        else:
            modules += [nn.Conv2d(channels, step, 3, padding=1), nn.ReLU()]
            channels = step
    return nn.Sequential(*modules), channels


def _head(inputs: int, hidden: Sequence[int], num_classes: int, pooled: bool, dropout: float) -> nn.Sequential:
    modules: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if pooled else [nn.Flatten()]
    for width in hidden:
        modules += [nn.Linear(inputs, width), nn.ReLU()] + ([nn.Dropout(dropout)] if dropout else [])
        inputs = width
    return nn.Sequential(*modules, nn.Linear(inputs, num_classes))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)


def vgg_small(
    num_classes: int = 10, walled: bool = True, seed: int = 0, image_size: int = 96, wall: str = "bottom:1/2"
) -> BlindNet:
    """96 px, 12 x 12 cells of 64 channels, 5 convolutions; the wall hides the bottom 8 rows of cells.

    The last seen cell row, 3, reads pixel rows up to 8 * 3 + 7 (the cell) + 8 + 4 + 2 + 1 + 1 (a
    3 x 3 margin in each of five convolutions, at strides 8, 4, 2, 1, 1) = 47. So pixel rows
    48..95, the whole lower half and nothing else, are unseen. walled=False differs in the wall alone.
    """
    placed = wall_from(wall, SMALL_PLAN, image_size, walled)
    return vgg(SMALL_PLAN, image_size, num_classes, hidden=(128,), wall=placed, seed=seed)


def vgg_small_pooled(
    num_classes: int = 10, walled: bool = True, seed: int = 0, image_size: int = 96, wall: str = "bottom:1/2"
) -> BlindNet:
    """vgg_small whose head averages the seen cells and has one Linear: the net on which CAM is defined."""
    placed = wall_from(wall, SMALL_PLAN, image_size, walled)
    return vgg(SMALL_PLAN, image_size, num_classes, wall=placed, pooled=True, seed=seed)


def vgg16_walls(
    num_classes: int = 1000, walled: bool = True, seed: int = 0, image_size: int = 224, wall: str = "bottom:54/224"
) -> BlindNet:
    """The network of Taimeskhanov, Sicre and Garreau (2024): VGG16, 224 px, 14 x 14 cells of 256 channels.

    The last pool is removed, the last convolution has 256 channels, and the bottom 9 rows of cells
    are behind the wall. Row 4 reads up to pixel row 169, so rows 170..223 (54 rows) are unseen.
    Where the paper re-zeroes masked weights after every step, this head has no such weights.
    """
    placed = wall_from(wall, VGG16_PLAN, image_size, walled)
    return vgg(VGG16_PLAN, image_size, num_classes, hidden=(4096, 4096), wall=placed, dropout=0.5, seed=seed)


PRESETS["vgg_small"] = vgg_small
PRESETS["vgg_small_pooled"] = vgg_small_pooled
PRESETS["vgg16_walls"] = vgg16_walls

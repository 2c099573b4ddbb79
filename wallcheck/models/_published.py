"""The paper's checkpoint: a masked VGG in torchvision's layout, read as the net whose head has no weight for an unseen cell.

torchvision             here        of the paper's VGG16
features.*              features.*  thirteen 3 x 3 convolutions, the last 512 -> 256
classifier.0            head.1      (4096, 256 x 14 x 14); columns of unseen cells, rows 5..13, are 0 and are left out
classifier.3, .6        head.4, .7  (4096, 4096), (classes, 4096)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wallcheck.geometry import Wall
from wallcheck.models._blind import BlindNet
from wallcheck.models._states import State, read_state, unprefixed
from wallcheck.models._vgg import VGG16_PLAN, grid, vgg, wall_of

PAPERS = {"side": "bottom", "cells": 9}
FIRST = "classifier.0.weight"
RENAMED = {0: 1, 3: 4, 6: 7}  # a layer's number in torchvision's classifier -> in our head, which flattens first


def published(
    path: str | Path,
    *,
    plan: Sequence[int | str] = VGG16_PLAN,
    image_size: int = 224,
    hidden: Sequence[int] = (4096, 4096),
    wall: dict | None = PAPERS,
) -> BlindNet:
    """The net of a checkpoint of the paper's masked VGG16, in eval mode: the same logits for every image.

    path: a plain state dict, .safetensors or saved by torch (read with weights_only). The other arguments are the paper's own,
    those of `wallcheck.models.vgg`; wall=None is its baseline without a mask. The number of classes is the checkpoint's.
    Raises FileNotFoundError; ValueError for other shapes, and for a mask that is not 0 on every unseen cell.
    """
    state = read_state(path)
    state = unprefixed(state, {FIRST: None})
    classes = len(state["classifier.6.bias"]) if "classifier.6.bias" in state else 1000
    net = vgg(plan, image_size, classes, hidden, wall, dropout=0.5)
    cells = wall_of(wall, grid(plan, image_size))
    _check_shapes(state, net, cells, path)
    _check_mask(state[FIRST], cells, path)
    net.load_state_dict({_ours(name): value for name, value in (state | {FIRST: _kept(state[FIRST], cells)}).items()})
    return net.eval()


def _ours(name: str) -> str:
    part, number, kind = name.split(".")
    return name if part == "features" else f"head.{RENAMED[int(number)]}.{kind}"


def _check_shapes(state: State, net: BlindNet, wall: Wall, path: str | Path) -> None:
    theirs = {f"head.{ours}": f"classifier.{number}" for number, ours in RENAMED.items()}
    wanted = {}
    for name, value in net.state_dict().items():
        layer, _, kind = name.rpartition(".")
        wanted[f"{theirs.get(layer, layer)}.{kind}"] = tuple(value.shape)
    wanted[FIRST] = (wanted[FIRST][0], net.channels * wall.seen.size)
    for name in {**wanted, **state}:
        got = tuple(state[name].shape) if name in state else None
        if got != wanted.get(name):
            raise ValueError(
                f"{path} is no checkpoint of this VGG: {name} is {got or 'missing'}, expected {wanted.get(name, 'no such tensor')}; "
                f"give the plain state dict of torchvision's layout, or the plan and hidden widths that it was trained with"
            )


def _cells(first: Tensor, wall: Wall) -> Tensor:
    """Columns of the first linear layer, (units, K h w), by cell: (units, K, h, w)."""
    return first.unflatten(1, (-1, *wall.seen.shape))


def _check_mask(first: Tensor, wall: Wall, path: str | Path) -> None:
    unseen = torch.from_numpy(wall.unseen.copy())
    open_cells = ((_cells(first, wall) != 0).any(0).any(0) & unseen).numpy()
    if open_cells.any():
        row, column = np.argwhere(open_cells)[0].tolist()
        largest = float(_cells(first, wall)[:, :, row, column].abs().max())
        raise ValueError(
            f"{path} is not masked: {FIRST} has weights up to {largest:.3g} for unseen cell ({row}, {column}) and for "
            f"{int(open_cells.sum())} of {int(unseen.sum())} unseen cells, expected exactly 0; give the masked checkpoint, its own "
            f"wall, or wall=None for a net without one"
        )


def _kept(first: Tensor, wall: Wall) -> Tensor:
    """The columns of seen cells, in the order in which the head flattens them."""
    rows, columns = (torch.from_numpy(each) for each in wall.seen.nonzero())
    return _cells(first, wall)[:, :, rows, columns].flatten(1)

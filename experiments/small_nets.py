"""Small nets for studies: trained once from a recipe, kept under its digest, shared by every study that asks for it.

A recipe is all that decides a net's weights but the versions of the packages. Training is that of experiments.train without
Lightning, whose start costs more than these nets do: AdamW, one cycle of the learning rate, batches of 64, gradients
clipped at 1. A training that was stopped begins anew; those that are finished are kept.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from data_gen.making import make_set
from wallcheck import models
from wallcheck.data import ImageSet
from wallcheck.keeping import seeded
from wallcheck.models import BlindNet
from wallcheck.regularisers import interpretable_gradients
from wallcheck.results import digest
from wallcheck.writing import write_text

SMALL = (8, 16, "M", 24, "M", 32, "M", 64)  # vgg_small's layers
CLASSES = 10
BATCH = 64
HELD_OUT = 500


@dataclass(frozen=True)
class Recipe:
    """One training. plan, hidden, pooled, dropout: as `wallcheck.models.vgg` takes them; wall: rows of cells hidden at the
    bottom, 0 is no wall.

    regulariser: the weight of interpretable gradients, 0 trains without. epochs 0 is the untrained net.
    """

    plan: tuple[int | str, ...] = SMALL
    hidden: tuple[int, ...] = (128,)
    pooled: bool = False
    dropout: float = 0.0
    wall: int = 3  # of 4 at 32 px: the lowest quarter of the pixels is unseen
    image_size: int = 32
    train_count: int = 2000
    epochs: int = 6
    lr: float = 3e-3
    weight_decay: float = 0.02
    regulariser: float = 0.0
    seed: int = 0

    @cached_property
    def digest(self) -> str:
        return digest(asdict(self))[:16]

    def built(self) -> BlindNet:
        """The net before training."""
        wall = {"side": "bottom", "cells": self.wall} if self.wall else None
        net = models.vgg(self.plan, self.image_size, CLASSES, self.hidden, wall, self.pooled, self.dropout, self.seed)
        return net.eval()

    def with_last(self, channels: int) -> "Recipe":
        """With so many channels in the target layer."""
        return replace(self, plan=(*self.plan[:-1], channels))


def seeds_of(recipe: Recipe, count: int) -> list[Recipe]:
    """The recipe with seeds 0, 1, ...: weights and order of images are another's, images and test are the same."""
    return [replace(recipe, seed=seed) for seed in range(count)]


def image_set(name: str, count: int, recipe: Recipe, folder: Path) -> ImageSet:
    """A rendered set of this size, whose labelled object stands in the upper five eighths; other classes may stand below."""
    row = recipe.image_size * 5 // 8  # as low as the renderer can put its wall
    return ImageSet(make_set(name, folder / f"data{recipe.image_size}-{count}", count, recipe.image_size, wall_row=row))


def trained(recipe: Recipe, folder: Path, snapshots: Sequence[int] = ()) -> BlindNet:
    """The net of this recipe, from the folder of nets or trained now.

    snapshots: steps after which the net is kept too, see `snapshot`.
    """
    path = folder / f"{recipe.digest}.safetensors"
    wanted = [path, *(snapshot_path(recipe, folder, step) for step in snapshots)]
    if not all(each.is_file() for each in wanted):
        folder.mkdir(parents=True, exist_ok=True)
        net = learn(recipe, folder, set(snapshots))
        models.save(net, path)
    return models.load(path).eval()


def snapshot(recipe: Recipe, folder: Path, step: int) -> BlindNet:
    """The net after so many steps of its training, kept by `trained`."""
    return models.load(snapshot_path(recipe, folder, step)).eval()


def snapshot_path(recipe: Recipe, folder: Path, step: int) -> Path:
    return folder / f"{recipe.digest}-{step:06d}.safetensors"


def accuracy(recipe: Recipe, folder: Path) -> float:
    """On held-out images; kept beside the net."""
    path = folder / f"{recipe.digest}-accuracy.json"
    if not path.is_file():
        write_text(path, json.dumps(tested(trained(recipe, folder), recipe, folder)) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


def learn(recipe: Recipe, folder: Path, snapshots: set[int]) -> BlindNet:
    """One training, in eval mode when done."""
    net, images = recipe.built(), image_set("train", recipe.train_count, recipe, folder)
    pixels, labels = images.images(), torch.from_numpy(np.array(images.labels, dtype=np.int64))
    steps = recipe.epochs * (len(images) // BATCH)
    draw, extra = torch.Generator().manual_seed(recipe.seed), interpretable_gradients(recipe.regulariser)
    optimiser = torch.optim.AdamW(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=max(steps, 6), pct_start=0.2)
    keep(net.eval(), recipe, folder, 0, snapshots)
    for step in range(steps):
        if step % (len(images) // BATCH) == 0:
            order = torch.randperm(len(images), generator=draw)
        part = order[step % (len(images) // BATCH) * BATCH :][:BATCH]
        with seeded(recipe.seed + 7919 * step):  # dropout
            one_step(net.train(), pixels[part], labels[part], optimiser, extra)
        cycle.step()
        keep(net.eval(), recipe, folder, step + 1, snapshots)
    return net


def one_step(
    net: BlindNet, images: Tensor, labels: Tensor, optimiser: torch.optim.Optimizer, extra: interpretable_gradients
) -> None:
    optimiser.zero_grad()
    if extra.weight:
        logits, penalty = extra(net.shortcut, images, labels)
        loss = cross_entropy(logits, labels) + extra.weight * penalty
    else:
        loss = cross_entropy(net.shortcut(images), labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimiser.step()


def keep(net: BlindNet, recipe: Recipe, folder: Path, step: int, snapshots: set[int]) -> None:
    if step in snapshots:
        models.save(net, snapshot_path(recipe, folder, step))


def tested(net: BlindNet, recipe: Recipe, folder: Path) -> float:
    images = image_set("val", HELD_OUT, recipe, folder)
    with torch.no_grad():
        found = torch.cat([net(part).argmax(1) for part in images.images().split(250)])
    return float((found.numpy() == np.array(images.labels)).mean())

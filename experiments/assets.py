"""Make what the wheel ships: small trained nets, a few images of both sets, and their manifest (wallcheck/assets).

    python -m experiments.assets                    # renders, trains six nets, writes: about 7 minutes of one core
    python -m experiments.assets --into elsewhere   # and leaves the package alone

Images have 64 px, so that all of it stays below 1.5 MB. A net starts from the convolutions of the one before it where it has the
same: only the first chain and the first residual net start from chance. Each net is rounded to half precision when it is trained; what is shipped
and what its accuracy was measured on are those weights. Sets and nets that are finished are kept in --out: started again,
the command goes on. A twin without a wall that averages over its whole map cannot tell above from below, so it is trained and
tested on images with an object of one class in both halves, stacked as in STACK-MIX.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data_gen.making import make_set
from experiments import flags
from experiments.study import command
from experiments.zoo.training import behind, fit
from wallcheck import models
from wallcheck.assets import COLUMNS, MANIFEST, SETS, file_of
from wallcheck.certificate import certify
from wallcheck.data import ImageSet
from wallcheck.geometry import Wall
from wallcheck.labelled import Arrays, open_labelled
from wallcheck.lit.sets import Batches
from wallcheck.models import BlindNet
from wallcheck.results import digest, versions
from wallcheck.terminal import progress_bar
from wallcheck.writing import beside, say, write_text

SIZE, CLASSES, LEAST = 64, 10, 0.9
PLAN = (8, 16, "M", 24, "M", 32, "M", 64)  # vgg_small's layers: 8 x 8 cells
HIDDEN = {"plain": (32,), "pooled": ()}
# (name, walled): what it starts from, epochs
TRAININGS: dict[tuple[str, bool], tuple[tuple[str, bool] | None, int]] = {
    ("plain", True): (None, 8),
    ("plain", False): (("plain", True), 4),
    ("pooled", True): (("plain", True), 5),
    ("pooled", False): (("pooled", True), 3),
    ("residual", True): (None, 8),
    ("residual", False): (("residual", True), 3),
}


@dataclass(frozen=True)
class Shipment:
    """What is made.

    Args:
        out: where rendered images and finished nets are kept meanwhile.
        into: the folder that is filled.
        train_count: rendered images to train on.
        val_count: rendered images to measure accuracy on.
        count: images of each set that are shipped.
        seed: of weights and order; the images have their own.
    """

    out: str = "runs/assets"
    into: str = "wallcheck/assets"
    train_count: int = 6000
    val_count: int = 600
    count: int = 30
    seed: int = 0


def main(options: Shipment) -> None:
    out, into = Path(options.out), Path(options.into)
    for name, count in (("train", options.train_count), ("val", options.val_count)):
        make_set(name, out / "data", count, SIZE)
    into.mkdir(parents=True, exist_ok=True)
    with progress_bar() as tell:
        nets = {file_of(*which): shipped(*which, options, tell) for which in TRAININGS}
    sets = {name: sheet(ImageSet(make_set(name, out / "shipped", options.count, SIZE)), into) for name in SETS}
    pictures = [f"{name}{part}.png" for name in SETS for part in ("", "-masks")]
    told = {
        "made": {"command": command("assets", options), "settings": asdict(options), "versions": versions()},
        "files": {name: digest_of(into / name) for name in sorted([*nets, *pictures])},
        "nets": nets,
        "sets": sets,
    }
    write_text(into / MANIFEST, json.dumps(told, indent=1) + "\n")
    say("\n".join(f"{name}: {of['accuracy']:.1%} of {of['held_out']}" for name, of in nets.items()))
    size = sum((into / name).stat().st_size for name in told["files"])
    say(f"{len(told['files'])} files, {size / 1e6:.2f} MB, are in {into}")


# -- nets


def blank(name: str, walled: bool, seed: int) -> tuple[nn.Module, BlindNet]:
    """(what is trained, the net it becomes), untrained; the lower half of the image is hidden, to the pixel."""
    if name == "residual":
        model = models.opened("wallcheck:resnet_small", num_classes=CLASSES, seed=seed)
        return model, blinded(model, walled)
    wall = {"side": "bottom", "cells": 6} if walled else None
    net = models.vgg(PLAN, SIZE, CLASSES, HIDDEN[name], wall, pooled=name == "pooled", seed=seed)
    return net, net


def blinded(model: nn.Module, walled: bool) -> BlindNet:
    """A residual net's last layer reads all of the image, so its wall parts the image in every layer."""
    wall = dict(wall="bottom:1/2", kind="trunk") if walled else dict(wall=Wall.none((SIZE // 8, SIZE // 8)))
    return models.blind(model, SIZE, layer="blocks", **wall)


@contextmanager
def running(model: nn.Module, net: BlindNet) -> Iterator[Callable[[Tensor], Tensor]]:
    """images -> logits of what is trained."""
    if model is net:
        yield net.shortcut
    elif net.wall.is_open:
        yield model
    else:
        with behind(model, net) as logits_of:
            yield logits_of


def shipped(name: str, walled: bool, options: Shipment, tell: Callable[[int, int, str], None]) -> dict:
    """Train the net unless it is kept, write its file, and tell what it is."""
    file, folder = file_of(name, walled), Path(options.out)
    stacked = not walled and name != "plain"
    if not kept_in(options, name, walled).is_file():
        train(name, walled, options, labelled(folder, "train", stacked), lambda *done: tell(*done, f"training {file}"))
    net = models.load(kept_in(options, name, walled))
    certificate, found = certify(net), accuracy(net, labelled(folder, "val", stacked))
    if walled:
        certificate.raise_if_broken()
    if found < LEAST:
        raise ValueError(
            f"{file} tells {found:.1%} of held-out images right, less than {LEAST:.0%}; train it for longer"
        )
    halved(kept_in(options, name, walled), Path(options.into) / file)
    held_out = f"{options.val_count} images of val" + (", two of a class stacked in each" if stacked else "")
    return {
        "accuracy": found,
        "held_out": held_out,
        "unseen_pixels": int(net.regions.unseen.sum()),
        "unseen_cells": int(net.wall.unseen.sum()),
        "cells": list(net.wall.seen.shape),
        "description": net.description,
    }


def kept_in(options: Shipment, name: str, walled: bool) -> Path:
    """Where a finished net is kept: another training, another folder."""
    told = digest([options.seed, options.train_count, PLAN, HIDDEN, [*map(str, TRAININGS.items())]])
    return Path(options.out) / f"nets-{told[:8]}" / file_of(name, walled)


def train(name: str, walled: bool, options: Shipment, images: Arrays, tell: Callable[[int, int], None]) -> None:
    start, epochs = TRAININGS[name, walled]
    model, net = blank(name, walled, options.seed)
    if start is not None:
        take_convolutions(model, load_file(kept_in(options, *start)))
    with running(model, net) as logits_of:
        fit(model, logits_of, Batches(images, SIZE, "flip", options.seed), epochs, options.seed, tell)
    rounded(model)
    final = net if model is net else blinded(model, walled)
    final.description["classes"] = list(images.classes)
    models.save(final, kept_in(options, name, walled))


def take_convolutions(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Start from another net's weights wherever the shapes agree, but for the head."""
    own = model.state_dict()
    fitting = {n: v for n, v in weights.items() if not n.startswith("head") and own[n].shape == v.shape}
    model.load_state_dict(own | fitting)


def labelled(folder: Path, part: str, stacked: bool) -> Arrays:
    """The rendered images of a part; stacked: below the wall the upper half of another image of the same class."""
    images = open_labelled(folder / "data", part)
    if not stacked:
        return images
    pixels, draw = np.array(images.pixels), np.random.default_rng(0)
    for label in range(CLASSES):
        (of,) = np.nonzero(images.labels == label)
        pixels[of, SIZE // 2 :] = images.pixels[draw.permutation(of)][:, : SIZE // 2]
    return Arrays(images.name, pixels, images.labels, images.classes)


def rounded(model: nn.Module) -> None:
    """Weights to the nearest numbers of half precision: the file holds exactly these."""
    for value in (*model.parameters(), *model.buffers()):
        if value.is_floating_point():
            value.data.copy_(value.data.half().float())


def accuracy(net: BlindNet, images: Arrays) -> float:
    batches, right = Batches(images, SIZE), 0
    with torch.no_grad():
        for start in range(0, len(batches), 100):
            pixels, labels = batches[list(range(start, min(start + 100, len(batches))))]
            right += int((net(pixels).argmax(1) == labels).sum())
    return right / len(batches)


def halved(kept: Path, path: Path) -> None:
    """The net's weights in half precision; the manifest describes the net."""
    weights = {name: value.half() if value.is_floating_point() else value for name, value in load_file(kept).items()}
    with beside(path) as partial:
        save_file(weights, partial)
        partial.chmod(0o644)  # for whoever installs it


# -- images


def sheet(images: ImageSet, into: Path) -> dict:
    """All images of a set on one lossless sheet, COLUMNS to a row, and their masks on another; what else there is to tell."""
    for part, values in (("", images.pixels), ("-masks", images.masks)):
        with beside(into / f"{images.name}{part}.png") as partial:
            Image.fromarray(tiled(np.asarray(values))).save(partial, "PNG", optimize=True)
    return images.meta | {"labels": images.labels.tolist()}


def tiled(values: np.ndarray) -> np.ndarray:
    """(N, H, W, ...) -> (rows x H, COLUMNS x W, ...); N is a multiple of COLUMNS."""
    if len(values) % COLUMNS:
        raise ValueError(f"{len(values)} images do not fill rows of {COLUMNS}; give --count a multiple of it")
    height, width, *colours = values.shape[1:]
    rows = values.reshape(-1, COLUMNS, height, width, *colours).swapaxes(1, 2)
    return np.ascontiguousarray(rows.reshape(-1, COLUMNS * width, *colours))


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    flags.script("experiments.assets", main, Shipment)

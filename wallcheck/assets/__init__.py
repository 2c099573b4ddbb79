"""What comes with wallcheck: small trained nets and a few images, so that a method can be asked without training or data.

    wallcheck.assets.net("plain")                  a chain of convolutions, a head that reads places
    wallcheck.assets.net("pooled")                 a chain of convolutions, the mean over cells, one linear layer
    wallcheck.assets.net("residual")               three residual blocks, the mean over cells, one linear layer
    wallcheck.assets.net("plain", walled=False)    its twin that sees all of the image; each net has one
    wallcheck.assets.images("stack_mix")           30 images, each two of one class stacked at the wall
    wallcheck.assets.images("stack_gen")           30 images of one scene with two objects of one class

All take images of 64 px in ten classes; behind the wall lies the lower half of the image, to the pixel. On a command line they
are assets:plain, assets:plain-unwalled, ..., and assets:stack_mix, assets:stack_gen. How good the nets are, and what made all of
this (python -m experiments.assets, in the source repository), stands in manifest.json beside this file.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec

import numpy as np
from PIL import Image
from safetensors.torch import load

from wallcheck.data import ImageSet
from wallcheck.models import BlindNet, rebuilt

NETS = ("plain", "pooled", "residual")
SETS = ("stack_mix", "stack_gen")
PREFIX, UNWALLED = "assets:", "-unwalled"
MANIFEST = "manifest.json"
OF_YOUR_OWN = "wallcheck.models.load reads one of your own"
COLUMNS = 6  # images in a row of a sheet
AGAIN = "install wallcheck again: pip install --force-reinstall --no-deps wallcheck"


def net(name: str = "plain", walled: bool = True) -> BlindNet:
    """A trained net, in eval mode, on the CPU; each call gives a new one.

    name: one of NETS. walled: False gives the twin without a wall. Its description tells its classes.
    Raises LookupError for another name; FileNotFoundError or ValueError where the installed files are not those of the manifest.
    """
    _known("net", name, NETS, OF_YOUR_OWN)
    file = file_of(name, walled)
    weights = {key: v.float() if v.is_floating_point() else v for key, v in load(_bytes(file)).items()}
    return rebuilt(weights, manifest()["nets"][file]["description"], f"{file} does not fit its description; {AGAIN}")


def images(set: str = "stack_mix", classes: Sequence[str] = ()) -> ImageSet:
    """An image set with labels and masks of its objects, as `wallcheck.data.open_images` gives one. Raises as `net` does.

    set: one of SETS. classes: the names of a net's classes, which decide what a label means; the set's own if not given.
    """
    _known("image set", set, SETS, "wallcheck.data.open_images reads a folder")
    told = manifest()["sets"][set]
    labels, size = np.array(told.pop("labels")), told["size"]
    pixels, masks = (_untiled(_bytes(f"{set}{part}.png"), size) for part in ("", "-masks"))
    return ImageSet.of(told, pixels, labels, masks, classes)


def manifest() -> dict:
    """What there is and how it was made: {"made", "files", "nets", "sets"}."""
    try:
        return json.loads(_read(MANIFEST))
    except ValueError as error:
        raise ValueError(f"{_path(MANIFEST)} is damaged ({error}); {AGAIN}") from None


def named(text: str) -> tuple[str, bool] | None:
    """(name, walled) of "assets:plain" or "assets:plain-unwalled"; None for any other text. Raises LookupError for another name
    behind the colon, unless a module `assets` of the user's own can be meant.

    >>> named("assets:pooled-unwalled"), named("torchvision:resnet18")
    (('pooled', False), None)
    """
    name = text.removeprefix(PREFIX)
    walled = not name.endswith(UNWALLED)
    name = name.removesuffix(UNWALLED)
    if not text.startswith(PREFIX) or (name not in NETS and find_spec(PREFIX.removesuffix(":"))):
        return None
    _known("net", name, NETS, OF_YOUR_OWN)
    return name, walled


def file_of(name: str, walled: bool) -> str:
    """Name of a net's file."""
    return f"{name}{'' if walled else UNWALLED}.safetensors"


def _known(kind: str, name: str, names: tuple[str, ...], otherwise: str) -> None:
    if name not in names:
        raise LookupError(f"no {kind} named {name!r} comes with wallcheck; there are {', '.join(names)}; {otherwise}")


@cache
def _bytes(file: str) -> bytes:
    """A file whose digest the manifest confirms."""
    held = _read(file)
    if (found := hashlib.sha256(held).hexdigest()) != manifest()["files"].get(file):
        raise ValueError(f"{_path(file)} is damaged (SHA-256 {found[:12]}..., not the manifest's); {AGAIN}")
    return held


def _read(file: str) -> bytes:
    try:
        return _path(file).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{_path(file)} is missing; {AGAIN}") from None


def _path(file: str) -> Traversable:
    return files(__name__) / file


def _untiled(held: bytes, size: int) -> np.ndarray:
    """A sheet's images (N, size, size, ...), uint8."""
    sheet = np.asarray(Image.open(io.BytesIO(held)))
    rows = sheet.reshape(-1, size, COLUMNS, size, *sheet.shape[2:]).swapaxes(1, 2)
    return np.ascontiguousarray(rows.reshape(-1, size, size, *sheet.shape[2:]))

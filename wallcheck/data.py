"""Reads image sets (labels, masks, scenes) and any folder of photographs; never generates.

A set of ours is a folder: images.npy (N, H, W, 3) uint8, labels.npy (N,), masks.npy (N, H, W) with 0 for
background, 1 for the object above the wall, 2 for the one below, and set.json.
"""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from unicodedata import normalize
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from wallcheck.photos import PhotoNotice, checked_side, class_folders, expanded, find_photos, printable, read_photo

# ImageNet's channel means and standard deviations, for our nets too: one convention for all.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Sets are rendered by data_gen, which is in the source repository and not in the wheel.
AGAIN = "copy it again, or generate it again with python -m data_gen of the source repository"
MAKE = (
    "take one that comes with wallcheck (wallcheck.assets.images, assets:stack_mix on a command line), or make one with "
    "python -m data_gen of the source repository"
)


def normalise(images: np.ndarray | Tensor) -> Tensor:
    """uint8 images (B, H, W, 3) -> float32 (B, 3, H, W), channel means 0 and deviations 1 on ImageNet."""
    images = torch.as_tensor(images)
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != torch.uint8:
        raise ValueError(
            f"images are {images.dtype} {tuple(images.shape)}, expected uint8 (B, H, W, 3); convert them to RGB"
        )
    pixels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    return (pixels / 255 - mean) / std


def to_display(images: Tensor) -> np.ndarray:
    """Undo `normalise`: float (B, 3, H, W) -> float (B, H, W, 3) in [0, 1]."""
    mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (MEAN, STD))
    return (images * std + mean).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()


class ImageSet:
    """A generated image set, memory-mapped. Raises FileNotFoundError or ValueError when it is not whole.

    classes: the names of the net's classes in the order of its logits, if they are known. Labels are then the net's
    numbers of the set's names, -1 for a name that the net has not; else they are as the set numbers them.
    """

    def __init__(self, folder: str | Path, classes: Sequence[str] = ()):
        self.folder = expanded(folder)
        meta = _read_json(self.folder / "set.json")
        self._hold(meta, *(_array(self.folder / f"{n}.npy") for n in ("images", "labels", "masks")))
        if not len(self.pixels) == len(self.labels) == len(self.masks):
            raise ValueError(
                f"{self.folder} holds {len(self.pixels)} images, {len(self.labels)} labels and {len(self.masks)} masks; "
                f"{AGAIN}"
            )
        if (
            not len(self.pixels)
            or self.labels.ndim != 1
            or self.labels.dtype.kind not in "iu"
            or self.pixels.dtype != np.uint8
        ):
            raise ValueError(
                f"{self.folder} holds images {self.pixels.dtype} {self.pixels.shape} and labels {self.labels.dtype} "
                f"{self.labels.shape}, expected uint8 (N, H, W, 3) and whole numbers (N,), N from 1 on; {AGAIN}"
            )
        self._renumber(tuple(classes))

    @classmethod
    def of(
        cls, meta: dict, pixels: np.ndarray, labels: np.ndarray, masks: np.ndarray, classes: Sequence[str] = ()
    ) -> "ImageSet":
        """A set that lies in memory; meta: what its set.json would hold."""
        made = object.__new__(cls)
        made._hold(meta, pixels, labels, masks)
        made._renumber(tuple(classes))
        return made

    def _hold(self, meta: dict, pixels: np.ndarray, labels: np.ndarray, masks: np.ndarray) -> None:
        self.meta, self.pixels, self.labels, self.masks = meta, pixels, labels, masks
        self.name, self.classes = meta["name"], tuple(meta.get("classes", ()))

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: Sequence[int] | slice = slice(None)) -> Tensor:
        """Normalised images (B, 3, H, W)."""
        return normalise(np.asarray(self.pixels[_numbers(indices, len(self))]))

    @property
    def identity(self) -> dict:
        return self.identify(len(self))

    def identify(self, count: int) -> dict:
        """What a manifest keeps of the first `count` images: the digest of their pixels and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pixels[:count]).data)
        digest.update(np.asarray(self.labels[:count], np.int64).tobytes())
        return {"name": self.name, "count": len(self.pixels[:count]), "sha256": digest.hexdigest()}

    def unlabelled(self, count: int) -> str | None:
        """Why the first `count` images have no labels, and what to do; None if they have."""
        if not len(self.labels[:count]) or min(self.labels[:count]) >= 0:
            return None
        own = _some(self.meta.get("classes", ()))
        return (
            f"the set's classes ({own}) are not all classes of the net ({_some(self.classes)}); audit a set of the "
            f"net's classes or explain the predicted class instead"
        )

    def _renumber(self, classes: tuple[str, ...]) -> None:
        if not classes or not self.classes or classes == self.classes:
            return
        number = _number_of(classes)
        own = dict(enumerate(number.get(normalize("NFC", name), -1) for name in self.classes))
        self.labels = np.array([own.get(int(label), -1) for label in self.labels])
        self.classes = classes


class PhotoFolder:
    """Every image file below a folder, in sorted order, as `wallcheck.photos` finds and reads them: centre squares of `size`.

    Class folders are labels: an image at FOLDER/CLASS/... has the number of CLASS among `classes`, the names of
    the net's classes in the order of its logits; -1 if it lies in no such folder, or if no names are given. A number
    in place of names is the count of a net's classes whose names nobody kept: folders named 0, 1, ... are then those
    numbers, and as many folders as classes are taken in alphabetical order, as torchvision's ImageFolder numbers them.

    Warns, once, of what was passed over. Raises FileNotFoundError or ValueError where there is nothing to read.
    """

    def __init__(self, folder: str | Path, size: int, classes: Sequence[str] | int = ()):
        if not expanded(folder).is_dir():
            raise FileNotFoundError(f"no folder at {folder}; give a folder of images")
        self.size = checked_side(size)
        self.folder = expanded(folder).absolute()  # the process may go elsewhere before it is read
        self.name = printable(self.folder.resolve().name)
        found = find_photos(self.folder)
        self.paths, self.skipped = found
        if not self.paths:
            raise ValueError(
                f"{self.folder} holds no images of a type that is read ({found}); give a folder that has some"
            )
        found.tell(self.folder)
        self.classes = self._named(int(classes)) if isinstance(classes, (int, np.integer)) else tuple(classes)
        self.labels = self._labels()

    def __len__(self) -> int:
        return len(self.paths)

    def images(self, indices: Sequence[int] | slice = slice(None)) -> Tensor:
        """Normalised images (B, 3, size, size); raises ValueError naming a file that cannot be read."""
        chosen = [self.paths[number] for number in _numbers(indices, len(self))]
        if not chosen:
            return torch.empty(0, 3, self.size, self.size)
        return normalise(np.stack([read_photo(path, self.size) for path in chosen]))

    def check(self, count: int) -> None:
        """Raise ValueError naming the first of `count` images that cannot be read: told before hours of work, not after."""
        for path in self.paths[:count]:
            read_photo(path, self.size)

    @property
    def identity(self) -> dict:
        return self.identify(len(self))

    def identify(self, count: int) -> dict:
        """What a manifest keeps of the first `count` images: the digest of their names, bytes and labels. No other is read."""
        digest = hashlib.sha256()
        for path, label in zip(self.paths[:count], self.labels, strict=False):
            digest.update(os.fsencode(path.relative_to(self.folder)) + b"\0%d\0" % label)
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return {"name": self.name, "count": len(self.paths[:count]), "sha256": digest.hexdigest(), "size": self.size}

    def unlabelled(self, count: int) -> str | None:
        """Why the first `count` images have no labels, and what to do; None if they have."""
        without = np.flatnonzero(self.labels[:count] < 0)
        if not len(without):
            return None
        if not self.classes:
            return (
                f"the names of the net's classes are not known, nor which of its folders ({_some(class_folders(self.folder))}) is which; give them with --classes (a tree TREE/CLASS/IMAGE, an "
                "image set, or a text file with one name a line) or explain the predicted class instead"
            )
        first = self.paths[without[0]]
        if first.relative_to(self.folder).parts[0] in self.classes:
            return (
                f"{first} lies in a folder whose name several classes of the net have; give each a name of its own with --classes or "
                "explain the predicted class instead"
            )
        return (
            f"{first} lies in no folder named as a class of the net ({_some(self.classes)}); lay the "
            f"photographs out as FOLDER/CLASS/IMAGE or explain the predicted class instead"
        )

    def _labels(self) -> np.ndarray:
        number = _number_of(self.classes)
        inner = [path.relative_to(self.folder).parts for path in self.paths]
        return np.array([number.get(normalize("NFC", parts[0]), -1) if len(parts) > 1 else -1 for parts in inner])

    def _named(self, count: int) -> tuple[str, ...]:
        """Names for `count` classes that have none, from the folders."""
        folders, numbers = class_folders(self.folder), [str(number) for number in range(count)]
        if folders and set(folders) <= set(numbers):
            return tuple(numbers)
        if len(folders) != count:
            return ()
        told = f"{self.folder}: its {count} folders in alphabetical order are taken for the net's classes"
        warnings.warn(told, PhotoNotice, stacklevel=3)
        return tuple(folders)


def open_images(folder: str | Path, size: int, classes: Sequence[str] | int = ()) -> ImageSet | PhotoFolder:
    """The image set or the photographs in a folder, at size x size; raises ValueError for a set of another size.

    classes: the names of the net's classes in the order of its logits, which decide what a label means; or their
    count, if nobody kept the names (see PhotoFolder).
    """
    folder = expanded(folder)
    if not (folder / "set.json").is_file():
        return PhotoFolder(folder, size, classes)
    return sized(ImageSet(folder, () if isinstance(classes, (int, np.integer)) else classes), size)


def sized(images: ImageSet, size: int) -> ImageSet:
    """images; raises ValueError unless they are size x size."""
    if images.pixels.shape[1:] != (size, size, 3):
        raise ValueError(
            f"{images.name} has images of shape {images.pixels.shape[1:]}, the net takes {(size, size, 3)}; take photographs, "
            f"which are read at any size, or a net of the images' size, or generate the set with --size {size}"
        )
    return images


def class_names(source: str | Path) -> tuple[str, ...]:
    """The names of a net's classes, in the order of its logits, from what it was trained on.

    source: a tree TREE/CLASS/IMAGE, whose folders count in alphabetical order (torchvision's ImageFolder); an image set; or
    a text file with one name a line. Raises ValueError if there is no name in it or one twice.
    """
    source = expanded(source)
    if source.is_dir():
        names = ImageSet(source).classes if (source / "set.json").is_file() else tuple(class_folders(source))
    elif source.is_file():
        try:
            text = source.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{source} is no text in UTF-8 ({error}); save it so, one name a line") from None
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    else:
        raise FileNotFoundError(
            f"no folder or file at {source}; give the classes' folders or a text file of their names"
        )
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{source} has {len(names)} class names, {len(set(names))} of them different; give each once")
    return names


def _array(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {AGAIN}")
    try:
        return np.load(path, mmap_mode="r")
    except (ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is damaged ({error}); {AGAIN}") from None


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no set.json, so it is no image set; {MAKE}")
    try:
        kept = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); {AGAIN}") from None
    if not isinstance(kept, dict) or not isinstance(kept.get("name"), str):
        raise ValueError(f"{path} is damaged (no name); {AGAIN}")
    classes = kept.get("classes", [])
    if not isinstance(classes, list) or not all(isinstance(each, str) for each in classes):
        raise ValueError(f"{path} is damaged (classes are no list of names); {AGAIN}")
    return kept


def _numbers(indices: Sequence[int] | slice, count: int) -> np.ndarray:
    """Which of `count` are meant, as numpy reads it: a slice, whole numbers, a mask; one number stands for itself alone."""
    every = np.arange(count)
    if isinstance(indices, slice):
        return every[indices]
    chosen = np.asarray(indices)
    return np.atleast_1d(every[chosen if chosen.size else chosen.astype(int)])


def _number_of(classes: Iterable[str]) -> dict[str, int]:
    """Name -> its label; a name that several classes share (ImageNet's "crane" and "maillot") says which of them by no rule, and is
    left out. One name may be written in two ways: a Mac's files have e and an accent where a list of classes has one letter."""
    names = [normalize("NFC", name) for name in classes]
    often = Counter(names)
    return {name: label for label, name in enumerate(names) if often[name] == 1}


def _some(names: Sequence[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

"""Labelled images that a training reads: our sets, class folders (torchvision's ImageFolder) and CIFAR's layout; and how
they are altered before a net sees them."""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100, ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2.functional import resized_crop

from wallcheck.data import ImageSet, read_photo
from wallcheck.keeping import seeded
from wallcheck.registry import Registry


class Augmentation(NamedTuple):
    """What training does to an image by chance; validation does nothing."""

    crop: bool
    flip: bool


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation")
AUGMENTATIONS["none"] = Augmentation(crop=False, flip=False)
AUGMENTATIONS["flip"] = Augmentation(crop=False, flip=True)
# Taimeskhanov, Sicre and Garreau's: a part of AREA of the image, width / height in ASPECT, resized; mirrored half of the time.
AUGMENTATIONS["random_area"] = Augmentation(crop=True, flip=True)
AREA, ASPECT = (0.1, 1.0), (0.8, 1.25)


class Arrays:
    """Images that lie in memory, or mapped into it, all of one size."""

    def __init__(self, name: str, pixels: np.ndarray, labels: Sequence[int] | np.ndarray, classes: Sequence[str]):
        self.name, self.pixels = name, np.asarray(pixels)
        self.labels, self.classes = np.array(labels, dtype=np.int64), tuple(classes)

    def __len__(self) -> int:
        return len(self.labels)

    def whole(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3)."""
        return self.pixels[index]

    def squares(self, indices: Sequence[int], size: int) -> np.ndarray:
        """uint8 (B, size, size, 3)."""
        self.check(size)
        return self.pixels[indices]

    def check(self, size: int) -> None:
        """Raise ValueError unless the images have the size of the net."""
        if self.pixels.shape[1:] != (size, size, 3):
            raise ValueError(
                f"{self.name} has images of {self.pixels.shape[1]} px, the net takes {size}; "
                f"train it with --model.image_size {self.pixels.shape[1]}"
            )


class Photographs:
    """A tree CLASS/.../IMAGE as torchvision's ImageFolder reads it; names that begin with a dot do not count.

    classes: the names of the net's classes, whose places are the labels; None takes the folders' in alphabetical order.
    Raises ValueError for a folder that is none of the classes, and for a class folder without an image.
    """

    def __init__(self, folder: Path, classes: Sequence[str] | None = None):
        self.name, self.classes = str(folder), tuple(classes or class_folders(folder))
        if foreign := sorted(set(class_folders(folder)) - set(self.classes)):
            raise ValueError(f"{folder} has folders {', '.join(foreign)} that are no class of train; remove them")
        places = {name: self.classes.index(name) for name in class_folders(folder)}
        try:
            samples = ImageFolder.make_dataset(str(folder), places, is_valid_file=_is_photo)
        except FileNotFoundError as error:
            raise ValueError(f"{folder}: {error}; put images there or remove the folder") from None
        self.paths, self.labels = [Path(path) for path, _ in samples], np.array([label for _, label in samples])

    def __len__(self) -> int:
        return len(self.paths)

    def whole(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3)."""
        return read_photo(self.paths[index], None)

    def squares(self, indices: Sequence[int], size: int) -> np.ndarray:
        """uint8 (B, size, size, 3): centre squares, resized."""
        return np.stack([read_photo(self.paths[index], size) for index in indices])

    def check(self, size: int) -> None:
        """Photographs are taken to any size."""


Labelled = Arrays | Photographs


def random_part(image: np.ndarray, size: int, draw: torch.Generator) -> np.ndarray:
    """A part of uint8 (H, W, 3) as torchvision's RandomResizedCrop draws it, of AREA and ASPECT, at (size, size, 3)."""
    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    with seeded(int(torch.randint(2**31, (), generator=draw))):  # torchvision draws from the global state
        box = RandomResizedCrop.get_params(planes, list(AREA), list(ASPECT))
    return resized_crop(planes, *box, [size, size], antialias=True).permute(1, 2, 0).numpy()


# Finding


def open_labelled(folder: str | Path, part: str) -> Labelled:
    """The images of a part, train or val, below a folder: an image set, a tree of class folders, or CIFAR's files.

    CIFAR's test batch is val. Raises FileNotFoundError where there is none of them.
    """
    folder = Path(folder).expanduser()
    if (folder / part / "set.json").is_file():
        images = ImageSet(folder / part)
        return Arrays(str(folder / part), images.pixels, images.labels, images.classes)
    for kind in (_Cifar10, _Cifar100):
        if (folder / kind.base_folder).is_dir():
            return _cifar(kind, folder, part)
    if not (folder / part).is_dir():
        raise FileNotFoundError(
            f"no folder at {folder / part}; give a folder with train/ and val/, each an image set or a folder for each "
            f"class, or with CIFAR's {CIFAR10.base_folder} or {CIFAR100.base_folder}"
        )
    return Photographs(folder / part, None if part == "train" else class_names(folder))


def class_names(folder: str | Path) -> tuple[str, ...]:
    """The classes of train, in the order of their labels; () for a set that names none. Class folders are not looked into."""
    folder = Path(folder).expanduser()
    packed = (folder / "train" / "set.json", folder / _Cifar10.base_folder, folder / _Cifar100.base_folder)
    if any(path.exists() for path in packed) or not (folder / "train").is_dir():
        return open_labelled(folder, "train").classes
    return tuple(class_folders(folder / "train"))


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, in alphabetical order; raises ValueError where there is none."""
    names = (
        sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")) if folder.is_dir() else []
    )
    if not names:
        raise ValueError(f"{folder} has no class folders; lay the images out as {folder.name}/CLASS/IMAGE")
    return names


def _is_photo(path: str) -> bool:
    return path.lower().endswith(IMG_EXTENSIONS) and not Path(path).name.startswith(".")


# CIFAR. Its files are pickles, and a pickle may run anything: what these files may name is decided before torchvision opens them.


def _named(files: list[list[str]]) -> list[list[str | None]]:
    """torchvision's list of files without their digests."""
    return [[name, None] for name, _ in files]


class _Cifar10(CIFAR10):
    """The layout, whatever the files hold: torchvision's digests, which fit the published files alone, are left out."""

    train_list, test_list = _named(CIFAR10.train_list), _named(CIFAR10.test_list)
    meta = {**CIFAR10.meta, "md5": None}  # noqa: RUF012


class _Cifar100(CIFAR100):
    """As _Cifar10."""

    train_list, test_list = _named(CIFAR100.train_list), _named(CIFAR100.test_list)
    meta = {**CIFAR100.meta, "md5": None}  # noqa: RUF012


class _ArraysOnly(pickle.Unpickler):
    """Opens pickles of lists, dictionaries and arrays."""

    ALLOWED = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
    NAMES = ("ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer")

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("_codecs", "encode") or (module in self.ALLOWED and name in self.NAMES):
            return super().find_class(module, name)
        raise ValueError(f"it asks for {module}.{name}")


def _cifar(kind: type[_Cifar10 | _Cifar100], folder: Path, part: str) -> Arrays:
    place = folder / kind.base_folder
    names = [name for name, _ in (kind.train_list if part == "train" else kind.test_list)]
    for name in (*names, kind.meta["filename"]):
        if not (place / name).is_file():
            raise FileNotFoundError(f"{place / name} is missing; unpack CIFAR's archive again")
        try:
            _ArraysOnly(io.BytesIO((place / name).read_bytes()), encoding="latin1").load()
        except Exception as error:  # damaged pickles answer with whatever they stumble over
            raise ValueError(f"{place / name} is no file of CIFAR's ({error}); unpack the archive again") from None
    images = kind(str(folder), train=part == "train")
    return Arrays(str(place), images.data, images.targets, images.classes)


def augmented(images: Labelled, indices: Sequence[int], size: int, how: Augmentation, draw: torch.Generator) -> Tensor:
    """uint8 (B, size, size, 3) of the images at `indices`; every chance from `draw`."""
    mirrored = torch.rand(len(indices), generator=draw) < 0.5
    if how.crop:
        squares = np.stack([random_part(images.whole(index), size, draw) for index in indices])
    else:
        squares = images.squares(indices, size)
    pixels = torch.as_tensor(np.ascontiguousarray(squares))
    return torch.where(mirrored[:, None, None, None], pixels.flip(2), pixels) if how.flip else pixels

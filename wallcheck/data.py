"""Reads image sets (labels, masks, scenes) and any folder of photographs; never generates.

A set of ours is a folder: images.npy (N, H, W, 3) uint8, labels.npy (N,), masks.npy (N, H, W) with 0 for
background, 1 for the object above the wall, 2 for the one below, and set.json.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

# ImageNet's channel means and standard deviations, for our nets too: one convention for all.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}


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
    """A generated image set, memory-mapped. Raises FileNotFoundError or ValueError when it is not whole."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.meta = _read_json(self.folder / "set.json")
        if "name" not in self.meta:
            raise ValueError(
                f"{self.folder}/set.json is damaged (no name); generate the set again with python -m data_gen"
            )
        self.name = self.meta["name"]
        self.classes = tuple(self.meta.get("classes", ()))
        self.pixels, self.labels, self.masks = (_array(self.folder / f"{n}.npy") for n in ("images", "labels", "masks"))
        if not len(self.pixels) == len(self.labels) == len(self.masks):
            raise ValueError(
                f"{self.folder} holds {len(self.pixels)} images, {len(self.labels)} labels and {len(self.masks)} masks; "
                f"generate it again with python -m data_gen"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: Sequence[int] | slice = slice(None)) -> Tensor:
        """Normalised images (B, 3, H, W)."""
        return normalise(np.array(self.pixels[indices]))

    @property
    def identity(self) -> dict:
        """What a manifest keeps of the set: its description and the digest of its pixels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()
        return {"name": self.name, "count": len(self), "sha256": digest}


class PhotoFolder:
    """Every image file below a folder, in sorted order: shorter side resized to `size`, centre cropped, RGB.

    Photographs have no labels of the net's classes, so `labels` is -1 throughout.
    """

    def __init__(self, folder: str | Path, size: int):
        self.folder, self.size = Path(folder), size
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder at {self.folder}; give a folder of images")
        self.name = self.folder.resolve().name
        self.classes = ()
        self.paths = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not self.paths:
            raise ValueError(
                f"{self.folder} holds no images ({', '.join(sorted(SUFFIXES))}); give a folder that has some"
            )
        self.labels = np.full(len(self.paths), -1)

    def __len__(self) -> int:
        return len(self.paths)

    def images(self, indices: Sequence[int] | slice = slice(None)) -> Tensor:
        """Normalised images (B, 3, size, size); raises ValueError naming a file that cannot be read."""
        chosen = self.paths[indices] if isinstance(indices, slice) else [self.paths[i] for i in indices]
        return normalise(np.stack([read_photo(path, self.size) for path in chosen]))

    def check(self, count: int) -> None:
        """Raise ValueError naming the first of `count` images that cannot be read: told before hours of work, not after."""
        for path in self.paths[:count]:
            read_photo(path, self.size)

    @property
    def identity(self) -> dict:
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(path.relative_to(self.folder).as_posix().encode() + path.read_bytes())
        return {"name": self.name, "count": len(self), "sha256": digest.hexdigest(), "size": self.size}


def open_images(folder: str | Path, size: int) -> ImageSet | PhotoFolder:
    """The image set or the photographs in a folder, at size x size; raises ValueError for a set of another size."""
    if not (Path(folder) / "set.json").is_file():
        return PhotoFolder(folder, size)
    images = ImageSet(folder)
    if images.pixels.shape[1:] != (size, size, 3):
        raise ValueError(
            f"{folder} has images of shape {images.pixels.shape[1:]}, the net takes {(size, size, 3)}; "
            f"generate the set with --size {size}"
        )
    return images


def read_photo(path: Path, size: int) -> np.ndarray:
    """One image file as uint8 (size, size, 3)."""
    try:
        with Image.open(path) as photo:
            photo = photo.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is no readable image ({error}); remove or repair it") from None
    scale = size / min(photo.size)
    width, height = (max(size, round(side * scale)) for side in photo.size)
    photo = photo.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(photo.crop((left, top, left + size, top + size)))


def _array(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; generate the set again with python -m data_gen")
    try:
        return np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); generate the set again with python -m data_gen") from None


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.parent} holds no set.json, so it is no image set; make one with python -m data_gen"
        )
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); generate the set again with python -m data_gen") from None

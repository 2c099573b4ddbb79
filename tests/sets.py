"""Image sets and photographs on disk for the tests, written by hand rather than rendered."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.nets import CLASSES, SIZE, photos
from wallcheck.data import to_display


def pixels(count: int, seed: int = 0, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """The images of tests.nets.photos as uint8 (N, H, W, 3), and their labels."""
    images, labels = photos(count, seed, size)
    return (255 * to_display(images)).round().astype(np.uint8), labels.numpy()


def write_set(folder: Path, count: int, seed: int = 0, size: int = SIZE) -> Path:
    """An image set as data_gen lays it out."""
    folder.mkdir(parents=True)
    images, labels = pixels(count, seed, size)
    for name, array in (("images", images), ("labels", labels), ("masks", np.zeros(images.shape[:3], np.uint8))):
        np.save(folder / f"{name}.npy", array)
    (folder / "set.json").write_text(
        json.dumps(
            dict(name=folder.name, count=count, size=size, wall_row=size // 2, seed=seed, classes=[*"abcd"][:CLASSES])
        )
    )
    return folder


def write_photographs(folder: Path, count: int, seed: int = 0) -> Path:
    """Image files of several formats, sizes, modes and depths of folder."""
    draw = np.random.default_rng(seed)
    for number in range(count):
        height, width = draw.integers(20, 60, 2)
        values = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
        place = folder / ("inner" if number % 2 else "")
        place.mkdir(parents=True, exist_ok=True)
        mode, suffix = (("RGB", "png"), ("L", "jpg"), ("RGBA", "webp"), ("P", "bmp"))[number % 4]
        Image.fromarray(values).convert(mode).save(place / f"{number:02d}.{suffix}")
    return folder

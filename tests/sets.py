"""Image sets and photographs on disk for the tests, written by hand rather than rendered."""

import json
import pickle
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


NAMES = ("ant", "bee", "cow", "dog")


def write_class_folders(folder: Path, train: int, val: int, size: int = SIZE) -> Path:
    """A tree PART/CLASS/IMAGE of photographs of several shapes, with the patches of tests.nets.photos in their centres."""
    for seed, (part, count) in enumerate((("train", train), ("val", val))):
        images, _ = pixels(count, seed, size)
        labels = np.arange(count) % CLASSES
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / part / NAMES[label]
            place.mkdir(parents=True, exist_ok=True)
            image[2:9, 6 * label : 6 * label + 6] = 255
            shape = (2 * size, 2 * size + 8 * (number % 3))
            Image.fromarray(image).resize(shape[::-1]).save(place / f"{number:03d}.{('png', 'jpg')[number % 2]}")
    return folder


def write_cifar(folder: Path, kind: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """CIFAR's python files with a few random images: all images, train before test, their labels, and the classes."""
    fine = kind == "cifar100"
    place = folder / ("cifar-100-python" if fine else "cifar-10-batches-py")
    place.mkdir(parents=True)
    names = ["train", "test"] if fine else [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    counts = [8, 4] if fine else [4] * 6
    classes = [f"class{n}" for n in range(100 if fine else 10)]
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (sum(counts), 32, 32, 3), dtype=np.uint8)
    labels = draw.integers(0, len(classes), sum(counts))
    start = 0
    for name, count in zip(names, counts, strict=True):
        part = slice(start, start + count)
        planes = images[part].transpose(0, 3, 1, 2).reshape(count, -1)
        content = {"data": planes, "fine_labels" if fine else "labels": labels[part].tolist()}
        (place / name).write_bytes(pickle.dumps(content, protocol=2))
        start += count
    meta = {"fine_label_names" if fine else "label_names": classes}
    (place / ("meta" if fine else "batches.meta")).write_bytes(pickle.dumps(meta, protocol=2))
    return images, labels, classes

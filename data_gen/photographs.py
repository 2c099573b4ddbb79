"""STACK-MIX from photographs: any tree with one folder of images per class (ImageNet's layout)."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_gen import storage
from data_gen.recipes import ORDER, chance
from data_gen.scene import check_size

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
SET_NAME = "stack_mix_photographs"


def stack_mix_from_folder(
    tree: str | Path,
    out: str | Path,
    count: int = 100,
    size: int = 96,
    seed: int = 0,
    wall_row: int | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int], None] = lambda images: None,
) -> Path:
    """STACK-MIX from a class-per-folder tree, into out / "stack_mix_photographs"; returns that folder.

    Rows above the wall come from one photograph, the rows below it are the first rows of another of
    the same class. Labels number the class folders in alphabetical order. Photographs come without
    object masks, so masks.npy is 0 everywhere.
    """
    wall_row = size // 2 if wall_row is None else wall_row
    check_size(size, wall_row)
    files = photographs(Path(tree))
    folder = Path(out) / SET_NAME
    description = {
        "name": SET_NAME, "purpose": "two photographs of one class, cut at the wall", "count": count,
        "size": size, "wall_row": wall_row, "seed": seed, "classes": list(files),
        "source": str(Path(tree).resolve()), "source_digest": digest(files),
    }  # fmt: skip
    if storage.is_finished(folder, description, overwrite):
        on_progress(count)
        return folder
    with storage.new_folder(folder) as part:
        storage.create_arrays(part, count, size)
        rows = pairs(files, count, seed)
        for i, pair in enumerate(rows):
            image = read_square(pair["top"], size)
            image[wall_row:] = read_square(pair["bottom"], size)[: size - wall_row]
            storage.fill_arrays(part, i, image[None], np.zeros((1, size, size), np.uint8))
            on_progress(1)
        storage.write_table(part, rows, description)
    return folder


def photographs(tree: Path) -> dict[str, list[Path]]:
    """Class folder -> its image files, both in alphabetical order."""
    if not tree.is_dir():
        raise FileNotFoundError(f"{tree} is no folder; give a tree with one folder of images per class")
    files = {
        folder.name: sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        for folder in sorted(tree.iterdir())
        if folder.is_dir()
    }
    if not any(len(paths) > 1 for paths in files.values()):
        raise ValueError(
            f"{tree} has {len(files)} class folders and none with two images; STACK-MIX pairs images "
            f"of one class, so lay them out as TREE/CLASS/IMAGE with {', '.join(SUFFIXES)}"
        )
    return files


def pairs(files: dict[str, list[Path]], count: int, seed: int) -> list[dict]:
    """Classes with two images or more in turn, shuffled; within an image the two files differ.

    A class goes through all its images before one is used again.
    """
    if count < 1:
        raise ValueError(f"{SET_NAME} needs at least one image, got a count of {count}")
    rng = chance(seed, SET_NAME, 0, ORDER)
    usable = [(label, paths) for label, paths in enumerate(files.values()) if len(paths) > 1]
    rng.shuffle(usable)
    decks = {label: [] for label, _ in usable}
    dealt = []
    for i in range(count):
        label, paths = usable[i % len(usable)]
        if len(decks[label]) < 2:
            decks[label] = [paths[k] for k in rng.permutation(len(paths))]
        top, bottom = decks[label].pop(), decks[label].pop()
        dealt.append({"label": label, "below": label, "top": str(top), "bottom": str(bottom)})
    rng.shuffle(dealt)
    return [{"image": i, **pair} for i, pair in enumerate(dealt)]


def read_square(path: str | Path, size: int) -> np.ndarray:
    """(size, size, 3) uint8: the shorter side resized to `size`, then the centre cut out."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); repair or remove it") from error
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(image.crop((left, top, left + size, top + size)))


def digest(files: dict[str, list[Path]]) -> str:
    """Tells apart two states of a tree by the names and sizes of its files."""
    lines = (f"{name}/{path.name} {path.stat().st_size}" for name, paths in files.items() for path in paths)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

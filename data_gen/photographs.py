"""STACK-MIX from photographs: any tree with one folder of images per class (ImageNet's layout)."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_gen import storage
from data_gen.recipes import ORDER, chance
from data_gen.scene import check_numbers, check_size
from wallcheck.photos import class_folders, expanded, find_photos, printable
from wallcheck.photos import read_photo as read_square

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
    check_numbers(count, size, seed)
    wall_row = size // 2 if wall_row is None else wall_row
    check_size(size, wall_row)
    tree, folder = expanded(tree), expanded(out) / SET_NAME
    files = photographs(tree)
    rows = pairs(files, count, seed)
    description = {
        "name": SET_NAME, "purpose": "two photographs of one class, cut at the wall", "count": count,
        "size": size, "wall_row": wall_row, "seed": seed, "classes": [printable(name) for name in files],
        "source": printable(tree.resolve()), "source_digest": digest(files, rows),
    }  # fmt: skip
    if storage.is_finished(folder, description, overwrite):
        on_progress(count)
        return folder
    with storage.new_folder(folder, description, overwrite) as part:
        storage.create_arrays(part, count, size)
        for i, pair in enumerate(rows):
            image = read_square(pair["top"], size)
            image[wall_row:] = read_square(pair["bottom"], size)[: size - wall_row]
            storage.fill_arrays(part, i, image[None], np.zeros((1, size, size), np.uint8))
            on_progress(1)
        named = [pair | {half: printable(pair[half]) for half in ("top", "bottom")} for pair in rows]
        storage.write_table(part, named, description)
    return folder


def photographs(tree: Path) -> dict[str, list[Path]]:
    """Class folder -> its image files, both in alphabetical order; `wallcheck.photos` says what counts. Warns of the rest."""
    if not tree.is_dir():
        raise FileNotFoundError(f"{tree} is no folder; give a tree with one folder of images per class")
    found, files = find_photos(tree), {name: [] for name in class_folders(tree)}
    found.tell(tree)
    for path in found.paths:
        inner = path.relative_to(tree).parts
        if len(inner) > 1:
            files[inner[0]].append(path)
    if not any(len(paths) > 1 for paths in files.values()):
        raise ValueError(
            f"{tree} has {len(files)} class folders and none with two images ({found}); STACK-MIX pairs images "
            f"of one class, so lay them out as TREE/CLASS/IMAGE"
        )
    return files


def pairs(files: dict[str, list[Path]], count: int, seed: int) -> list[dict]:
    """Classes with two images or more in turn, shuffled; within an image the two files differ.

    A class goes through all its images before one is used again.
    """
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


def digest(files: dict[str, list[Path]], rows: list[dict]) -> str:
    """Tells apart two states of a tree, as far as the set shows them: the names of its files, and the bytes of those used."""
    names = (f"{name}/{path.name}\n" for name, paths in files.items() for path in paths)
    state = hashlib.sha256(b"".join(map(os.fsencode, names)))
    for path in sorted({pair[half] for pair in rows for half in ("top", "bottom")}):
        state.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return state.hexdigest()[:16]

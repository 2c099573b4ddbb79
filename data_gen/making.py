"""Make a whole image set: sample, draw, put together, store. The bytes do not depend on how the work is split."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from data_gen import storage
from data_gen.drawing import draw
from data_gen.recipes import CONSTANT, NOISE, Frame, Sample, places, recipe_of, samples
from data_gen.scene import ABOVE, BELOW, Scene, check_numbers, check_size
from data_gen.solids import NAMES

RENDERER_VERSION = 1  # raised when equal scenes begin to draw other bytes
IMAGES_PER_TASK = 256  # of SIDE px; as many pixels of others, so that a task takes as long
SIDE = 96


def make_set(
    name: str,
    out: str | Path,
    count: int | None = None,
    size: int = 96,
    seed: int = 0,
    wall_row: int | None = None,
    overwrite: bool = False,
    pool: Executor | None = None,
    on_progress: Callable[[int], None] = lambda images: None,
) -> Path:
    """Render the set `name` into the folder out / name and return that folder.

    A finished set with the same parameters is kept as it is. `on_progress` is told how many images
    have been added. The wall stands at half height and the count is the recipe's if not told.
    """
    count = recipe_of(name).count if count is None else count
    check_numbers(count, size, seed)
    frame = Frame(size, size // 2 if wall_row is None else wall_row, seed)
    folder, description = Path(out) / name, describe(name, count, frame)
    if storage.is_finished(folder, description, overwrite):
        on_progress(count)
        return folder
    with storage.new_folder(folder, description, overwrite) as part:
        storage.create_arrays(part, count, size)
        step = by_area(IMAGES_PER_TASK, size)
        tasks = [(name, count, frame, range(start, start + step), part) for start in range(0, count, step)]
        rows = []
        for done in map(make_part, tasks) if pool is None else pool.map(make_part, tasks):
            rows += done
            on_progress(len(done))
        storage.write_table(part, rows, description)
    return folder


def by_area(images: int, size: int) -> int:
    """How many images of this size have the pixels of so many of SIDE px; one at least, and no more of smaller ones.

    >>> by_area(256, 64), by_area(256, 96), by_area(256, 224)
    (256, 256, 47)
    """
    return max(1, min(images, images * SIDE**2 // size**2))


def process_pool(processes: int) -> ProcessPoolExecutor:
    """Processes for `make_set`; spawned, because a fork does not survive torch's thread pool."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, context, initializer=torch.set_num_threads, initargs=(1,))


def describe(name: str, count: int, frame: Frame) -> dict:
    """All that decides a set's bytes; refuses what cannot be drawn."""
    check_size(frame.size, frame.wall_row)
    return {
        "name": name, "purpose": recipe_of(name).purpose, "count": count, "size": frame.size,
        "wall_row": frame.wall_row, "seed": frame.seed, "classes": list(NAMES), "source": "rendered",
        "renderer_version": RENDERER_VERSION,
    }  # fmt: skip


def make_part(task: tuple[str, int, Frame, range, Path]) -> list[dict]:
    """Draw one piece of a set into the set's arrays; returns its rows of the table."""
    name, count, frame, numbers, folder = task
    piece = samples(name, count, frame, numbers.start, numbers.stop)
    storage.fill_arrays(folder, numbers.start, *render(piece))
    return [row(number, sample) for number, sample in zip(numbers, piece, strict=False)]  # the last piece is shorter


def render(piece: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, 3) and masks (N, H, W) of samples."""
    images, masks = draw([sample.top for sample in piece])
    drawn = [sample.bottom for sample in piece if isinstance(sample.bottom, Scene)]
    others = iter(zip(*draw(drawn), strict=True)) if drawn else iter(())
    for sample, image, mask in zip(piece, images, masks, strict=True):
        if sample.bottom is not None:
            lay_bottom(sample, image, mask, others)
    return images, masks


def lay_bottom(
    sample: Sample, image: np.ndarray, mask: np.ndarray, others: Iterator[tuple[np.ndarray, np.ndarray]]
) -> None:
    """Replace, in place, the rows of an image and its mask below the wall by the sample's bottom."""
    wall = sample.top.wall_row
    if sample.filling == NOISE:
        image[wall:] = np.random.default_rng(sample.bottom).integers(0, 256, image[wall:].shape, np.uint8)
        mask[wall:] = 0
    elif sample.filling == CONSTANT:
        image[wall:], mask[wall:] = sample.bottom, 0
    else:
        other, other_mask = next(others)
        image[wall:] = other[: len(image) - wall]
        mask[wall:] = np.where(other_mask[: len(image) - wall] == ABOVE, BELOW, 0)


def row(number: int, sample: Sample) -> dict:
    """One line of scenes.parquet: the scenes as JSON redraw the image, the other columns are for reading."""
    bottom = sample.bottom.to_json() if isinstance(sample.bottom, Scene) else str(sample.bottom or "")
    return {
        "image": number, "label": sample.label, "below": sample.below, **places(sample),
        "filling": sample.filling, "top": sample.top.to_json(), "bottom": bottom,
    }  # fmt: skip

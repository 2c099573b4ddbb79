"""Contact sheets: every class and every set on one page, to be looked at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from data_gen import storage
from data_gen.drawing import draw
from data_gen.recipes import TOP, chance
from data_gen.sampling import sample_scene
from data_gen.solids import NAMES

COLUMNS = 10


def class_sheet(path: str | Path, size: int = 96, wall_row: int | None = None, seed: int = 0) -> None:
    """One line per class: the rows above the wall of ten images."""
    wall_row = size // 2 if wall_row is None else wall_row
    scenes = [
        sample_scene(label, chance(seed, f"contact sheet {column}", label, TOP), size, wall_row)
        for label in range(len(NAMES))
        for column in range(COLUMNS)
    ]
    images = draw(scenes)[0][:, :wall_row].reshape(len(NAMES), COLUMNS, wall_row, size, 3)
    _sheet(path, NAMES, images)


def set_sheet(path: str | Path, folders: Sequence[Path]) -> None:
    """One line per set: its first ten images, labelled, with the wall drawn in."""
    described = [storage.read_description(folder) for folder in folders]
    if not described or None in described:
        raise ValueError(f"no finished image set in {list(map(str, folders))}; render the sets first")
    images = [np.load(folder / "images.npy", mmap_mode="r")[:COLUMNS] for folder in folders]
    labels = [np.load(folder / "labels.npy")[:COLUMNS] for folder in folders]
    captions = [[d["classes"][label] for label in ls] for d, ls in zip(described, labels, strict=True)]
    _sheet(path, [d["name"] for d in described], images, captions, [d["wall_row"] for d in described])


def _sheet(
    path: str | Path,
    names: Sequence[str],
    images: Sequence[np.ndarray],
    captions: Sequence[Sequence[str]] | None = None,
    walls: Sequence[int] | None = None,
) -> None:
    """Lines of images (columns, h, w, 3), named at the left."""
    height, width = images[0].shape[1:3]
    figure = Figure(figsize=(13, 0.4 + len(names) * (1.15 * height / width + 0.22)), dpi=150, layout="constrained")
    axes = figure.subplots(len(names), COLUMNS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for line, name in enumerate(names):
        axes[line, 0].text(-0.08, 0.5, name.replace("_", "\n"), ha="right", va="center",
                           transform=axes[line, 0].transAxes, fontsize=10)  # fmt: skip
        for column, image in enumerate(images[line]):
            axes[line, column].imshow(image, interpolation="nearest")
            if captions:
                axes[line, column].set_title(captions[line][column], fontsize=7, pad=2)
            if walls:
                axes[line, column].axhline(walls[line] - 0.5, color="white", linewidth=0.8, linestyle=(0, (3, 3)))
    figure.savefig(path)

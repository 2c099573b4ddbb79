"""Image sets on disk: one folder per set, complete or absent.

images.npy      (N, H, W, 3) uint8
masks.npy       (N, H, W) uint8: 0 backdrop, 1 the object above the wall, 2 the object below it
labels.npy      (N,) int64: class of the object above the wall
scenes.parquet  one row per image: label, below (-1 for none), places, and the scenes themselves
set.json        name, count, size, wall_row, seed, class names, renderer version
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd

from wallcheck.writing import folder_beside

DESCRIPTION = "set.json"


def is_finished(folder: Path, description: dict, overwrite: bool) -> bool:
    """True where the very set is there already, False where it is to be made; another set is never lost."""
    if not folder.exists():
        return False
    found = read_description(folder)
    if found == description:
        return not overwrite
    if found is not None and overwrite:
        return False
    what = "is no image set" if found is None else f"holds another set ({_difference(found, description)})"
    cure = "choose another folder" if found is None else "choose another folder or ask to overwrite it"
    raise FileExistsError(f"{folder} {what}; {cure}")


def read_description(folder: Path) -> dict | None:
    """What set.json says, or None where there is no readable one."""
    try:
        return json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def new_folder(folder: Path, description: dict, overwrite: bool = False) -> Iterator[Path]:
    """A folder beside `folder` that takes its name once the block has succeeded, and vanishes otherwise.

    Several processes may make one set at once, each in a folder of its own; the first to end gives it its name.
    """
    with ExitStack() as kept:
        try:
            part = kept.enter_context(folder_beside(folder))
        except OSError as error:
            raise OSError(f"cannot write image sets into {folder.parent}: {error}; choose another folder") from error
        yield part
        _name(part, folder, description, overwrite)


def _name(part: Path, folder: Path, description: dict, overwrite: bool) -> None:
    """Put `part` in the place of `folder`, unless another process has put the very set there meanwhile."""
    with folder_beside(folder) as aside:
        old = aside / folder.name
        if folder.exists() and not is_finished(folder, description, overwrite):
            with suppress(FileNotFoundError):  # another process has moved it away
                folder.rename(old)
        try:
            part.rename(folder)
        except OSError:
            if old.exists() and not folder.exists():
                old.rename(folder)
            if not is_finished(folder, description, overwrite=False):
                raise


def create_arrays(folder: Path, count: int, size: int) -> None:
    """Empty images.npy and masks.npy, to be filled in pieces."""
    for name, shape in (("images", (count, size, size, 3)), ("masks", (count, size, size))):
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape).flush()


def fill_arrays(folder: Path, start: int, images: np.ndarray, masks: np.ndarray) -> None:
    """Write the images from number `start` on; several processes may do so at once."""
    for name, values in (("images", images), ("masks", masks)):
        array = np.load(folder / f"{name}.npy", mmap_mode="r+")
        array[start : start + len(values)] = values
        array.flush()


def write_table(folder: Path, rows: list[dict], description: dict) -> None:
    """scenes.parquet and labels.npy from the rows, then the description."""
    table = pd.DataFrame(rows)
    np.save(folder / "labels.npy", table["label"].to_numpy(np.int64))
    table.to_parquet(folder / "scenes.parquet", compression="zstd", index=False)
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")


def _difference(found: dict, wanted: dict) -> str:
    keys = [key for key in wanted if found.get(key) != wanted[key]]
    return ", ".join(f"{key} {found.get(key)!r}, wanted {wanted[key]!r}" for key in keys) or "unknown fields"

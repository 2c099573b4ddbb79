"""Render the image sets.

    python -m data_gen --out data                                      # everything, 96 px: train, val, evaluation sets
    python -m data_gen --out data --sets stack_mix stack_gen --count 500 --seed 3
    python -m data_gen --out data --size 224 --wall-row 170            # the paper's geometry
    python -m data_gen --out data --sets stack_mix --from-folder TREE  # STACK-MIX from photographs as well
    python -m data_gen --out data --contact-sheet                      # contact_classes.png, contact_sets.png as well

A finished set with the same parameters is kept as it is.
"""

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from data_gen.contact import class_sheet, set_sheet
from data_gen.making import by_area, make_set, process_pool
from data_gen.photographs import SET_NAME, stack_mix_from_folder
from data_gen.recipes import CONTROLLED, RECIPES

IMAGES_PER_PROCESS = 1_500  # of 96 px: fewer are drawn sooner than another process has started


def parser() -> ArgumentParser:
    """The flags."""
    flags = ArgumentParser(prog="python -m data_gen", description="Render the image sets.")
    flags.add_argument("--config", action="config", help="read flags from a YAML file")
    add = flags.add_argument
    add("--out", type=str, default="data", help="where the folders of the sets are put")
    add("--sets", nargs="+", choices=list(RECIPES), default=list(RECIPES), help="which sets")
    add("--size", type=int, default=96, help="height and width of the images in pixels")
    add("--wall-row", type=int, help="first pixel row below the wall; half the height if not given")
    add("--seed", type=int, default=0, help="of everything that is drawn by chance")
    add("--train-count", type=int, default=RECIPES["train"].count, help="images in train")
    add("--val-count", type=int, default=RECIPES["val"].count, help="images in val")
    add("--count", type=int, default=RECIPES[CONTROLLED].count, help="images in each evaluation set")
    add("--from-folder", type=str, help="a tree TREE/CLASS/IMAGE of photographs, for STACK-MIX from them as well")
    add("--contact-sheet", action="store_true", help="draw a page of all classes and a page of all sets as well")
    add("--overwrite", action="store_true", help="replace sets that were made with other parameters")
    add("--processes", type=int, help="how many draw; one per core if not given. Changes no byte")
    return flags


def generate(run: Namespace) -> None:
    """Render the sets that the flags ask for."""
    counts = {name: {"train": run.train_count, "val": run.val_count}.get(name, run.count) for name in run.sets}
    shared = {name: run[name] for name in ("out", "size", "seed", "wall_row", "overwrite")}
    folders = []
    with _pool(run.processes, sum(counts.values()), run.size) as pool, _progress() as progress:
        for name, count in counts.items():
            track = _track(progress, name, count)
            folders.append(make_set(name, count=count, **shared, pool=pool, on_progress=track))
        if run.from_folder is not None:
            track = _track(progress, SET_NAME, run.count)
            folders.append(stack_mix_from_folder(run.from_folder, count=run.count, **shared, on_progress=track))
    if run.contact_sheet:
        class_sheet(Path(run.out) / "contact_classes.png", run.size, run.wall_row, run.seed)
        set_sheet(Path(run.out) / "contact_sets.png", folders)


def _pool(processes: int | None, images: int, size: int) -> AbstractContextManager:
    """A pool where it pays, otherwise None."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processes = min(cores, images // by_area(IMAGES_PER_PROCESS, size)) if processes is None else processes
    return process_pool(processes) if processes > 1 else nullcontext()


def _progress() -> Progress:
    """A bar on a terminal, nothing elsewhere."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())


def _track(progress: Progress, name: str, count: int) -> Callable[[int], None]:
    task = progress.add_task(name, total=count)
    return lambda images: progress.advance(task, images)


if __name__ == "__main__":
    try:
        generate(parser().parse_args())
    except (ValueError, OSError) as error:
        sys.exit(f"data_gen: {error}")

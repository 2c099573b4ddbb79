"""Audits larger than memory: how long a run folder takes, and how much memory, to be written, resumed, summarised and drawn.

    python -m experiments.scale                       10,000, 100,000 and 1,000,000 images; half an hour on two cores, 2 GB of disk
    python -m experiments.scale --images 10000        a minute

Rows are drawn, not measured, but written, compacted and asked as an audit's are: as many of each image as an audit of `methods` on
vgg_small has (37 of a method with a map on cells). A hundredth of the maps is empty, local methods leak nothing, shares lie anywhere. Each step
runs in a process of its own: seconds, processor seconds and the largest memory it ever held (resource.getrusage), with what the
libraries take once they are imported. Rows are removed when they have been asked; --keep leaves them. Leaves scale.md, .png and .json in
--docs; started again, sizes that are finished are kept. A second process on one --out is refused.
"""

import fcntl
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from experiments import flags, study
from wallcheck import plots
from wallcheck.results import (
    COLUMNS,
    Holdings,
    Manifest,
    compact,
    open_rows,
    set_foreign_aside,
    shards,
    summary,
    writable,
)

NAME = "scale"
NET, SET = "walled", "stack_mix"
LIMIT_GIB = 2  # of memory, for the summary of the largest size
COMPARED = 10_000  # images of which rows are merged in memory too, to compare
BEGUN = 0.9  # of the images are there when a run is resumed
CLASSES, EMPTY = 10, 0.01


@dataclass(frozen=True)
class ScaleRun:
    """Run folders of many images.

    Args:
        images: how many, of each size.
        methods: whose rows are drawn.
        batch_size: images of a shard as it is first written.
        seed: of what is drawn.
        keep: leave the rows there.
        out: the run folder.
        docs: where the page, its figure and its manifest go.
    """

    images: list[int] = field(default_factory=lambda: [10_000, 100_000, 1_000_000])
    methods: list[str] = field(
        default_factory=lambda: ["gradcam", "gradcampp", "hirescam", "layercam", "scorecam", "constant"]
    )
    batch_size: int = 250
    seed: int = 0
    keep: bool = False
    out: str = "runs/scale"
    docs: str = "docs/results"


def main(options: ScaleRun) -> None:
    out, manifest = study.claimed(options)
    with alone_in(out):
        measured = pd.concat(
            [
                study.kept(out / f"{images}.parquet", lambda images=images: steps_of(out, images, options))
                for images in options.images
            ],
            ignore_index=True,
        )
    figure = plots.scale(measured, LIMIT_GIB)
    study.publish(NAME, options, manifest, figure, page(measured, options), {"steps": measured})


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """No other process measures in this folder meanwhile: it would remove the rows of a size that it finds unfinished. Raises
    RuntimeError where one does; the lock of a process that ended, however, is none."""
    with (out / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"another process is measuring in {out}; wait until it has ended, or choose another --out"
            ) from None
        yield


# -- the steps, each in a process of its own --------------------------------------------------------


def steps_of(out: Path, images: int, options: ScaleRun) -> pd.DataFrame:
    """images, step, rows, gigabytes, shards, seconds, processor, gib of one size."""
    run, begun = out / f"rows-{images}", round(images * BEGUN)
    shutil.rmtree(run, ignore_errors=True)
    steps: dict[str, tuple[Callable, ...]] = {
        "write": (write, run, 0, begun, options),
        "resume": (resume, run, images, begun, options),
        "write the rest": (write, run, begun, images, options),
        "summary": (summarise, run),
        "sources": (parts, run),
        "figure": (draw, run),
    }
    if images <= COMPARED:
        steps["summary in memory"] = (merge_all, run)
    found = [dict(images=images, step=name) | alone(*step) for name, step in steps.items()]
    paths = shards(run)
    told = dict(rows=len(open_rows(run)), gigabytes=sum(path.stat().st_size for path in paths) / 1e9, shards=len(paths))
    if not options.keep:
        shutil.rmtree(run)
    return pd.DataFrame(found).assign(**told)


def alone(work: Callable, *given: object) -> dict[str, float]:
    """seconds, processor seconds and the peak of memory in GiB of a call in a fresh process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measured, work, *given).result()


def measured(work: Callable, *given: object) -> dict[str, float]:
    begun, used = time.perf_counter(), time.process_time()
    work(*given)
    seconds, processor = time.perf_counter() - begun, time.process_time() - used
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB elsewhere
    return dict(seconds=seconds, processor=processor, gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def write(run: Path, start: int, stop: int, options: ScaleRun) -> None:
    held = Holdings(writable(run), NET, SET, claimed_study(run))
    draws = np.random.default_rng([options.seed, start])
    drawn = Drawn(options.methods, options.batch_size)
    for first in range(start, stop, options.batch_size):
        held.keep(drawn.rows(first, min(first + options.batch_size, stop), draws))
    compact(run)


def claimed_study(run: Path) -> str:
    manifest = Manifest(config={}, study={"drawn": True})
    manifest.claim(run)
    return manifest.digest


def resume(run: Path, images: int, begun: int, options: ScaleRun) -> None:
    """What an audit does before it goes on: look at every shard, and find the images that are left."""
    study_digest = Manifest.load(run).digest
    set_foreign_aside(writable(run), study_digest)
    held, wanted = Holdings(run, NET, SET, study_digest), frozenset(keys_of(options.methods))
    left = [number for number in range(images) if held.missing(number, wanted)]
    if left != list(range(begun, images)):
        raise RuntimeError(
            f"{len(left)} images are left of {images}, expected {images - begun}; the rows are not whole"
        )


def summarise(run: Path) -> None:
    open_rows(run).summary().to_csv(run / "summary.csv", index=False)


def parts(run: Path) -> None:
    open_rows(run).split()


def draw(run: Path) -> None:
    plots.save(plots.leakage(open_rows(run)), run / "figures" / "leakage")


def merge_all(run: Path) -> None:
    """The way that holds every row in memory; RuntimeError where its answer is another one."""
    told = summary(open_rows(run).table())
    pd.testing.assert_frame_equal(told, open_rows(run).summary(), check_exact=True)


# -- drawn rows ------------------------------------------------------------------------------------


def keys_of(methods: list[str]) -> list[tuple[str, str, str, str]]:
    """(method, view, on, metric) of every value that an audit of these methods has on a net like vgg_small."""
    from wallcheck.cams import METHODS
    from wallcheck.maps import views_of
    from wallcheck.metrics import LEAKAGE

    keys = []
    for name in methods:
        grid = METHODS[name].grid
        keys += [(name, view.name, view.on, metric) for view in views_of(grid) for metric in LEAKAGE]
        keys.append((name, "rectified", "grid" if grid == "cells" else "image", "bright_area"))
    return keys


class Drawn:
    """Rows of a batch as `measure` gives them; all but image, class and value is the same in each."""

    def __init__(self, methods: list[str], batch_size: int):
        from wallcheck.cams import METHODS

        self.keys = keys_of(methods)
        self.count = batch_size
        self.table = pd.DataFrame(dict(net=NET, images=SET), index=range(len(self.keys) * batch_size))
        for place, name in enumerate(("method", "view", "on", "metric")):
            self.table[name] = pd.Categorical(np.repeat([key[place] for key in self.keys], batch_size))
        self.table[["net", "images"]] = self.table[["net", "images"]].astype("category")
        self.silent = np.array([METHODS[key[0]].family == "local" for key in self.keys])[:, None]
        self.yes_or_no = np.array([key[3] in ("leak_any", "leak_pointing") for key in self.keys])[:, None]

    def rows(self, start: int, stop: int, draws: np.random.Generator) -> pd.DataFrame:
        count = stop - start
        values = draws.random((len(self.keys), count), dtype=np.float32).astype(float)
        values = np.where(self.yes_or_no, values.round(), values) * ~self.silent
        values[:, draws.random(count) < EMPTY] = np.nan
        chosen = np.tile(np.arange(self.count) < count, len(self.keys))
        table = self.table if count == self.count else self.table[chosen].reset_index(drop=True)
        numbers, targets = np.arange(start, stop), draws.integers(CLASSES, size=count)
        return table.assign(
            image=np.tile(numbers, len(self.keys)), target=np.tile(targets, len(self.keys)), value=values.ravel()
        )[COLUMNS]


# -- page ------------------------------------------------------------------------------------------

TOLD = {
    "write": "write nine tenths",
    "resume": "resume: what is left?",
    "write the rest": "write the rest",
    "summary": "summary of every measure, with intervals",
    "sources": "where leakage comes from",
    "figure": "figure of leakage",
    "summary in memory": "for comparison: summary of the merged table",
}


def page(found: pd.DataFrame, options: ScaleRun) -> str:
    sizes = found.drop_duplicates("images")
    heads = ["images", "rows", "GB on disk", "shards"]
    lines = [
        [f"{one.images:,}", f"{one.rows:,}", f"{one.gigabytes:.2f}", str(one.shards)] for one in sizes.itertuples()
    ]
    wide = {name: found.pivot(index="step", columns="images", values=name) for name in ("seconds", "processor", "gib")}
    steps = [name for name in TOLD if name in set(found["step"])]
    cells = [[TOLD[step], *(cell(wide, step, images) for images in sizes["images"])] for step in steps]
    largest = found[(found["images"] == found["images"].max()) & (found["step"] == "summary")].iloc[0]
    return "\n".join(
        [
            "# Audits larger than memory",
            "",
            f"Drawn rows of {len(options.methods)} methods ({', '.join(options.methods)}), {len(keys_of(options.methods))} of each image, as an audit on "
            f"vgg_small has them; written in batches of {options.batch_size} images and compacted. {study.made_by(NAME, options)}",
            "",
            study.markdown(heads, lines),
            "",
            f"Seconds (processor seconds); GiB of memory at its peak, in a process of its own. {os.cpu_count()} cores, which other work shared.",
            "",
            study.markdown(["step", *(f"{images:,} images" for images in sizes["images"])], cells),
            "",
            f"The summary of {largest['rows']:,} rows took {largest['gib']:.2f} GiB (asked for: {LIMIT_GIB} GiB); 50,000 images and 118 methods are 200 million "
            "rows. An answer is equal to that of the merged table to the last bit, intervals too.",
            "",
            "How: shards are put together to some thousands of images each, the values of a measure side by side; a question reads the "
            "row groups of its methods alone, some 12 million values at once, and the intervals are those of `wallcheck.statistics.interval` on the "
            "values of one measure at a time. Read by pyarrow's Parquet reader: on 55 million rows in 30 shards the values of every measure took 1.4 s "
            "of processor time and 116 MiB, by DuckDB 2.0.1 3.7 s and 206 MiB, by pyarrow.dataset with a filter 23 s and 263 MiB; and DuckDB gave another sum, "
            "without a word, for a shard with a flipped bit, where pyarrow's page checksums tell.",
            "",
            "![Time and memory by the number of images](scale.png)",
            "",
        ]
    )


def cell(wide: dict[str, pd.DataFrame], step: str, images: int) -> str:
    seconds, processor, gib = (wide[name].loc[step, images] for name in ("seconds", "processor", "gib"))
    return "" if np.isnan(seconds) else f"{seconds:.0f} s ({processor:.0f} s); {gib:.2f} GiB"


if __name__ == "__main__":
    flags.script("experiments.scale", main, ScaleRun)

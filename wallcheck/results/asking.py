"""Rows that are asked and not merged: of a run folder, read as far as a question goes, or of a table.

A folder of 50,000 images and 118 methods has 200 million rows. What is asked of them is asked of one measure of one method
at a time, and a compacted shard keeps these values together; so an answer reads each value once and holds a bounded number of
them, however many images there are. pyarrow's Parquet reader does it, by row groups: on 55 million rows in 30 shards the values
of every measure took 1.4 s of processor time and 116 MiB, by DuckDB 2.0 3.7 s and 206 MiB, by pyarrow.dataset with a filter
23 s; and DuckDB gave another sum, without a word, for a shard with a flipped bit, which the checksums of the pages tell.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from wallcheck.results.arrow import key_codes
from wallcheck.results.means import OF_MAP, PARTS, part_means, parts_of, summary
from wallcheck.results.merging import Shelf, merge
from wallcheck.results.parquet import Header, pieces
from wallcheck.results.rows import PER_IMAGE, TEXT, unresolved_of

AT_ONCE = 12_000_000  # values in memory at once, with their images 12 bytes each, and again while they are put together: 290 MB
Values = dict["Measure", tuple[np.ndarray, np.ndarray]]  # -> images (N,), values (N,)


class Measure(NamedTuple):
    """What tells a value apart from all others of its image."""

    net: str
    images: str
    method: str
    view: str
    on: str
    metric: str


class Rows(ABC):
    """Rows of some measures. `measures` lists them in order; `failures` what could not be measured (see `unresolved`)."""

    measures: tuple[Measure, ...]
    failures: list[dict]

    @abstractmethod
    def where(self, keep: Callable[[Measure], bool]) -> "Rows":
        """The rows of the measures for which keep is true; nothing is read."""

    @abstractmethod
    def grouped(self, by: Sequence[str]) -> Iterator[tuple[tuple, np.ndarray]]:
        """(key, values (N,)) by some of net, images, method, view, on, metric; in the order of keys, values by image."""

    @abstractmethod
    def values(self, measures: Sequence[Measure]) -> dict[Measure, pd.Series]:
        """The values of each measure, by image."""

    @abstractmethod
    def table(self) -> pd.DataFrame:
        """All of these rows in memory, sorted by key."""

    @abstractmethod
    def __len__(self) -> int:
        """How many rows, as the shards tell it."""

    def select(self, **wanted: str | Sequence[str]) -> "Rows":
        """The rows with column=value, or one of several: `rows.select(method=["gradcam", "hirescam"], metric="leak_mass")`.

        Raises ValueError for a column that is not a text: ask `table()` then.
        """
        checked(list(wanted))
        some = {name: [value] if isinstance(value, str) else list(value) for name, value in wanted.items()}
        return self.where(lambda measure: all(getattr(measure, name) in some[name] for name in some))

    def unique(self, column: str) -> list[str]:
        """The values of a column, sorted."""
        checked([column])
        return sorted({getattr(measure, column) for measure in self.measures})

    def summary(self, by: list[str] | None = None) -> pd.DataFrame:
        """`wallcheck.results.summary` of these rows."""
        return summary(self, by)

    def split(self, metric: str = "leak_mass") -> pd.DataFrame:
        """`wallcheck.results.split_means`: where the leakage on the image comes from, a row per net, image set and method."""
        chosen = self.select(metric=metric, on="image", view=["rectified", "confined", "stretched"])
        maps: dict[tuple, list[Measure]] = {}
        for one in chosen.measures:
            maps.setdefault((one.net, one.images, one.method), []).append(one)
        found = []
        for key, measures in maps.items():
            views = pd.DataFrame({one.view: values for one, values in chosen.values(measures).items()})
            found.append(dict(zip(OF_MAP, key, strict=True)) | part_means(parts_of(views)))
        return pd.DataFrame(found, columns=[*OF_MAP, *PARTS, "count", "empty"])


def checked(columns: Sequence[str]) -> None:
    if other := [name for name in columns if name not in TEXT]:
        raise ValueError(f"rows are asked for by {', '.join(TEXT)}, not by {other[0]}; take table() and choose there")


def open_rows(run: str | Path) -> Rows:
    """The rows of a run folder, none of which is read yet.

    Raises FileNotFoundError where there are none, ValueError naming a damaged or foreign shard; and, when it is read, one in
    which a thing was measured twice with two results.
    """
    return Folder(run)


def rows_of(table: "pd.DataFrame | Rows") -> Rows:
    """Rows as they are, or those of a table."""
    return Table(table) if isinstance(table, pd.DataFrame) else table


class Table(Rows):
    """Rows of a table in memory."""

    def __init__(self, table: pd.DataFrame):
        self.rows, self.failures = table, table.attrs.get("failures", [])
        keys = table.groupby(TEXT, observed=True, sort=True)
        self._codes = keys.ngroup().to_numpy()
        self.measures = tuple(Measure(*map(str, key)) for key in keys.size().index)

    def where(self, keep: Callable[[Measure], bool]) -> Rows:
        wanted = np.array([keep(measure) for measure in self.measures], dtype=bool)
        return Table(self.rows[wanted[self._codes]])

    def grouped(self, by: Sequence[str]) -> Iterator[tuple[tuple, np.ndarray]]:
        checked(by)
        for key, values in self.rows.groupby(list(by), observed=True)["value"]:
            yield tuple(map(str, key)), values.to_numpy()

    def values(self, measures: Sequence[Measure]) -> dict[Measure, pd.Series]:
        some = self.where(set(measures).__contains__).table().groupby(TEXT, observed=True)
        return {Measure(*map(str, key)): part.set_index("image")["value"] for key, part in some}

    def table(self) -> pd.DataFrame:
        return self.rows

    def __len__(self) -> int:
        return len(self.rows)


class Folder(Rows):
    """Rows of a run folder. A shard that a compaction removed meanwhile is looked for anew in what took its place."""

    def __init__(self, run: str | Path):
        self.run, self.shelf = run, Shelf(run)
        self.counts: dict[Measure, int] = {}
        for header in self.shelf.headers.values():
            for block in header.blocks or ():
                for key in block.keys:
                    one = Measure(header.net, header.images, *key)
                    self.counts[one] = self.counts.get(one, 0) + len(block.images)
        self.measures = tuple(sorted(self.counts))
        self.failures = unresolved_of(self.shelf.failures, self.shelf.held)

    def where(self, keep: Callable[[Measure], bool]) -> Rows:
        some = copy(self)
        some.measures = tuple(measure for measure in self.measures if keep(measure))
        return some

    def __len__(self) -> int:
        return sum(self.counts[measure] for measure in self.measures)

    def grouped(self, by: Sequence[str]) -> Iterator[tuple[tuple, np.ndarray]]:
        checked(by)
        groups: dict[tuple, list[Measure]] = {}
        for measure in self.measures:
            groups.setdefault(tuple(getattr(measure, name) for name in by), []).append(measure)
        for some in self._passes(sorted(groups.items())):
            found = self._values({measure for _, measures in some for measure in measures})
            for key, measures in some:
                yield key, _in_order_of_images(measures, found)
            del found  # before the next pass fills its own

    def values(self, measures: Sequence[Measure]) -> dict[Measure, pd.Series]:
        found = self._values(set(measures))
        return {measure: pd.Series(values, images) for measure, (images, values) in found.items()}

    def _passes(self, groups: list[tuple[tuple, list[Measure]]]) -> Iterator[list]:
        """Neighbouring groups, as many as fit into memory at once."""
        some: list = []
        size = 0
        for key, measures in groups:
            count = sum(self.counts[measure] for measure in measures)
            if some and size + count > AT_ONCE:
                yield some
                some, size = [], 0
            some.append((key, measures))
            size += count
        if some:
            yield some

    def _values(self, wanted: set[Measure]) -> Values:
        found = self.shelf.reading(lambda shelf: self._read(shelf, wanted))
        return {measure: self._once(measure, found.pop(measure, [])) for measure in sorted(wanted)}

    def _read(self, shelf: Shelf, wanted: set[Measure]) -> dict[Measure, list]:
        found: dict[Measure, list] = {}
        paths = [path for path, header in shelf.headers.items() if _holds(header, wanted)]
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for some in pool.map(lambda path: _values_in(path, shelf.headers[path], wanted), paths):
                for measure, images, values in some:
                    found.setdefault(measure, []).append((images, values))
        return found

    def _once(self, measure: Measure, parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """By image; where something was measured twice, as `merge` has it."""
        images, values = (np.concatenate(one) for one in zip(*parts, strict=True)) if parts else (np.zeros(0),) * 2
        if (np.diff(images) > 0).all():
            return images, values
        order = images.argsort(kind="stable")
        images, values = images[order], values[order]
        if (np.diff(images) == 0).any():
            table = merge(self.run, **measure._asdict())
            return table["image"].to_numpy(), table["value"].to_numpy()
        return images, values

    def table(self) -> pd.DataFrame:
        some = {name: self.unique(name) for name in TEXT}
        table = merge(self.run, **some)
        combined = sum(all(getattr(one, name) in some[name] for name in TEXT) for one in self.counts)
        if combined > len(self.measures):
            table = Table(table).where(set(self.measures).__contains__).table().reset_index(drop=True)
        table.attrs["failures"] = self.failures
        return table


def _holds(header: Header, wanted: set[Measure]) -> bool:
    methods = {one.method for one in wanted if (one.net, one.images) == (header.net, header.images)}
    return any(methods.intersection(block.methods) for block in header.blocks or ())


def _values_in(path: Path, header: Header, wanted: set[Measure]) -> list[tuple[Measure, np.ndarray, np.ndarray]]:
    """(measure, images, values) of each wanted measure in a shard, by image where the shard is in order."""
    here = {measure[2:]: measure for measure in wanted if measure[:2] == (header.net, header.images)}
    found: list[tuple[Measure, np.ndarray, np.ndarray]] = []
    for piece in pieces(path, [*PER_IMAGE, "image", "value"], {method for method, *_ in here}):
        found += _runs(piece, here)
    return found


def _runs(piece: pa.Table, here: dict[tuple, Measure]) -> Iterator[tuple[Measure, np.ndarray, np.ndarray]]:
    codes, keys = key_codes(piece)
    images, values = piece["image"].to_numpy(), piece["value"].to_numpy()
    if (np.diff(codes) < 0).any():
        order = codes.argsort(kind="stable")
        codes, images, values = codes[order], images[order], values[order]
    bounds = np.searchsorted(codes, np.arange(len(keys) + 1))
    for key, start, stop in zip(keys, bounds, bounds[1:], strict=False):
        if key in here:  # copies, so that what is not wanted can go
            yield here[key], images[start:stop].astype(np.int32), values[start:stop].copy()


def _in_order_of_images(measures: Sequence[Measure], found: Values) -> np.ndarray:
    """The values of a group as a sorted table has them: by net and image set, then by image, then by the rest of the key."""
    blocks = []
    for _, some in groupby(sorted(measures), key=lambda measure: measure[:2]):
        parts = [found[measure] for measure in some]
        if len(parts) == 1:
            blocks.append(parts[0][1])
            continue
        images, values = (np.concatenate(one) for one in zip(*parts, strict=True))
        blocks.append(values[images.argsort(kind="stable")])
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

"""Which shards of a run folder count, and all of their rows as one table."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pandas as pd

from wallcheck.results.folder import MANIFEST, shards
from wallcheck.results.manifest import Manifest
from wallcheck.results.parquet import Header, full_header, read_shard
from wallcheck.results.rows import KEY, Failure, MeasuredTwice, sorted_rows, unresolved
from wallcheck.writing import at_home

AGAIN = 5  # times that a folder is looked at anew when shards vanish while they are read
T = TypeVar("T")


class Shelf:
    """The shards of a run that count, with their headers: those that another one replaces are left out.

    Raises FileNotFoundError where there are no rows, ValueError naming a damaged or foreign shard.
    """

    def __init__(self, run: str | Path):
        self.run = at_home(run)
        self.headers: dict[Path, Header] = {}
        self.reading(lambda shelf: shelf.look())

    def look(self) -> None:
        found = shards(self.run)
        if not found:
            raise FileNotFoundError(
                f"{self.run} holds no rows; audit into it first: wallcheck audit MODEL --images FOLDER --out {self.run}"
            )
        study = Manifest.load(self.run).digest if (self.run / MANIFEST).is_file() else ""
        headers = {path: self.headers.get(path) or _of_study(path, study) for path in found}
        gone = {name for header in headers.values() for name in header.replaces}
        self.headers = {path: header for path, header in headers.items() if path.name not in gone}

    def reading(self, read: Callable[["Shelf"], T]) -> T:
        """What `read` gives; asked again of the shards that are there now when one vanished, as compaction has it."""
        left = AGAIN
        while True:
            try:
                if left < AGAIN:
                    self.look()
                return read(self)
            except FileNotFoundError:
                left -= 1
                if not left:
                    raise

    def of(self, wanted: Mapping[str, object]) -> list[Path]:
        """The shards whose net and image set are wanted; at least one, so that there is a table."""
        found = list(self.headers)
        for name in {"net", "images"} & wanted.keys():
            one = wanted[name]
            some = one if isinstance(one, (list, tuple)) else [one]
            found = [path for path in found if getattr(self.headers[path], name) in some]
        return found or list(self.headers)[:1]

    @cached_property
    def failures(self) -> list[Failure]:
        return [one for header in self.headers.values() for one in header.failures]

    @cached_property
    def held(self) -> set[tuple]:
        """(net, images, image, method, metric) of the rows of images and methods that failed at some time."""
        asked = {(one.net, one.images, one.image, one.method) for one in self.failures}
        return {
            (header.net, header.images, image, method, metric)
            for header in self.headers.values()
            for block in header.blocks or ()
            for method in block.methods
            for image in block.images
            if (header.net, header.images, image, method) in asked
            for _, _, metric in block.asks
        }


def _of_study(path: Path, study: str) -> Header:
    header = Header.read(path)
    if header.study != study:
        raise ValueError(f"{path} belongs to another study; remove it or run the audit again, which sets it aside")
    return header if header.blocks is not None else full_header(path)


def merge(run: str | Path, **wanted: object) -> pd.DataFrame:
    """All rows of a run, sorted by key; or, read no further than need be, those with column=value (or one of several).

        merge("runs/audit", method=["gradcam", "hirescam"], metric="leak_mass")

    For rows that fit into memory; `open_rows` asks of any number. `attrs["failures"]` lists what could not be measured (see
    `unresolved`). Raises FileNotFoundError where there are no rows, ValueError naming a damaged or foreign shard, and where one
    thing was measured twice with two results.
    """
    shelf = Shelf(run)
    try:
        table = shelf.reading(lambda shelf: sorted_rows(read_shard(path, **wanted) for path in shelf.of(wanted)))
    except MeasuredTwice as error:
        raise ValueError(f"{error} Remove one of {', '.join(_holding(shelf.headers, error.key))}") from None
    table.attrs["failures"] = [] if wanted else unresolved(shelf.failures, table)
    return table


def _holding(paths: Iterable[Path], key: dict) -> list[str]:
    return [str(path) for path in paths if len(read_shard(path, **{name: key[name] for name in KEY}))]

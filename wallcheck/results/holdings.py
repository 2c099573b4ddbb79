"""What a run folder holds of a net on an image set: what an audit that goes on need not measure again."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from wallcheck.results.compacting import FULL_IMAGES, MANY, compact, is_small
from wallcheck.results.digests import file_name
from wallcheck.results.folder import ROWS, set_aside, shards
from wallcheck.results.parquet import Damaged, Header, described, read_arrow, write_shard
from wallcheck.results.rows import COLUMNS, PER_IMAGE, Failure
from wallcheck.writing import at_home

NOTHING: frozenset = frozenset()


class Holdings:
    """What a run folder holds of one net on one image set; asked again it looks again, and reads no shard twice.

    study: digest that shards must carry. pictures: digests of the images as they are now; a shard of other images is
    foreign. Foreign and damaged shards are set aside with a warning, so that what they stood for is measured again. Memory: a
    pointer for each image, for images of equal keys share one set.
    """

    def __init__(
        self,
        run: str | Path,
        net: str,
        images: str,
        study: str = "",
        pictures: Mapping[int, str] = MappingProxyType({}),
    ):
        self.run, self.folder = at_home(run), at_home(run) / ROWS
        self.study, self.pictures = study, dict(pictures)
        self.pattern = f"{file_name(net)}--{file_name(images)}--*.parquet"
        self.known: set[str] = set()
        self.held: dict[int, frozenset] = {}
        self.small: dict[str, int] = {}  # shards that wait to be compacted -> images in them
        self._sets: dict[tuple[frozenset, frozenset], frozenset] = {}
        self.look()

    def look(self) -> "Holdings":
        """Take in the shards that have come since."""
        there = {path.name: path for path in self.folder.glob(self.pattern)}
        for name in sorted(there.keys() - self.known):
            self.known.add(name)
            self._take(there[name])
        self.known &= there.keys()
        self.small = {name: count for name, count in self.small.items() if name in there}
        return self

    def _take(self, path: Path) -> None:
        try:
            header = Header.read(path)
            other = [n for n, told in header.pictures.items() if self.pictures.get(n, told) != told]
            if header.study != self.study or other:
                what = f"other images (image {other[0]})" if other else "another study"
                return put_away(path, f"holds rows of {what}")
            rows = read_arrow(path, COLUMNS)  # whether the file is whole
            header = described(rows, header) if header.blocks is None else header
        except FileNotFoundError:
            return None
        except Damaged:
            return put_away(path, "is damaged")
        if is_small(header):
            self.small[path.name] = len(header.numbers)
        for block in header.blocks or ():
            keys = block.keys
            for number in block.images:
                self.held[number] = self._joined(self.held.get(number, NOTHING), keys)

    def _joined(self, before: frozenset, keys: frozenset) -> frozenset:
        if (before, keys) not in self._sets:
            every = before | keys
            self._sets[before, keys] = next((one for one in self._sets.values() if one == every), every)
        return self._sets[before, keys]

    def missing(self, image: int, wanted: frozenset) -> frozenset:
        """Of the keys (method, view, on, metric) wanted of an image, those that no shard holds."""
        return wanted - self.held.get(image, frozenset())

    def new(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of table that no shard holds."""
        if not any(int(number) in self.held for number in table["image"].unique()):
            return table
        keys = table[["image", *PER_IMAGE]].itertuples(index=False, name=None)
        return table[np.array([key[1:] not in self.held.get(key[0], ()) for key in keys], dtype=bool)]

    def keep(self, table: pd.DataFrame, failures: Iterable[Failure] = ()) -> None:
        """Write what is new of a batch as a shard; when many have come together, one takes their place."""
        rows, failures = self.look().new(table), tuple(failures)
        if not len(rows) and not failures:
            return
        numbers = {*rows["image"].tolist(), *(failure.image for failure in failures)}
        told = {number: self.pictures[number] for number in sorted(numbers) if number in self.pictures}
        write_shard(self.run, rows, Header(self.study, told, failures))
        if len(self.small) >= MANY or sum(self.small.values()) >= FULL_IMAGES:
            compact(self.run, self.pattern, wait=False)


def done(run: str | Path, net: str, images: str, wanted: frozenset, study: str = "") -> set[int]:
    """Images of which every key (method, view, on, metric) wanted is kept."""
    kept = Holdings(run, net, images, study)
    return {image for image in kept.held if not kept.missing(image, wanted)}


def set_foreign_aside(run: Path, study: str) -> None:
    """Whatever the names of their files: shards of other studies leave the rows, and files that are no shards."""
    for path in shards(run):
        try:
            why = "holds rows of another study" if Header.read(path).study != study else None
        except FileNotFoundError:
            continue
        except Damaged:
            why = "is damaged"
        if why:
            put_away(path, why)


def put_away(path: Path, why: str) -> None:
    set_aside(path)
    warnings.warn(f"{path} {why}; it is kept as {path.name}.aside, and measured again", stacklevel=4)

"""Shards: Parquet files of rows, each with its study, versions and images; what a folder holds, and the merged table."""

import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from wallcheck.results.digests import digest, file_name
from wallcheck.results.folder import MANIFEST, ROWS, set_aside, shards
from wallcheck.results.manifest import Manifest, versions
from wallcheck.results.rows import COLUMNS, KEY, PER_IMAGE, TEXT, Failure, MeasuredTwice, sorted_rows, unresolved
from wallcheck.writing import at_home, beside

HEADER = b"wallcheck"
KINDS = {"image": pa.int64(), "target": pa.int64(), "value": pa.float64()}
SCHEMA = pa.schema([(name, KINDS.get(name, pa.string())) for name in COLUMNS])


class Damaged(ValueError):
    """A file in rows/ that is no whole shard."""


@dataclass(frozen=True)
class Header:
    """What a shard says of itself.

    study: digest of the study its rows belong to. pictures: image number -> digest of its pixels and label. failures:
    the maps that were asked for and could not be had. versions: of the packages that measured it.
    """

    study: str = ""
    pictures: Mapping[int, str] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    versions: Mapping[str, str] = field(default_factory=versions)

    def to_bytes(self) -> bytes:
        return json.dumps({**vars(self), "pictures": {str(n): told for n, told in self.pictures.items()}}).encode()

    @classmethod
    def read(cls, path: Path) -> "Header":
        """Raises Damaged for what is no shard; a Parquet file without a header belongs to no study."""
        try:
            found = json.loads((pq.read_schema(path).metadata or {}).get(HEADER, b'{"study": "unknown"}'))
            failures = tuple(Failure._make([*one[:4], tuple(one[4]), one[5]]) for one in found.get("failures", ()))
            pictures = {int(number): told for number, told in found.get("pictures", {}).items()}
            return cls(found["study"], pictures, failures, found.get("versions", {}))
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(path, error) from None


def write_shard(run: str | Path, table: pd.DataFrame, header: Header | None = None) -> Path:
    """Keep one piece of work: rows of some images of one net on one image set, and what could not be measured.

    Equal work has an equal name, so two processes that do the same leave one file.
    """
    header = header or Header()
    some = list(table[["net", "images"]].head(1).itertuples(index=False, name=None)) or [header.failures[0][:2]]
    (net, images), numbers = some[0], {*table["image"].tolist(), *(one.image for one in header.failures)}
    methods = {*table["method"].unique().tolist(), *(one.method for one in header.failures)}
    work = digest([header.study, net, images, *map(sorted, (numbers, methods, table["metric"].unique().tolist()))])
    name = f"{file_name(net)}--{file_name(images)}--{min(numbers):06d}-{work[:8]}.parquet"
    rows = pa.Table.from_pandas(table[COLUMNS].astype(dict.fromkeys(TEXT, str)), SCHEMA, preserve_index=False)
    rows = rows.replace_schema_metadata({**rows.schema.metadata, HEADER: header.to_bytes()})
    with beside(at_home(run) / ROWS / name) as partial:
        pq.write_table(rows, partial, write_page_checksum=True)
    return at_home(run) / ROWS / name


def read_shard(path: Path, **wanted: object) -> pd.DataFrame:
    """The rows of a shard, or of them those with column=value (or one of several); raises Damaged."""
    chosen = [(name, "in", value if isinstance(value, (list, tuple)) else [value]) for name, value in wanted.items()]
    try:
        # partitioning: a folder called a=b is no column.
        table = pq.read_table(
            path, columns=COLUMNS, filters=chosen or None, partitioning=None, page_checksum_verification=True
        )
        return table.to_pandas()
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> Damaged:
    said = " ".join(str(error).split())[:120]
    return Damaged(f"{path} is damaged ({said}); remove it and run the audit again, which measures it again")


class Holdings:
    """What a run folder holds of one net on one image set; asked again it looks again, and reads no shard twice.

    study: digest that shards must carry. pictures: digests of the images as they are now; a shard of other images is
    foreign. Foreign and damaged shards are set aside with a warning, so that what they stood for is measured again.
    """

    def __init__(
        self,
        run: str | Path,
        net: str,
        images: str,
        study: str = "",
        pictures: Mapping[int, str] = MappingProxyType({}),
    ):
        self.folder, self.study, self.pictures = at_home(run) / ROWS, study, dict(pictures)
        self.pattern = f"{file_name(net)}--{file_name(images)}--*.parquet"
        self.known: set[str] = set()
        self.held: dict[int, list[frozenset]] = {}
        self.look()

    def look(self) -> "Holdings":
        """Take in the shards that have come since."""
        for path in sorted(self.folder.glob(self.pattern)):
            if path.name not in self.known:
                self.known.add(path.name)
                self._take(path)
        return self

    def _take(self, path: Path) -> None:
        try:
            header = Header.read(path)
            other = [n for n, told in header.pictures.items() if self.pictures.get(n, told) != told]
            if header.study != self.study or other:
                what = f"other images (image {other[0]})" if other else "another study"
                return _put_away(path, f"holds rows of {what}")
            table = read_shard(path)
        except FileNotFoundError:
            return None
        except Damaged:
            return _put_away(path, "is damaged")
        for number, keys in keys_by_image(table).items():
            self.held.setdefault(number, []).append(keys)

    def missing(self, image: int, wanted: frozenset) -> frozenset:
        """Of the keys (method, view, on, metric) wanted of an image, those that no shard holds."""
        return wanted.difference(*self.held.get(image, ()))

    def new(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of table that no shard holds."""
        keys = table[["image", *PER_IMAGE]].itertuples(index=False, name=None)
        new = [not any(key[1:] in held for held in self.held.get(key[0], ())) for key in keys]
        return table[np.array(new, dtype=bool)]


def keys_by_image(table: pd.DataFrame) -> dict[int, frozenset]:
    """Image -> its keys (method, view, on, metric); images of equal keys share one set."""
    if table.empty:
        return {}
    codes, keys = pd.MultiIndex.from_frame(table[PER_IMAGE].astype(str)).factorize()
    made: dict[bytes, frozenset] = {}
    found = {}
    for image, part in pd.Series(codes).groupby(table["image"].to_numpy()):
        some = part.sort_values().to_numpy()
        if some.tobytes() not in made:
            made[some.tobytes()] = frozenset(keys[some])
        found[int(image)] = made[some.tobytes()]
    return found


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
            _put_away(path, why)


def _put_away(path: Path, why: str) -> None:
    set_aside(path)
    warnings.warn(f"{path} {why}; it is kept as {path.name}.aside, and measured again", stacklevel=4)


def merge(run: str | Path, **wanted: object) -> pd.DataFrame:
    """All rows of a run, sorted by key; or, read no further than need be, those with column=value (or one of several).

        merge("runs/audit", method=["gradcam", "hirescam"], metric="leak_mass")

    `attrs["failures"]` lists what could not be measured (see `unresolved`). Raises FileNotFoundError where there are no
    rows, ValueError naming a damaged or foreign shard, and where one thing was measured twice with two results.
    """
    found = shards(run)
    if not found:
        raise FileNotFoundError(
            f"{run} holds no rows; audit into it first: wallcheck audit MODEL --images FOLDER --out {run}"
        )
    study = Manifest.load(run).digest if (at_home(run) / MANIFEST).is_file() else ""
    failures = [one for path in found for one in _of_study(path, study).failures]
    try:
        table = sorted_rows(read_shard(path, **wanted) for path in found)
    except MeasuredTwice as error:
        raise ValueError(f"{error} Remove one of {', '.join(_holding(found, error.key))}") from None
    table.attrs["failures"] = [] if wanted else unresolved(failures, table)
    return table


def _of_study(path: Path, study: str) -> Header:
    header = Header.read(path)
    if header.study != study:
        raise ValueError(f"{path} belongs to another study; remove it or run the audit again, which sets it aside")
    return header


def _holding(paths: Iterable[Path], key: dict) -> list[str]:
    return [str(path) for path in paths if len(read_shard(path, **{name: key[name] for name in KEY}))]

"""Shards: Parquet files of rows of one net on one image set, each with its study, versions, images and keys."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from wallcheck.results.arrow import key_codes, to_arrow
from wallcheck.results.digests import digest, file_name
from wallcheck.results.folder import ROWS
from wallcheck.results.manifest import versions
from wallcheck.results.rows import COLUMNS, TEXT, Failure
from wallcheck.writing import at_home, beside

HEADER = b"wallcheck"


class Damaged(ValueError):
    """A file in rows/ that is no whole shard."""


class Block(NamedTuple):
    """Every one of these images has every one of these keys: a method with each (view, on, metric) of `asks`."""

    images: tuple[int, ...]
    methods: tuple[str, ...]
    asks: tuple[tuple[str, str, str], ...]

    def __len__(self) -> int:
        """Rows."""
        return len(self.images) * len(self.methods) * len(self.asks)

    @property
    def keys(self) -> frozenset:
        """(method, view, on, metric) of each of the images."""
        return frozenset((method, *ask) for method in self.methods for ask in self.asks)


@dataclass(frozen=True)
class Header:
    """What a shard says of itself.

    study: digest of the study its rows belong to. pictures: image number -> digest of its pixels and label. failures:
    the maps that were asked for and could not be had. versions: of the packages that measured it. net, images: of every
    row; blocks: which images have which keys, so that no row need be read to know it; None where an older version did not say.
    replaces: names of the shards whose rows it holds; where such a file is still there, it counts no more.
    """

    study: str = ""
    pictures: Mapping[int, str] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    versions: Mapping[str, str] = field(default_factory=versions)
    net: str = ""
    images: str = ""
    blocks: tuple[Block, ...] | None = None
    replaces: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return sum(map(Block.__len__, self.blocks or ()))

    @property
    def numbers(self) -> list[int]:
        """The images it has rows of."""
        return sorted({number for block in self.blocks or () for number in block.images})

    def to_bytes(self) -> bytes:
        return json.dumps({**vars(self), "pictures": {str(n): told for n, told in self.pictures.items()}}).encode()

    @classmethod
    def read(cls, path: Path) -> "Header":
        """Raises Damaged for what is no shard; a Parquet file without a header belongs to no study."""
        try:
            found = json.loads((pq.read_schema(path).metadata or {}).get(HEADER, b'{"study": "unknown"}'))
            failures = tuple(Failure._make([*one[:4], tuple(one[4]), one[5]]) for one in found.get("failures", ()))
            pictures = {int(number): told for number, told in found.get("pictures", {}).items()}
            of = found.get("net", ""), found.get("images", "")
            blocks = found.get("blocks") and tuple(_block(*one) for one in found["blocks"])
            replaces = tuple(found.get("replaces", ()))
            return cls(found["study"], pictures, failures, found.get("versions", {}), *of, blocks, replaces)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(path, error) from None


def _block(images: list, methods: list, asks: list) -> Block:
    return Block(tuple(images), tuple(methods), tuple(map(tuple, asks)))


def write_shard(run: str | Path, table: pd.DataFrame, header: Header | None = None) -> Path:
    """Keep one piece of work: rows of some images of one net on one image set, and what could not be measured.

    Equal work has an equal name, so two processes that do the same leave one file.
    """
    header, rows = header or Header(), to_arrow(table)
    header = described(rows, header)
    path = at_home(run) / ROWS / shard_name(header)
    with beside(path) as partial:
        pq.write_table(with_header(rows, header), partial, write_page_checksum=True)
    return path


def described(rows: pa.Table, header: Header) -> Header:
    """The header with net, image set and blocks of these rows."""
    net, images = header.failures[0][:2] if header.failures else (header.net, header.images)
    if len(rows):
        net, images = (rows[name][0].as_py() for name in ("net", "images"))
    return replace(header, net=net, images=images, blocks=blocks_of(rows))


def with_header(rows: pa.Table, header: Header) -> pa.Table:
    return rows.replace_schema_metadata({HEADER: header.to_bytes()})


def shard_name(header: Header) -> str:
    """Of work, by what it is: equal names mean equal keys, so that one of two equal shards may take the other's place."""
    failed = sorted((one.image, one.method, one.metrics) for one in header.failures)
    first = min([*header.numbers, *(one.image for one in header.failures)])
    work = digest([header.study, header.net, header.images, header.blocks, failed, header.replaces])
    return f"{file_name(header.net)}--{file_name(header.images)}--{first:06d}-{work[:8]}.parquet"


def blocks_of(rows: pa.Table) -> tuple[Block, ...]:
    """Which images have which keys, in the order of images and methods."""
    codes, keys = key_codes(rows)
    numbers, places = np.unique(rows["image"].to_numpy(), return_inverse=True)
    held = np.zeros((len(numbers), len(keys)), dtype=bool)
    held[places, codes] = True
    alike: dict[bytes, list[int]] = {}
    for number, bits in enumerate(np.packbits(held, axis=1)):
        alike.setdefault(bits.tobytes(), []).append(number)
    return tuple(
        Block(tuple(numbers[some].tolist()), tuple(methods), asks)
        for some in alike.values()
        for asks, methods in _by_asks([keys[place] for place in np.flatnonzero(held[some[0]])]).items()
    )


def _by_asks(keys: Iterable[tuple[str, ...]]) -> dict[tuple, list[str]]:
    """(view, on, metric) of a method, all of them -> the methods that have just these."""
    asks: dict[str, list[tuple]] = {}
    for method, *ask in keys:
        asks.setdefault(method, []).append(tuple(ask))
    methods: dict[tuple, list[str]] = {}
    for method, some in asks.items():
        methods.setdefault(tuple(some), []).append(method)
    return methods


def full_header(path: Path) -> Header:
    """The header, its blocks counted from the rows where an older version did not write them."""
    header = Header.read(path)
    return header if header.blocks is not None else described(read_arrow(path), header)


def read_arrow(path: Path, columns: list[str] = COLUMNS) -> pa.Table:
    """The rows of a shard with texts as dictionaries, every page held against its checksum; raises Damaged."""
    return pa.concat_tables(pieces(path, columns) or [_EMPTY.select(columns)])


_EMPTY = to_arrow(pd.DataFrame(columns=COLUMNS).astype({"image": int, "target": int, "value": float}))


def pieces(path: Path, columns: list[str], methods: Iterable[str] | None = None) -> list[pa.Table]:
    """The row groups of a shard that may hold these methods (all if None): in a compacted shard one or a few each."""
    try:
        with pq.ParquetFile(path, read_dictionary=TEXT, page_checksum_verification=True) as file:
            groups = [n for n in range(file.num_row_groups) if _may_hold(file.metadata.row_group(n), methods)]
            return [file.read_row_group(n, columns, use_threads=False).select(columns) for n in groups]
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        raise damaged(path, error) from None


def _may_hold(group: pq.RowGroupMetaData, methods: Iterable[str] | None) -> bool:
    bounds = group.column(COLUMNS.index("method")).statistics
    if methods is None or bounds is None or not bounds.has_min_max:
        return True
    return any(bounds.min <= method <= bounds.max for method in methods)


def read_shard(path: Path, **wanted: object) -> pd.DataFrame:
    """The rows of a shard, or of them those with column=value (or one of several); raises Damaged."""
    methods: Any = wanted.get("method")
    found = pieces(path, COLUMNS, [methods] if isinstance(methods, str) else methods)
    table = pa.concat_tables(found or [_EMPTY]).to_pandas()
    for name, value in wanted.items():
        table = table[table[name].isin(value if isinstance(value, (list, tuple)) else [value])]
    return table


def damaged(path: Path, error: Exception) -> Damaged:
    said = " ".join(str(error).split())[:120]
    return Damaged(f"{path} is damaged ({said}); remove it and run the audit again, which measures it again")

"""Compaction: the many shards of single batches become one of some thousands of images, and no row is lost or doubled.

The new shard is written beside and renamed, and says which shards it `replaces`; only then are they removed. A process killed
in between leaves files that count no more, since the new shard names them; the next compaction removes them first.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from wallcheck.results.arrow import SCHEMA, key_codes, to_arrow
from wallcheck.results.folder import ROWS
from wallcheck.results.parquet import (
    Damaged,
    Header,
    described,
    full_header,
    read_arrow,
    shard_name,
    with_header,
)
from wallcheck.results.rows import TEXT, MeasuredTwice, sorted_rows
from wallcheck.writing import at_home, beside

FULL_IMAGES = 4096  # of one shard; 12 methods have 444 rows an image, so 1.8 million rows, 15 MB
FULL_ROWS = 4_000_000  # or so many, where an image has more rows: 200 MB in memory while they are sorted
GROUP = 65_536  # rows of a row group at least: a question about one method reads no other's
FEW, MANY = 8, 128  # shards that are no burden; shards after which an audit compacts while it goes on
LOCK = ".compacting.lock"
ENCODED = dict(
    write_page_checksum=True,
    use_dictionary=[*TEXT, "target", "value"],
    column_encoding={"image": "DELTA_BINARY_PACKED"},
)


def is_small(header: Header) -> bool:
    return header.rows < FULL_ROWS // 2 and len(header.numbers) < FULL_IMAGES // 2


def compact(run: str | Path, pattern: str = "*.parquet", wait: bool = True, few: int = FEW) -> int:
    """Put together the small shards of each net and image set where there are more than `few`; returns how many new ones came.

    One process at a time does it; others wait, or with wait=False leave it to that one. Shards that are damaged, of other
    versions or with another result for the same key stay as they are: who reads them is told.
    """
    folder = at_home(run) / ROWS
    if len(list(folder.glob(pattern))) <= few:
        return 0
    try:
        with FileLock(folder / LOCK, timeout=-1 if wait else 0):
            found = remove_replaced({path: header for path in folder.glob(pattern) if (header := _header(path))})
            return sum(_put_together(paths, found) for paths in _bins(found, few))
    except Timeout:
        return 0


def remove_replaced(found: dict[Path, Header]) -> dict[Path, Header]:
    """What a compaction that was killed did not come to remove is removed; the others are returned."""
    gone = {name for header in found.values() for name in header.replaces}
    for path in found:
        if path.name in gone:
            path.unlink(missing_ok=True)
    return {path: header for path, header in found.items() if path.name not in gone}


def _header(path: Path) -> Header | None:
    try:
        return full_header(path)
    except (FileNotFoundError, Damaged):
        return None


def _bins(found: dict[Path, Header], few: int) -> Iterator[list[Path]]:
    """Small shards that become one: of one study, net, image set and versions, neighbours by their first image."""
    alike: dict[tuple, list[Path]] = {}
    for path, header in sorted(found.items()):
        if is_small(header):
            key = header.study, header.net, header.images, tuple(sorted(header.versions.items()))
            alike.setdefault(key, []).append(path)
    for paths in alike.values():
        if len(paths) > few:
            yield from _filled(sorted(paths, key=lambda path: (found[path].numbers[:1], path.name)), found)


def _filled(paths: list[Path], found: dict[Path, Header]) -> Iterator[list[Path]]:
    some, images, rows = [], 0, 0
    for path in paths:
        some.append(path)
        images, rows = images + len(found[path].numbers), rows + found[path].rows
        if images >= FULL_IMAGES or rows >= FULL_ROWS:
            yield some
            some, images, rows = [], 0, 0
    if len(some) > 1:
        yield some


def _put_together(paths: list[Path], found: dict[Path, Header]) -> int:
    try:
        rows = in_order(pa.concat_tables(read_arrow(path) for path in paths))
    except (FileNotFoundError, Damaged, MeasuredTwice):
        return 0
    headers = [found[path] for path in paths]
    pictures = {number: told for header in headers for number, told in header.pictures.items()}
    failures = tuple(dict.fromkeys(one for header in headers for one in header.failures))
    names = tuple(sorted(path.name for path in paths))
    header = described(rows, replace(headers[0], pictures=pictures, failures=failures, replaces=names))
    with beside(paths[0].with_name(shard_name(header))) as partial:
        _write(rows, header, partial)
    for path in paths:
        path.unlink(missing_ok=True)
    return 1


def in_order(rows: pa.Table) -> pa.Table:
    """By method, view, place and metric, then by image: each question's values stand together. What was measured twice with
    one result is kept once; raises MeasuredTwice where the results differ."""
    codes, _ = key_codes(rows)
    images = rows["image"].to_numpy()
    order = np.lexsort((images, codes))
    again = np.flatnonzero((np.diff(codes[order]) == 0) & (np.diff(images[order]) == 0))
    if len(again):
        double = np.union1d(again, again + 1)
        once = to_arrow(sorted_rows([rows.take(order[double]).to_pandas()]))
        return in_order(pa.concat_tables([rows.take(np.delete(order, double)), once]).cast(SCHEMA))
    return rows.take(order)


def _write(rows: pa.Table, header: Header, path: Path) -> None:
    """On the disk before the shards it replaces are removed; a row group holds whole methods."""
    rows = with_header(rows.unify_dictionaries().combine_chunks(), header)
    with path.open("wb") as file, pq.ParquetWriter(file, rows.schema, **ENCODED) as writer:
        for start, stop in _groups(rows):
            writer.write_table(rows.slice(start, stop - start), row_group_size=max(1, stop - start))
    with path.open("rb+") as written:
        os.fsync(written.fileno())


def _groups(rows: pa.Table) -> Iterator[tuple[int, int]]:
    (methods,) = rows["method"].chunks or (pa.array([]),)
    ends = np.flatnonzero(np.diff(methods.indices.to_numpy())) + 1 if len(rows) else ()
    start = 0
    for end in (*ends, len(rows)):
        if end - start >= GROUP or end == len(rows):
            yield start, int(end)
            start = int(end)

"""Rows on disk: one measurement each, in Parquet shards, with a manifest of how they were made. No torch.

Rows are kept, not means; a mean is a question asked of the rows. One folder holds one study, and may grow by methods,
images and metrics. What it says does not depend on how the work was split, and is asked of any number of rows: `open_rows`.
"""

from wallcheck.results.asking import Measure, Rows, open_rows, rows_of
from wallcheck.results.compacting import compact
from wallcheck.results.digests import digest, file_name
from wallcheck.results.folder import EXAMPLES, MANIFEST, ROWS, TABLE, examples_of, shards, writable
from wallcheck.results.holdings import Holdings, done, set_foreign_aside
from wallcheck.results.manifest import Manifest, typed, versions
from wallcheck.results.means import grouped, split, split_means, summary
from wallcheck.results.merging import merge
from wallcheck.results.parquet import Block, Damaged, Header, read_shard, write_shard
from wallcheck.results.rows import (
    COLUMNS,
    KEY,
    PER_IMAGE,
    TEXT,
    Failure,
    MeasuredTwice,
    Row,
    sorted_rows,
    told,
    unresolved,
)
from wallcheck.statistics import interval

__all__ = [
    "COLUMNS",
    "EXAMPLES",
    "KEY",
    "MANIFEST",
    "PER_IMAGE",
    "ROWS",
    "TABLE",
    "TEXT",
    "Block",
    "Damaged",
    "Failure",
    "Header",
    "Holdings",
    "Manifest",
    "Measure",
    "MeasuredTwice",
    "Row",
    "Rows",
    "compact",
    "digest",
    "done",
    "examples_of",
    "file_name",
    "grouped",
    "interval",
    "merge",
    "open_rows",
    "read_shard",
    "rows_of",
    "set_foreign_aside",
    "shards",
    "sorted_rows",
    "split",
    "split_means",
    "summary",
    "told",
    "typed",
    "unresolved",
    "versions",
    "writable",
    "write_shard",
]

"""Rows on disk: one measurement each, in Parquet shards, with a manifest of how they were made. No torch.

Rows are kept, not means; a mean is a question asked of the rows. One folder holds one study, and may grow by methods,
images and metrics. The merged table does not depend on how the work was split.
"""

from wallcheck.results.digests import digest, file_name
from wallcheck.results.folder import EXAMPLES, MANIFEST, ROWS, examples_of, shards, writable
from wallcheck.results.manifest import Manifest, typed, versions
from wallcheck.results.means import split, summary
from wallcheck.results.parquet import (
    Damaged,
    Header,
    Holdings,
    done,
    merge,
    read_shard,
    set_foreign_aside,
    write_shard,
)
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
    "TEXT",
    "Damaged",
    "Failure",
    "Header",
    "Holdings",
    "Manifest",
    "MeasuredTwice",
    "Row",
    "digest",
    "done",
    "examples_of",
    "file_name",
    "interval",
    "merge",
    "read_shard",
    "set_foreign_aside",
    "shards",
    "sorted_rows",
    "split",
    "summary",
    "told",
    "typed",
    "unresolved",
    "versions",
    "writable",
    "write_shard",
]

"""Rows as Arrow tables: texts as dictionaries, and a number for each key that stands in the key's order."""

import numpy as np
import pandas as pd
import pyarrow as pa

from wallcheck.results.rows import COLUMNS, PER_IMAGE, TEXT

KINDS = {"image": pa.int64(), "target": pa.int64(), "value": pa.float64()}
WORDS = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema([(name, KINDS.get(name, WORDS)) for name in COLUMNS])


def to_arrow(table: pd.DataFrame) -> pa.Table:
    """The rows of a table; texts, categories or not, become dictionaries."""
    columns = [words(table[name]) if name in TEXT else pa.array(table[name], KINDS[name]) for name in COLUMNS]
    return pa.table(columns, SCHEMA)


def words(column: pd.Series) -> pa.DictionaryArray:
    codes, found = column.factorize()
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(list(map(str, found)), pa.string()))


def key_codes(table: pa.Table) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """(codes (N,), keys): each row's key (method, view, on, metric) as its place in the sorted list of keys."""
    if not len(table):
        return np.zeros(0, dtype=np.int64), []
    mixed, words = np.zeros(len(table), dtype=np.int64), []
    for column in table.select(PER_IMAGE).unify_dictionaries().combine_chunks().columns:
        (one,) = column.chunks
        found = np.array(one.dictionary.to_pylist(), dtype=object)
        ranks = np.empty(len(found), dtype=np.int64)
        ranks[found.argsort()] = np.arange(len(found))
        words.append(np.sort(found))
        mixed = mixed * len(found) + ranks[one.indices.to_numpy(zero_copy_only=False)]
    shape = tuple(map(len, words))
    present = np.flatnonzero(np.bincount(mixed, minlength=int(np.prod(shape))))
    places = np.zeros(int(np.prod(shape)), dtype=np.int64)
    places[present] = np.arange(len(present))
    named = zip(*(one[at] for one, at in zip(words, np.unravel_index(present, shape), strict=True)), strict=True)
    return places[mixed], list(named)

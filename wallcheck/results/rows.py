"""A row is one measurement; the merged table does not depend on how the work was split."""

from collections.abc import Container, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd


class Row(NamedTuple):
    """net x image of a set x method x view (on grid or image) x metric -> value, for the class `target`."""

    net: str
    images: str
    image: int
    method: str
    view: str
    on: str
    metric: str
    target: int
    value: float


COLUMNS = list(Row._fields)
KEY = COLUMNS[:7]
PER_IMAGE = ["method", "view", "on", "metric"]
TEXT = ["net", "images", *PER_IMAGE]
# Values are shares: batches of two sizes agree to 5e-7 (measured), and 1e-4 is a tenth of the last digit ever printed.
ROUNDING = 1e-4


class MeasuredTwice(ValueError):
    """One thing has two values; `key` is its key."""

    def __init__(self, key: dict, values: list[float]):
        self.key = key
        super().__init__(
            f"{key} was measured twice, {' and '.join(f'{value:.6g}' for value in values[:2])}; "
            f"were two runs written to one folder?"
        )


def sorted_rows(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """One table in the order of the key, texts as categories.

    What was measured twice with one result (to rounding: two processes, two batch sizes) is kept once; raises
    MeasuredTwice, a ValueError, where the results differ.
    """
    tables = list(tables)
    table = pd.concat([one for one in tables if len(one)] or tables[:1], ignore_index=True)
    for column in TEXT:
        table[column] = pd.Categorical(table[column].astype(str))
    table = table[COLUMNS].sort_values([*KEY, "value"], ignore_index=True)
    again = table.duplicated(KEY)
    if again.any():
        _refuse_unequal(table[table.duplicated(KEY, keep=False)])
        table = table[~again].reset_index(drop=True)
    return table


def _refuse_unequal(double: pd.DataFrame) -> None:
    groups = double.groupby(KEY, observed=True, dropna=False)
    value, target = groups["value"], groups["target"]
    empty = value.agg(lambda values: values.isna().mean())
    apart = ((value.max() - value.min()) > ROUNDING) | empty.between(0, 1, "neither") | (target.nunique() > 1)
    if apart.any():
        key = dict(zip(KEY, apart.idxmax(), strict=True))
        key["image"] = int(key["image"])
        same = np.logical_and.reduce([double[name] == value for name, value in key.items()])
        raise MeasuredTwice(key, double.loc[same, "value"].tolist())


class Failure(NamedTuple):
    """A method that gave no map for an image, and why; `metrics` are those that were asked for."""

    net: str
    images: str
    image: int
    method: str
    metrics: tuple[str, ...]
    error: str


def unresolved(failures: Iterable[Failure], table: pd.DataFrame) -> list[dict]:
    """What is still missing from a table, a record per net, image set and method.

    Each names the first image and its error, and counts the images: net, images, method, image, count, error.
    """
    asked = set(failures)
    return unresolved_of(asked, _held(table, {failure.method for failure in asked}))


def unresolved_of(failures: Iterable[Failure], held: Container[tuple]) -> list[dict]:
    """`unresolved` where it is known already which (net, images, image, method, metric) have rows."""
    missing: dict[tuple, dict[int, str]] = {}
    for one in sorted(set(failures)):
        if any((one.net, one.images, one.image, one.method, metric) not in held for metric in one.metrics):
            missing.setdefault((one.net, one.images, one.method), {})[one.image] = one.error
    return [
        dict(net=net, images=images, method=method, image=min(errors), count=len(errors), error=errors[min(errors)])
        for (net, images, method), errors in missing.items()
    ]


def _held(table: pd.DataFrame, methods: set[str]) -> set[tuple]:
    some = table[table["method"].isin(methods)]
    return set(some[["net", "images", "image", "method", "metric"]].itertuples(index=False, name=None))


def told(failure: dict) -> str:
    """A record of `unresolved` in a line."""
    return (
        f"{failure['method']} gave no map for {failure['count']} images of {failure['images']} on {failure['net']}; "
        f"image {failure['image']}: {failure['error']}"
    )

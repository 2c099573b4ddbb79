"""Means over rows with intervals, and where leakage comes from. Rows are kept, not means; a mean is a question asked of them.

Every function takes a table, or the rows of a run folder as `open_rows` gives them; the answers are equal to the last bit.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from wallcheck.results.rows import TEXT
from wallcheck.statistics import interval

OF_MAP = ["net", "images", "method"]
PARTS = ["method_leakage", "bleed", "artefact"]


class Grouped(Protocol):
    """What can be asked for its values by group: the rows of a run folder."""

    def grouped(self, by: Sequence[str]) -> Iterator[tuple[tuple, np.ndarray]]: ...


def grouped(table: pd.DataFrame | Grouped, by: list[str]) -> Iterator[tuple[tuple, np.ndarray]]:
    """(key, values) of each group of rows, in the order of keys; values in the order of the rows."""
    if not isinstance(table, pd.DataFrame):
        yield from table.grouped(by)
        return
    for key, values in table.groupby(by, observed=True)["value"]:
        yield key if isinstance(key, tuple) else (key,), values.to_numpy()


def summary(table: pd.DataFrame | Grouped, by: list[str] | None = None) -> pd.DataFrame:
    """Mean over images with its 95 % interval (`wallcheck.statistics.interval`), per group of rows.

    A value of NaN means that the map was empty and the metric is not defined: such images are left
    out of mean and interval and counted in `empty`, so that an empty map does not pass as clean.
    Columns: by..., mean, low, high, std (unbiased), count, empty (share).
    """
    by = by or list(TEXT)
    groups = [{**dict(zip(by, key, strict=True)), **interval(values)} for key, values in grouped(table, by)]
    return pd.DataFrame(groups, columns=[*by, "mean", "low", "high", "std", "count", "empty"])


def split(table: pd.DataFrame, metric: str = "leak_mass") -> pd.DataFrame:
    """Where the leakage on the image comes from, per image and method.

    bleed: left when unseen cells are emptied before upsampling. method: what the unseen cells'
    own attribution adds. artefact: what stretching the signed map to [0, 1] adds to the
    rectified map. The three sum to the leakage of the stretched map; artefact can be negative
    where stretching brightens the seen part more. An empty map has no parts: NaN.
    """
    keys = [*OF_MAP[:2], "image", "method", "view"]
    of = table[(table["metric"] == metric) & (table["on"] == "image")]
    return parts_of(of.set_index(keys)["value"].unstack("view")).reset_index()


def parts_of(views: pd.DataFrame) -> pd.DataFrame:
    """The parts of `split` from leakage on the image, a column per view; a map on pixels has nothing to confine."""
    views = views.reindex(columns=["rectified", "confined", "stretched"])
    return pd.DataFrame(
        {
            "method_leakage": views["rectified"] - views["confined"].fillna(0),
            "bleed": views["confined"].fillna(0),
            "artefact": views["stretched"] - views["rectified"],
        }
    )


def split_means(parts: pd.DataFrame) -> pd.DataFrame:
    """Of `split`, the means over images whose maps are not empty; columns net, images, method, the parts, count, empty (share)."""
    found = [
        dict(zip(OF_MAP, map(str, key), strict=True)) | part_means(part)
        for key, part in parts.groupby(OF_MAP, observed=True)
    ]
    return pd.DataFrame(found, columns=[*OF_MAP, *PARTS, "count", "empty"])


def part_means(parts: pd.DataFrame) -> dict[str, float]:
    """The means of one map's parts."""
    kept = parts[PARTS].dropna()
    means = {name: np.array(kept[name]).mean() if len(kept) else np.nan for name in PARTS}
    return means | dict(count=len(parts), empty=1 - len(kept) / max(len(parts), 1))

"""Means over rows with intervals, and where leakage comes from. Rows are kept, not means; a mean is a question asked of them."""

import pandas as pd

from wallcheck.results.rows import KEY
from wallcheck.statistics import interval


def summary(table: pd.DataFrame, by: list[str] | None = None) -> pd.DataFrame:
    """Mean over images with its 95 % interval (`wallcheck.statistics.interval`), per group of rows.

    A value of NaN means that the map was empty and the metric is not defined: such images are left
    out of mean and interval and counted in `empty`, so that an empty map does not pass as clean.
    Columns: by..., mean, low, high, std (unbiased), count, empty (share).
    """
    by = by or [name for name in KEY if name != "image"]
    groups = []
    for key, values in table.groupby(by, observed=True)["value"]:
        key = key if isinstance(key, tuple) else (key,)
        groups.append({**dict(zip(by, key, strict=True)), **interval(values.to_numpy())})
    return pd.DataFrame(groups, columns=[*by, "mean", "low", "high", "std", "count", "empty"])


def split(table: pd.DataFrame, metric: str = "leak_mass") -> pd.DataFrame:
    """Where the leakage on the image comes from, per image and method.

    bleed: left when unseen cells are emptied before upsampling. method: what the unseen cells'
    own attribution adds. artefact: what stretching the signed map to [0, 1] adds to the
    rectified map. The three sum to the leakage of the stretched map; artefact can be negative
    where stretching brightens the seen part more. An empty map has no parts: NaN.
    """
    keys = ["net", "images", "image", "method", "view"]
    wide = table[(table["metric"] == metric) & (table["on"] == "image")].set_index(keys)["value"].unstack("view")
    parts = pd.DataFrame(
        {
            "method_leakage": wide["rectified"] - wide["confined"].fillna(0),
            "bleed": wide["confined"].fillna(0),
            "artefact": wide["stretched"] - wide["rectified"],
        }
    )
    return parts.reset_index()

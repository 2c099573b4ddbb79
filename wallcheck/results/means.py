"""Means over rows with intervals, and where leakage comes from. Rows are kept, not means; a mean is a question asked of them."""

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from wallcheck.results.rows import KEY


def summary(table: pd.DataFrame, by: list[str] | None = None, seed: int = 0, resamples: int = 2000) -> pd.DataFrame:
    """Mean over images with a 95 % bootstrap interval, per group of rows.

    A value of NaN means that the map was empty and the metric is not defined: such images are left
    out of mean and interval and counted in `empty`, so that an empty map does not pass as clean.
    Columns: by..., mean, low, high, std (unbiased), count, empty (share).
    """
    by = by or [name for name in KEY if name != "image"]
    groups = []
    for key, values in table.groupby(by, observed=True)["value"]:
        key = key if isinstance(key, tuple) else (key,)
        groups.append({**dict(zip(by, key, strict=True)), **interval(values.to_numpy(), seed, resamples)})
    return pd.DataFrame(groups, columns=[*by, "mean", "low", "high", "std", "count", "empty"])


def interval(values: np.ndarray, seed: int = 0, resamples: int = 2000) -> dict[str, float]:
    """Mean, percentile-bootstrap 95 % interval, unbiased std, count and share of empty (NaN) values."""
    kept = values[~np.isnan(values)]
    mean = kept.mean() if len(kept) else np.nan
    low = high = mean
    if len(kept) > 1 and np.ptp(kept) > 0:
        drawn = bootstrap((kept,), np.mean, n_resamples=resamples, method="percentile", random_state=seed)
        low, high = drawn.confidence_interval
    std = kept.std(ddof=1) if len(kept) > 1 else np.nan
    return dict(mean=mean, low=low, high=high, std=std, count=len(values), empty=1 - len(kept) / max(len(values), 1))


def split(table: pd.DataFrame, metric: str = "leak_mass") -> pd.DataFrame:
    """Where the leakage on the image comes from, per image and method.

    bleed: left when unseen cells are emptied before upsampling. method: what the unseen cells'
    own attribution adds. artefact: what stretching the signed map to [0, 1] adds to the
    rectified map. The three sum to the leakage of the stretched map; artefact can be negative
    where stretching brightens the seen part more.
    """
    wide = table[(table["metric"] == metric) & (table["on"] == "image")].pivot_table(
        index=["net", "images", "image", "method"], columns="view", values="value", observed=True, dropna=False
    )
    wide = wide.dropna(how="all")
    parts = pd.DataFrame(
        {
            "method_leakage": wide["rectified"] - wide["confined"].fillna(0),
            "bleed": wide["confined"].fillna(0),
            "artefact": wide["stretched"] - wide["rectified"],
        }
    )
    return parts.reset_index()

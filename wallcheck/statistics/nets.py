"""Nets: what was measured on several trained nets, so that an interval says what another seed would give."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy

from wallcheck.statistics.intervals import FLOOR, LEVEL, SHARE, within

NETS = 3  # at least, for an interval


def over_nets(values: np.ndarray, scale: tuple[float, float] | None = SHARE) -> dict[str, float]:
    """Mean with a 95 % interval for new nets and new images; values (images, nets), NaN where the map was empty.

    scale: the ends between which values can lie, SHARE or DIFFERENCE of two shares; None for values that have none.

    Nets and images both are samples, crossed: every net saw the same images. With n images, k nets and the mean squares of
    the two-way layout, Var(mean) = (MS_net + MS_image - MS_rest) / (k n), at least the larger of MS_net and MS_image
    over k n; Student's t with Satterthwaite's degrees of freedom. Images that are empty on some net do not enter the
    mean squares; with fewer than 6 that are not, the interval is that of the k means alone. Fewer than 3 nets: NaN.
    The interval is cut at the scale's ends: Student's t does not know them, and with three nets that differ it is wide. What is
    cut off holds no mean that there could be, so the interval covers as often as before.
    mean: of the nets' means. between: standard deviation of the nets' means. empty: share of all values.

    Measured with 3 to 8 nets, 20 and 50 images, whichever of nets, images and rest varies most: covers 92 to 99 %, where an
    interval over all rows pooled covers 18 to 96 %.
    """
    values = np.asarray(values, dtype=float)
    kept = values[:, ~np.isnan(values).all(0)] if values.size else values.reshape(len(values), 0)
    means = np.nanmean(kept, 0) if kept.size else np.zeros(0)
    low, high = (np.nan, np.nan) if len(means) < NETS else within(scale, kept, *_ends(kept, means))
    return dict(
        mean=means.mean() if len(means) else np.nan,
        low=low,
        high=high,
        between=means.std(ddof=1) if len(means) > 1 else np.nan,
        nets=len(means),
        count=values.shape[0],
        empty=float(np.isnan(values).mean()) if values.size else 1.0,
    )


def _ends(values: np.ndarray, means: np.ndarray) -> tuple[float, float]:
    variance, freedom = means.var(ddof=1) / len(means), len(means) - 1.0
    whole = values[~np.isnan(values).any(1)]
    if len(whole) >= FLOOR:
        variance, freedom = _crossed(whole)
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(variance)
    return float(means.mean() - half), float(means.mean() + half)


def _crossed(values: np.ndarray) -> tuple[float, float]:
    """Variance of the mean of values (n, k) and its degrees of freedom."""
    n, k = values.shape
    of_nets, of_images = n * values.mean(0).var(ddof=1), k * values.mean(1).var(ddof=1)
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    of_rest = (rest**2).sum() / ((n - 1) * (k - 1))
    total = max(of_nets + of_images - of_rest, of_nets, of_images)
    spread = of_nets**2 / (k - 1) + of_images**2 / (n - 1) + of_rest**2 / ((n - 1) * (k - 1))
    return total / (n * k), min(max(total**2 / spread, k - 1), n * k - 1) if spread > 0 else k - 1


def summary_over_nets(
    table: pd.DataFrame, by: Sequence[str], scale: tuple[float, float] | None = SHARE
) -> pd.DataFrame:
    """`over_nets` of each group of rows; table has columns net, image, value and those of `by`, one row per image and net.

    Columns: by..., mean, low, high, between, nets, count, empty. A net that has no row for an image has no value there.
    """
    by, groups = list(by), []
    for key, part in table.groupby(by, observed=True):
        wide = part.pivot_table(index="image", columns="net", values="value", observed=True, dropna=False)
        groups.append(dict(zip(by, key, strict=True)) | over_nets(wide.to_numpy(), scale))
    return pd.DataFrame(groups, columns=[*by, *over_nets(np.zeros((0, 0)))])

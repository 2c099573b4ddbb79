"""Pairs: two methods on the same images, and many such pairs at once."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd
import scipy

from wallcheck.statistics.intervals import DIFFERENCE, FLOOR, interval


def paired(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """first less second on the same images, each (N,); images where either is NaN (an empty map) are left out.

    difference, low, high: mean and 95 % interval. p: two-sided, that neither is larger; Wilcoxon's signed ranks (Pratt:
    equal pairs keep their rank), or, where all that differ differ by one amount, as 0/1 measures do, the exact sign test,
    which is McNemar's. NaN below 6 images. rank_biserial: effect size, -1 second always larger .. 1 first (Kerby 2014).
    d: mean over standard deviation of the differences (Cohen's d_z), NaN if they do not vary. larger, smaller: numbers of images.
    count: images compared, left_out: the others.

    >>> found = paired(np.array([3., 4, 5, 6, 7, 8]), np.array([1., 3, 2, 2, 2, 9]))
    >>> round(found["rank_biserial"], 3), round(found["p"], 3)  # rank sums 19.5 and 1.5
    (0.857, 0.094)
    """
    both = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    d = both[~np.isnan(both)]
    found, spread = interval(both, DIFFERENCE), d.std(ddof=1) if len(d) > 1 else 0.0
    return dict(
        difference=found["mean"],
        low=found["low"],
        high=found["high"],
        p=p_value(d),
        rank_biserial=rank_biserial(d),
        d=d.mean() / spread if spread > 0 else np.nan,
        larger=int((d > 0).sum()),
        smaller=int((d < 0).sum()),
        count=len(d),
        left_out=len(both) - len(d),
    )


def p_value(d: np.ndarray) -> float:
    """Of differences (N,) without NaN; see `paired`."""
    if len(d) < FLOOR:
        return np.nan
    sizes = np.abs(d[d != 0])
    if not len(sizes):
        return 1.0
    if np.ptp(sizes) == 0:
        return float(scipy.stats.binomtest(int((d > 0).sum()), len(sizes)).pvalue)
    return float(scipy.stats.wilcoxon(d, zero_method="pratt").pvalue)


def rank_biserial(d: np.ndarray) -> float:
    """(R+ - R-) / (R+ + R-), sums of the ranks of |d| over d > 0 and d < 0; 0 where nothing differs, NaN without pairs."""
    d, compared = d[d != 0], len(d)
    if not len(d):
        return 0.0 if compared else np.nan
    ranks = scipy.stats.rankdata(np.abs(d))
    return float((ranks * np.sign(d)).sum() / ranks.sum())


def compare(values: pd.DataFrame, pairs: Iterable[tuple[str, str]] | None = None) -> pd.DataFrame:
    """`paired` for many pairs of columns of values (images by methods), all of them by default; one row each.

    Columns: first, second, what `paired` gives, and p_holm, corrected for as many comparisons as there are rows: the
    chance of one false discovery among all of them stays below the level. Raises LookupError for a method without values.
    """
    pairs = list(combinations(values.columns, 2)) if pairs is None else list(pairs)
    missing = {name for pair in pairs for name in pair} - set(values.columns)
    if missing:
        raise LookupError(f"no values of {', '.join(sorted(missing))}, only of {', '.join(map(str, values.columns))}")
    rows = [dict(first=a, second=b) | paired(values[a].to_numpy(), values[b].to_numpy()) for a, b in pairs]
    names = ["first", "second", *paired(np.zeros(0), np.zeros(0))]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(p_holm=holm(table["p"].to_numpy(dtype=float)))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction (1979): the i-th smallest of m times m - i + 1, never below the one before; NaN stays.

    >>> holm(np.array([0.01, 0.04, 0.03, np.nan])).tolist()
    [0.03, 0.06, 0.06, nan]
    """
    p = np.asarray(p, dtype=float)
    adjusted, told = np.full(p.shape, np.nan), np.flatnonzero(~np.isnan(p))
    order = told[p[told].argsort(kind="stable")]
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * (len(order) - np.arange(len(order)))), 1)
    return adjusted

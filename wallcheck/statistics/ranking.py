"""Ranking: which methods are told apart by their ranks over many images, and which are not."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy

from wallcheck.statistics.intervals import FLOOR, LEVEL


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of methods over images, best (1) first; Demsar 2006.

    p: Friedman's test that all are alike. critical: two methods whose mean ranks differ by less are not told apart
    (Nemenyi, all pairs at 95 % together). groups: first and last place of every longest run of methods that are not
    told apart. count: images ranked, left_out: images on which some method's map was empty.
    """

    methods: tuple[str, ...]
    ranks: tuple[float, ...]
    p: float
    critical: float
    groups: tuple[tuple[int, int], ...]
    count: int
    left_out: int


def ranking(values: pd.DataFrame, better: str) -> Ranking:
    """Rank the columns of values (images by methods) on every image; better: "low" or "high" values come first.

    Equal values share their ranks. Raises ValueError for fewer than 3 methods, or fewer than 6 images on which all have
    a value.
    """
    if better not in ("low", "high"):
        raise ValueError(f"better is {better!r}; give the metric's: low or high")
    whole = values.dropna()
    count, k = whole.shape
    if k < 3 or count < FLOOR:
        raise ValueError(
            f"{k} methods have values on all of {count} images; a ranking needs 3 methods and {FLOOR} images: leave "
            f"out methods that are empty on many images"
        )
    array = whole.to_numpy(dtype=float) * (1 if better == "low" else -1)
    ranks = scipy.stats.rankdata(array, axis=1).mean(0)
    order = ranks.argsort(kind="stable")
    critical = float(
        scipy.stats.studentized_range.ppf(LEVEL, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * count))
    )
    alike = (array == array[:, :1]).all()
    return Ranking(
        methods=tuple(whole.columns[order]),
        ranks=tuple(ranks[order].tolist()),
        p=1.0 if alike else float(scipy.stats.friedmanchisquare(*array.T).pvalue),
        critical=critical,
        groups=runs(ranks[order], critical),
        count=count,
        left_out=len(values) - count,
    )


def runs(ranks: np.ndarray, critical: float) -> tuple[tuple[int, int], ...]:
    """First and last place of every longest run of sorted ranks no further apart than `critical`; runs of one are left out.

    >>> runs(np.array([1.0, 1.5, 2.2, 4.0]), 1.0)
    ((0, 1), (1, 2))
    """
    ends = [int(np.flatnonzero(ranks <= first + critical)[-1]) for first in ranks]
    return tuple(
        (start, end) for start, end in enumerate(ends) if end > start and (start == 0 or end > ends[start - 1])
    )

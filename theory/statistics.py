"""z-scores of simulations, looked at as a family: not only the largest, but the whole distribution."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats
from torch import Tensor

# A claim is rejected when one of four tests of its z-scores has a p-value below this: with 10 claims, a true
# theory is rejected by one seed in about 250.
SURPRISE = 1e-4


def z_score(values: Tensor, expected: float) -> float:
    """(mean - expected) / standard error of the mean. values (M,), independent draws."""
    values = values.double()
    error = values.std() / values.numel() ** 0.5
    gap = values.mean() - expected
    return float(gap / error) if error > 0 else float(0.0 if gap == 0 else np.sign(float(gap)) * np.inf)


def z_frequency(happened: int, trials: int, probability: float) -> float:
    """z-score of a count of independent events of one known probability (0 < probability < 1)."""
    return (happened - trials * probability) / (trials * probability * (1 - probability)) ** 0.5


@dataclass(frozen=True)
class ZScores:
    """Independent z-scores; standard normal where the theory is right."""

    values: np.ndarray

    @staticmethod
    def of(values: Iterable[float]) -> "ZScores":
        """Collect z-scores; not a number is an error, infinite counts as 1e9."""
        values = np.clip(np.array(list(values), dtype=float), -1e9, 1e9)
        if values.size < 2 or np.isnan(values).any():
            raise ValueError(f"need at least two z-scores and no NaN, got {values}")
        return ZScores(values)

    @property
    def count(self) -> int:
        return self.values.size

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def variance(self) -> float:
        return float(self.values.var(ddof=1))

    @property
    def largest(self) -> float:
        return float(np.abs(self.values).max())

    @cached_property
    def ks_p(self) -> float:
        """p-value of the Kolmogorov-Smirnov test against N(0, 1)."""
        return float(stats.kstest(self.values, "norm").pvalue)

    @cached_property
    def surprise(self) -> float:
        """The smallest p-value of: largest |z| (family-wise), mean, variance, shape (KS)."""
        n = self.count
        p_largest = -np.expm1(n * np.log1p(-min(2 * stats.norm.sf(self.largest), 1 - 1e-16)))
        p_mean = 2 * stats.norm.sf(abs(self.mean) * n**0.5)
        tail = stats.chi2.cdf((n - 1) * self.variance, n - 1)
        return float(min(p_largest, p_mean, 2 * min(tail, 1 - tail), self.ks_p))

    @property
    def agree(self) -> bool:
        """Do they look like standard normals?"""
        return self.surprise > SURPRISE

    def row(self) -> dict[str, float]:
        """The figures that are reported."""
        return {
            "count": self.count, "mean": self.mean, "variance": self.variance,
            "largest": self.largest, "ks_p": self.ks_p,
        }  # fmt: skip

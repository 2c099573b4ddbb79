"""Probabilities that Gaussians of given correlations are all positive: closed by arcsin up to three, numerical beyond.

They enter where a maximum over cells must be positive (T6) and where every seen cell may be dead (T2).
"""

from functools import cache

import numpy as np
from scipy import special
from scipy.stats import qmc

from theory.arithmetic import NUMBERS, Arithmetic


def orthant2(r, maths: Arithmetic = NUMBERS):
    """P(X > 0, Y > 0) at correlation r: 1/4 + arcsin(r) / (2 pi) (Sheppard)."""
    return (maths.pi / 2 + maths.arcsin(r)) / (2 * maths.pi)


def orthant3(r12, r13, r23, maths: Arithmetic = NUMBERS):
    """P(X, Y, Z > 0) from the three pairs by inclusion and exclusion: 1/8 + sum of arcsin / (4 pi)."""
    return (maths.pi / 2 + maths.arcsin(r12) + maths.arcsin(r13) + maths.arcsin(r23)) / (4 * maths.pi)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms == 0, 1, norms)


@cache
def gaussian_points(dimension: int, log2_points: int = 16) -> np.ndarray:
    """A fixed quasi-random standard normal sample (2^log2_points, dimension): deterministic integration nodes."""
    corners = qmc.Sobol(dimension, scramble=False).random_base2(log2_points)
    return special.ndtri(corners + 0.5**log2_points / 2)  # off the corners, where the quantile is infinite

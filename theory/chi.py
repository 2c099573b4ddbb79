"""kappa(m), the mean norm of a rectified Gaussian vector, and its asymptotics.

z in R^m standard normal; each entry survives the ReLU with probability 1/2, whatever its size, so
|relu(z)| is a chi variable with a binomial number of degrees of freedom:

    kappa(m) = E |relu(z)| = E chi_K,  K ~ Bin(m, 1/2)
             = 2^-m sum_{k=1..m} C(m,k) sqrt(2) Gamma((k+1)/2) / Gamma(k/2)
             = sqrt(m/2) (1 - 5/(8m) - 23/(128 m^2) - ...)
"""

from functools import cache

import numpy as np
import sympy as sp
from scipy import special, stats

HALF = sp.Rational(1, 2)


@cache
def legendre(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [-1, 1]."""
    return np.polynomial.legendre.leggauss(nodes)


def chi_mean(k: np.ndarray) -> np.ndarray:
    """E chi_k = sqrt(2) Gamma((k+1)/2) / Gamma(k/2); 0 at k = 0. k any shape -> same shape."""
    k = np.asarray(k, dtype=float)
    alive = np.maximum(k, 1)
    log_ratio = special.gammaln((alive + 1) / 2) - special.gammaln(alive / 2)
    return np.where(k > 0, np.sqrt(2) * np.exp(log_ratio), 0.0)


@cache
def kappa(m: int, alive: float = 0.5) -> float:
    """E chi_K with K ~ Bin(m, alive); `alive` is 1/2 for a ReLU, less when dropout thins it further.

    >>> round(kappa(1), 4), round(kappa(2), 4), round(kappa(2, alive=1.0), 4)
    (0.3989, 0.7123, 1.2533)
    """
    if m < 1:
        raise ValueError(f"kappa needs a width of at least 1, got {m}")
    k = np.arange(m + 1)
    return float((stats.binom.pmf(k, m, alive) * chi_mean(k)).sum())


def chi_mean_exact(k: int) -> sp.Expr:
    """The claim for E chi_k as an exact number: sqrt(2) Gamma((k+1)/2) / Gamma(k/2)."""
    return sp.sqrt(2) * sp.gamma(sp.Rational(k + 1, 2)) / sp.gamma(sp.Rational(k, 2))


@cache
def kappa_exact(m: int, alive: sp.Expr = HALF) -> sp.Expr:
    """kappa(m) as an exact number: kappa_exact(1) is 1/sqrt(2 pi)."""
    return sum(sp.binomial(m, k) * alive**k * (1 - alive) ** (m - k) * chi_mean_exact(k) for k in range(1, m + 1))


# kappa(m) / sqrt(m/2) = sum_j SERIES[j] m^-j; derived in `series_coefficients`, not fitted
SERIES = (sp.Integer(1), sp.Rational(-5, 8), sp.Rational(-23, 128))


def kappa_series(m: np.ndarray, terms: int = len(SERIES), series: tuple = SERIES) -> np.ndarray:
    """The first `terms` terms of kappa's expansion for large m. m any shape -> same shape."""
    m = np.asarray(m, dtype=float)
    return np.sqrt(m / 2) * sum(float(c) * m**-j for j, c in enumerate(series[:terms]))


def rectified_square_mgf(s: sp.Symbol) -> sp.Expr:
    """E exp(s z^2 1(z>0)) by integration over both halves of the line: 1/2 + 1/2 (1 - 2s)^(-1/2)."""
    z, t = sp.symbols("z t", positive=True)  # t = -s > 0 keeps the integral convergent
    density = sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
    dead = sp.integrate(density, (z, 0, sp.oo))  # z < 0 by symmetry: the square counts 0
    living = sp.integrate(sp.exp(-t * z**2) * density, (z, 0, sp.oo))
    return (dead + living).subs(t, -s)


@cache
def series_coefficients(terms: int = 3) -> tuple[sp.Expr, ...]:
    """kappa(m)/sqrt(m/2) in powers of 1/m, from the cumulants of z^2 1(z>0).

    X = sum of m such squares = (m/2)(1 + delta), and E sqrt(1 + delta) = sum_j C(1/2, j) E delta^j, where
    E exp(s delta) = exp( sum_{j>=2} m c_j (2s/m)^j / j! ) with c_j the cumulants. E delta^j is O(m^-ceil(j/2)),
    so 2(terms-1) powers of delta give all terms up to m^-(terms-1).
    """
    s, small = sp.symbols("s small")  # small stands for 1/m
    order = 2 * (terms - 1)
    cumulants = sp.series(sp.log(rectified_square_mgf(s)), s, 0, order + 1).removeO()
    exponent = sum(cumulants.coeff(s, j) * (2 * s) ** j * small ** (j - 1) for j in range(2, order + 1))
    mgf = sp.expand(sum(exponent**i / sp.factorial(i) for i in range(order // 2 + 1)))
    moments = [mgf.coeff(s, j) * sp.factorial(j) for j in range(order + 1)]
    mean_root = sp.expand(sum(sp.binomial(HALF, j) * moment for j, moment in enumerate(moments)))
    return tuple(sp.nsimplify(mean_root.coeff(small, j)) for j in range(terms))


def kappa_by_integral(m: int, nodes: int = 400) -> float:
    """kappa(m) by another road: E sqrt(X) = 1/(2 sqrt(pi)) int (1 - E e^{-tX}) t^{-3/2} dt, at t = tan^2(angle)."""
    x, weight = legendre(nodes)
    angle = (x + 1) * np.pi / 4
    laplace = (0.5 + 0.5 / np.sqrt(1 + 2 * np.tan(angle) ** 2)) ** m
    return float((weight * (1 - laplace) / np.sin(angle) ** 2).sum() * np.pi / 4 / np.sqrt(np.pi))

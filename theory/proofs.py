"""What counts as a proof here: a named identity whose two sides are equal expressions.

`identity` simplifies left - right to exactly 0 and also evaluates it at rational points to 40 digits; printed
strings are never compared. A side that is a list is compared entry by entry.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import sympy as sp

# distinct, between 0 and 1, and not special angles: safe for norms, standard deviations, correlations and angles
_POINTS = [sp.Rational(a, b) for a, b in ((3, 7), (5, 11), (2, 13), (8, 17), (7, 19), (9, 23), (4, 29), (6, 31))]


@dataclass(frozen=True)
class Check:
    """One statement that is either true or not, with what was found."""

    name: str
    holds: bool
    detail: str = ""

    def __post_init__(self):
        object.__setattr__(self, "holds", bool(self.holds))  # numpy's bool is not JSON's


def identity(name: str, left, right) -> Check:
    """left == right as exact expressions; both may be sequences of equal length."""
    if isinstance(left, Sequence):
        parts = [identity(name, a, b) for a, b in zip(left, right, strict=True)]
        broken = [part.detail for part in parts if not part.holds]
        return Check(name, not broken, "; ".join(broken) or f"{len(parts)} cases")
    difference = sp.sympify(left) - sp.sympify(right)
    holds = _vanishes_at_rationals(difference) and 0 in (sp.simplify(difference), _settled(left) - _settled(right))
    return Check(name, bool(holds), "" if holds else f"left - right = {sp.nsimplify(difference)}"[:120])


def _settled(side) -> sp.Expr:
    """One side brought to a common form by itself, where simplifying the difference gets stuck."""
    return sp.simplify(sp.sympify(side).rewrite(sp.erf))


def _vanishes_at_rationals(difference: sp.Expr) -> bool:
    """Is |difference| below 10^-30 at two assignments of rationals to its symbols?"""
    symbols = sorted(difference.free_symbols, key=lambda s: s.name)
    if len(symbols) > len(_POINTS):
        raise ValueError(f"{len(symbols)} free symbols, at most {len(_POINTS)} rational points; prove smaller cases")
    shifted = (_POINTS[: len(symbols)], _POINTS[::-1][: len(symbols)])
    values = [difference.subs(dict(zip(symbols, at, strict=True))) for at in shifted]
    return all(abs(sp.N(value, 40, chop=1e-35)) < 1e-30 for value in values)


def standard_normal(z: sp.Symbol) -> sp.Expr:
    """The density of N(0, 1) at z."""
    return sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)


@cache
def half_gaussian_mean(sigma: sp.Expr) -> sp.Expr:
    """E relu(sigma Z), Z ~ N(0,1), integrated: the last layer's part of every claim about a mean."""
    z = sp.symbols("z", positive=True)
    return sp.integrate(sigma * z * standard_normal(z), (z, 0, sp.oo))


@cache
def chi_mean_integrated(k: int) -> sp.Expr:
    """E chi_k from the chi density r^(k-1) exp(-r^2/2) / (2^(k/2-1) Gamma(k/2)), integrated."""
    r = sp.symbols("r", positive=True)
    density = r ** (k - 1) * sp.exp(-(r**2) / 2) / (2 ** (sp.Rational(k, 2) - 1) * sp.gamma(sp.Rational(k, 2)))
    return sp.integrate(r * density, (r, 0, sp.oo))


@cache
def half_gaussian_square(sigma: sp.Expr) -> sp.Expr:
    """E relu(sigma Z)^2, integrated."""
    z = sp.symbols("z", positive=True)
    return sp.integrate((sigma * z) ** 2 * standard_normal(z), (z, 0, sp.oo))


@cache
def chi_square_integrated(k: int) -> sp.Expr:
    """E chi_k^2 as k times the integral of z^2 against the normal density."""
    z = sp.symbols("z", real=True)
    return k * sp.integrate(z**2 * standard_normal(z), (z, -sp.oo, sp.oo))

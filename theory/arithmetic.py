"""One formula, two arithmetics: each claim is written once and evaluated in floats and in exact symbols.

A claim takes `maths`; with NUMBERS it returns numpy numbers (for simulations and users), with SYMBOLS a sympy
expression (for proofs). So what is proved is what is simulated, and a mutated formula fails both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from scipy import special

from theory import chi


@dataclass(frozen=True)
class Arithmetic:
    """The functions that the claims are written with."""

    pi: Any
    sqrt: Callable
    cos: Callable
    sin: Callable
    arcsin: Callable
    arccos: Callable
    normal_cdf: Callable
    kappa: Callable


def _exact_normal_cdf(x):
    return (1 + sp.erf(x / sp.sqrt(2))) / 2


NUMBERS = Arithmetic(
    np.pi, np.sqrt, np.cos, np.sin, np.arcsin, np.arccos, special.ndtr, chi.kappa
)  # fmt: skip
SYMBOLS = Arithmetic(
    sp.pi, sp.sqrt, sp.cos, sp.sin, sp.asin, sp.acos, _exact_normal_cdf, chi.kappa_exact
)  # fmt: skip

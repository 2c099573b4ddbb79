"""The condition in T2, made exact: at an unseen cell of a deep head the event 'no seen activation is alive' is lost.

With L >= 2 a head that is handed zeros only has closed gates, so S(u) = 0 there, and T2's formula counts too much:

    E[GC(u)] = (T2) * (1 - lost),   lost = E[ |A(u)| ; all filters F_v in C ] / E |A(u)|

C = { F : F . xi_q <= 0 for every seen q } is a cone. lost = 0 when L = 1, and when u itself is seen (then A(u) = 0 on
that event). Always lost <= 2^-V E chi_V / kappa(V), about sqrt(2) 2^-V: the half-space of one seen patch contains C,
and it is independent of (F . xi_u)^2. The bound is attained when xi_u = -xi_q is the only seen patch; with V = 1 then
lost = 1. With X = (F . xi_u)_+^2 and M(t) = E[exp(-tX); F in C],

    E[ sqrt(X_1 + ... + X_V) ; all in C ] = 1/(2 sqrt(pi)) int_0^oo ( M(0)^V - M(t)^V ) t^(-3/2) dt

and M(t) is an orthant probability of a tilted Gaussian: exact by arcsin for one or two seen patches.
"""

from functools import cache

import numpy as np
import sympy as sp

from theory.chi import chi_mean, kappa, legendre
from theory.orthants import gaussian_points, orthant2, orthant3, unit
from theory.proofs import Check, identity


def lost_share(patch: np.ndarray, seen_patches: np.ndarray, filters: int, nodes: int = 200) -> float:
    """Share of T2's expectation that an empty head takes away at one cell, for L >= 2.

    patch (K,) at the cell; seen_patches (Q, K) under the seen pooled cells -> number in [0, 1].

    >>> right_angle = lost_share(np.array([1.0, 0.0]), np.array([[0.0, 2.0]]), filters=1)
    >>> round(right_angle, 6)
    0.5
    """
    x, weight = legendre(nodes)
    angle = (x + 1) * np.pi / 4  # t = tan^2(angle) makes the integrand smooth on a finite interval
    at_zero, transform = _laplace_on_cone(patch, seen_patches, np.tan(angle) ** 2)
    integral = (weight * (at_zero**filters - transform**filters) / np.sin(angle) ** 2).sum() * np.pi / 4
    return float(max(integral, 0.0) / np.sqrt(np.pi) / kappa(filters))


def lost_bound(filters: int) -> float:
    """The largest share that can be lost with this many filters: 2^-V E chi_V / kappa(V)."""
    return float(chi_mean(filters)) * 2.0**-filters / kappa(filters)


def _laplace_on_cone(patch: np.ndarray, seen: np.ndarray, t: np.ndarray) -> tuple[float, np.ndarray]:
    """M(0) and M(t) for X = (F . u)_+^2 with u the unit patch. t (T,) -> number, (T,)."""
    u = unit(np.asarray(patch, dtype=float))
    seen = unit(np.asarray(seen, dtype=float))
    seen = seen[np.abs(seen).sum(1) > 0]  # a zero patch is dead under every filter: no condition
    if len(seen) <= 2:
        t = np.concatenate([[0.0], t])
        below, above = _orthants(-u, -seen, 0 * t), _orthants(u, -seen, t)
        transform = below + above / np.sqrt(1 + 2 * t)
        return transform[0], transform[1:]
    projections = gaussian_points(seen.shape[1]) @ np.vstack([u, seen]).T
    in_cone = (projections[:, 1:] <= 0).all(1)
    squares = np.maximum(projections[in_cone, 0], 0) ** 2
    return in_cone.mean(), np.exp(-np.outer(t, squares)).sum(1) / len(projections)


def _orthants(u: np.ndarray, others: np.ndarray, t: np.ndarray) -> np.ndarray:
    """P(F . u > 0 and F . o > 0 for each of 0 to 2 others) when F is tilted by exp(-t (F . u)^2). -> (T,)."""
    shrink = 2 * t / (1 + 2 * t)  # the tilted covariance is I - shrink u u^T

    def correlation(a, b):
        def entry(c, d):
            return c @ d - shrink * (c @ u) * (d @ u)

        return np.clip(entry(a, b) / np.sqrt(entry(a, a) * entry(b, b)), -1, 1)

    if len(others) == 0:
        return np.full(t.shape, 0.5)
    if len(others) == 1:
        return orthant2(correlation(u, others[0]))
    return orthant3(correlation(u, others[0]), correlation(u, others[1]), correlation(*others))


def prove_lost_share(claim=lost_share) -> list[Check]:
    """One seen patch and one filter in closed form; the bound, attained and not; two seen patches against nodes."""
    angles = [0.3, 1.0, 2.2, np.pi]
    turned = [np.array([np.cos(angle), np.sin(angle)]) for angle in angles]
    ahead = np.array([[1.0, 0.0]])
    closed = [claim(patch, ahead, 1) - (1 - np.cos(angle)) / 2 for patch, angle in zip(turned, angles, strict=True)]
    attained = [claim(-ahead[0], ahead, filters) - lost_bound(filters) for filters in (1, 2, 5)]
    two = claim(turned[2], np.array([[1.0, 0.0], [0.6, -0.8]]), 2)
    # a repeated patch adds no condition, but takes the road of three and more
    by_nodes = claim(turned[2], np.array([[1.0, 0.0], [0.6, -0.8], [0.6, -0.8]]), 2)
    return [
        identity("lost share, V = 1, one seen patch: (1 - cos phi) / 2", *_one_patch()),
        Check("lost share by tilted orthants agrees with it", max(map(abs, closed)) < 1e-8, f"{closed[2]:.1e}"),
        Check("its bound 2^-V E chi_V / kappa(V) is attained", max(map(abs, attained)) < 1e-8, f"{attained[1]:.1e}"),
        Check("two seen patches: arcsin agrees with nodes", abs(two - by_nodes) < 2e-4, f"{two:.4f}, {by_nodes:.4f}"),
    ]


@cache
def _one_patch() -> tuple[sp.Expr, sp.Expr]:
    """E[(F.u)_+ ; F.q <= 0] / E (F.u)_+ by the angle of F, the radius cancelling; u at angle 0, q at phi in (0, pi)."""
    theta, phi = sp.symbols("theta phi", real=True)
    lost = sp.integrate(sp.cos(theta), (theta, -sp.pi / 2, phi - sp.pi / 2))
    return lost / sp.integrate(sp.cos(theta), (theta, -sp.pi / 2, sp.pi / 2)), (1 - sp.cos(phi)) / 2

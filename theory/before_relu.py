"""T6. The target layer before the ReLU: a pooled cell counts only if its maximum is positive.

The target is B_v(u) = F_v . xi_u, so the gradient at B carries the ReLU's gate. With L Gaussian layers above,

    E[S(u)^2] = V tau_F^2 / N^2 * sum_{seen p} m_p(u) * prod_{l<L} ( tau_l^2 d_l / 2 ) * tau_L^2,   E[GC^2] = E[S^2] / 2

exactly, at any V and any depth (no condition: where all gates are closed both sides are 0), with

    signed     S = sum_v alpha_v B_v(u):        m_p(u) = E[ 1(max_{q in p} F.xi_q > 0) (F.xi_u)^2 ]
    rectified  S = sum_v alpha_v relu(B_v(u)):  m_p(u) = E[ 1(max_{q in p} F.xi_q > 0) (F.xi_u)_+^2 ]

for standard normal F; as V grows E[GC(u)] -> sqrt(E[S(u)^2] / (2 pi)) for L = 1. Without pooling

    signed     m = |xi_u|^2 / 2, whatever the angle          (F -> -F swaps the gate and keeps the square)
    rectified  m = |xi_u|^2 ( pi - phi + sin phi cos phi ) / (2 pi),  phi the angle between xi_q and xi_u

and with two cells per pooled cell closed forms by arcsin (r, c1, c2 the cosines of q1 q2, u q1, u q2); beyond, nodes.

Correction to the claim's first wording: its arc-cosine formula is the *rectified* mix (weights from before the ReLU,
drawn on the activations after it). A map that uses one layer for both is the *signed* one: without pooling it is the
local contrast again, the same second moment as after the ReLU (T3), and the angle is nowhere in it.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from theory.arithmetic import NUMBERS, SYMBOLS, Arithmetic
from theory.geometries import Geometry, pick_cells
from theory.maps import gradcam, weighted_sum
from theory.networks import Sample, sample_stems
from theory.orthants import gaussian_points, orthant2, orthant3, unit
from theory.proofs import Check, identity
from theory.runs import Outcome, Run
from theory.statistics import ZScores, z_score

TITLE = "Before the ReLU: signed maps draw contrast again, rectified ones an arc-cosine of the angle"


def arc_cosine(phi, maths: Arithmetic = NUMBERS):
    """E[1(F.q > 0) (F.u)_+^2] for unit vectors at angle phi: ( pi - phi + sin phi cos phi ) / (2 pi)."""
    return (maths.pi - phi + maths.sin(phi) * maths.cos(phi)) / (2 * maths.pi)


def signed_one(phi, maths: Arithmetic = NUMBERS):
    """E[1(F.q > 0) (F.u)^2] for unit vectors: 1/2 at every angle."""
    return maths.pi / (2 * maths.pi) + 0 * phi


def dead_pair_signed(r, c1, c2, maths: Arithmetic = NUMBERS):
    """E[1(F.q1 <= 0, F.q2 <= 0) (F.u)^2] for unit vectors; r = q1.q2, c1 = u.q1, c2 = u.q2."""
    bend = (2 * c1 * c2 - r * (c1**2 + c2**2)) / maths.sqrt(1 - r**2)
    return orthant2(r, maths) + bend / (2 * maths.pi)


def dead_pair_rectified(r, c1, c2, maths: Arithmetic = NUMBERS):
    """E[1(F.q1 <= 0, F.q2 <= 0) (F.u)_+^2] for unit vectors."""
    bend = (2 * c1 * c2 - r * (c1**2 + c2**2)) / maths.sqrt(1 - r**2)
    sides = c1 * maths.sqrt(1 - c1**2) + c2 * maths.sqrt(1 - c2**2)
    return orthant3(r, -c1, -c2, maths) + (bend - sides) / (4 * maths.pi)


FORMULAS = {
    "arc_cosine": arc_cosine,
    "signed_one": signed_one,
    "signed": dead_pair_signed,
    "rectified": dead_pair_rectified,
}


def selected_moment(patch: np.ndarray, window: np.ndarray, rectified: bool = False, formulas: dict = FORMULAS) -> float:
    """m_p(u): patch (K,) at u, window (Q, K) the patches under one pooled cell -> number; closed up to Q = 2."""
    u, q = unit(np.asarray(patch, float)), unit(np.asarray(window, float))
    scale, cosines = float(np.dot(patch, patch)), np.clip(q @ u, -1, 1)
    if scale == 0 or (len(q) == 1 and not q.any()):
        return 0.0
    if len(q) == 1:
        name = "arc_cosine" if rectified else "signed_one"
        return scale * float(formulas[name](np.arccos(cosines[0])))
    if len(q) == 2 and q.any(1).all() and abs(q[0] @ q[1]) < 1 - 1e-9:
        dead = formulas["rectified" if rectified else "signed"](q[0] @ q[1], *cosines)
        return scale * float((0.5 if rectified else 1.0) - dead)
    projections = gaussian_points(len(u)) @ np.vstack([u, q]).T
    value = np.maximum(projections[:, 0], 0) if rectified else projections[:, 0]
    return scale * float((value**2 * (projections[:, 1:] > 0).any(1)).mean())


def second_moment(moments: Sequence[float], n_cells, tau_conv, filters, taus: tuple, widths: tuple[int, ...]):
    """E[S(u)^2] over stems and heads; `moments` holds m_p(u) of the seen pooled cells; GC's is half of it."""
    value = filters * tau_conv**2 / n_cells**2 * sum(moments) * taus[-1] ** 2
    for tau, width in zip(taus[:-1], widths, strict=True):
        value = value * tau**2 * width / 2
    return value


def large_width_mean(moments: Sequence[float], n_cells, tau_conv, filters, tau):
    """E[GC(u)] for L = 1 as V grows: sqrt(E[S^2] / (2 pi))."""
    return NUMBERS.sqrt(second_moment(moments, n_cells, tau_conv, filters, (tau,), ()) / (2 * NUMBERS.pi))


def prove(formulas: dict = FORMULAS, moment=second_moment) -> list[Check]:
    """One cell by polar integration, Sheppard's orthants, two cells by tilting, and the sum over filters."""
    chosen = FORMULAS | formulas
    return [
        identity("rectified, one cell: arc-cosine, integrated over the angle", *_polar(chosen["arc_cosine"], True)),
        identity("signed, one cell: 1/2 at any angle, integrated", *_polar(chosen["signed_one"], False)),
        identity("orthant of two: 1/4 + arcsin(r) / (2 pi), integrated", *_sheppard()),
        identity("orthant of three from pairs, by inclusion and exclusion", *_three_from_pairs()),
        identity("signed, two cells: slope of the tilted orthant", *_tilted(chosen["signed"], False)),
        identity("rectified, two cells: slope of the tilted orthant", *_tilted(chosen["rectified"], True)),
        identity("E[S^2] = V/N^2 sum_p ..., two filters, two pooled cells, square expanded", *_expanded(moment)),
        _closed_against_nodes(chosen),
    ]


def _polar(claim, rectified: bool) -> tuple[sp.Expr, sp.Expr]:
    """u at angle 0, q at phi; the radius contributes E r^2 = 2, the angle is uniform; 0 < phi < pi."""
    theta, phi = sp.symbols("theta phi", real=True)
    open_from, open_to = phi - sp.pi / 2, phi + sp.pi / 2
    upper = sp.pi / 2 if rectified else open_to  # F.u > 0 holds from -pi/2 to pi/2
    derived = sp.integrate(2 * sp.cos(theta) ** 2, (theta, open_from, upper)) / (2 * sp.pi)
    return claim(phi, SYMBOLS), derived


@cache
def _sheppard() -> tuple[sp.Expr, sp.Expr]:
    """Both positive: a sector between the two normals, of angle pi - arccos(r)."""
    theta, phi = sp.symbols("theta phi", positive=True)
    sector = sp.integrate(1 / (2 * sp.pi), (theta, phi - sp.pi / 2, sp.pi / 2))
    r = sp.symbols("r", real=True)
    return orthant2(r, SYMBOLS), sector.subs(phi, sp.pi / 2 - sp.asin(r))


@cache
def _three_from_pairs() -> tuple[sp.Expr, sp.Expr]:
    """P(+++) = P(---) = 1 - 3/2 + sum P(pair ++) - P(+++), solved for P(+++)."""
    r = sp.symbols("r12 r13 r23", real=True)
    p = sp.Symbol("p")
    (solution,) = sp.solve(sp.Eq(p, 1 - sp.Rational(3, 2) + sum(orthant2(each, SYMBOLS) for each in r) - p), p)
    return orthant3(*r, SYMBOLS), solution


def _tilted(claim, rectified: bool) -> tuple[sp.Expr, sp.Expr]:
    """-d/dt at 0 of E[exp(-t (F.u)^2); C] = (1+2t)^(-1/2) P_t(C), P_t with covariance I - 2t/(1+2t) u u^T."""
    t = sp.symbols("t", nonnegative=True)
    r, c1, c2 = sp.symbols("r c1 c2", real=True)
    shrink = 2 * t / (1 + 2 * t)
    v1, v2, vu = 1 - shrink * c1**2, 1 - shrink * c2**2, 1 - shrink
    between = (r - shrink * c1 * c2) / sp.sqrt(v1 * v2)
    if rectified:
        toward = [-c * vu / sp.sqrt(vu * v) for c, v in ((c1, v1), (c2, v2))]
        cone = orthant3(between, *toward, SYMBOLS)
    else:
        cone = orthant2(between, SYMBOLS)
    derived = -sp.diff(cone / sp.sqrt(1 + 2 * t), t).subs(t, 0)
    at = {c1: sp.Rational(2, 7), c2: sp.Rational(-3, 11)} if rectified else {}  # fewer symbols: simplify ends
    return claim(r, c1, c2, SYMBOLS).subs(at), derived.subs(at)


def _expanded(claim) -> tuple[sp.Expr, sp.Expr]:
    """S = (1/N) sum_{v,p} W_vp gate_vp B_v for 2 x 2 weights; E W W' = tau^2 or 0, E gate B^2 = tau_F^2 m_p."""
    cells, tau, tau_conv, m1, m2 = sp.symbols("N tau tau_F m1 m2", positive=True)
    weights = sp.symbols("W11 W12 W21 W22")
    values = sp.symbols("x11 x12 x21 x22")  # gate * B
    square = sp.Poly(sp.expand(sum(w * x for w, x in zip(weights, values, strict=True)) ** 2), *weights, *values)
    mean_square = dict(zip(values, (m1, m2, m1, m2), strict=True))
    derived = 0
    for powers, coefficient in square.terms():
        if max(powers[:4]) == 2:  # cross terms have mean 0
            derived += coefficient * tau**2 * tau_conv**2 * mean_square[values[powers[:4].index(2)]]
    return claim((m1, m2), cells, tau_conv, 2, (tau,), ()), derived / cells**2


def _closed_against_nodes(formulas: dict) -> Check:
    """Closed forms for one and two cells against plain averages over quasi-random filters."""
    rng = np.random.default_rng(0)
    gaps = []
    for cells in (1, 2, 1, 2):
        patch, window = rng.normal(size=4), rng.normal(size=(cells, 4))
        values = gaussian_points(4) @ np.vstack([patch, window]).T
        for rectified in (False, True):
            square = np.maximum(values[:, 0], 0) ** 2 if rectified else values[:, 0] ** 2
            nodes = (square * (values[:, 1:] > 0).any(1)).mean()
            gaps.append(abs(selected_moment(patch, window, rectified, formulas) / nodes - 1))
    return Check("closed forms equal averages over quasi-random filters", max(gaps) < 5e-3, f"within {max(gaps):.0e}")


def simulate(run: Run, formulas: dict = FORMULAS, moment=second_moment) -> Outcome:
    """S(u)^2 of random networks explained before the ReLU, signed and rectified, depth 1 and 2, pooling 1 and 2."""
    chosen, scores = FORMULAS | formulas, []
    for index in range(run.geometries):
        scores.append(_moment_score(run, index, chosen))
        geometry = run.geometry("T6", index, depth=1 + index % 2)
        usable = geometry.stem.patch_norms.cpu() > 0
        cells = pick_cells(geometry.covered, usable, 2, run.generator("T6", index, device="cpu"))
        for cell, rectified in zip(cells, (bool(index % 2), not index % 2), strict=False):
            moments = moments_at(geometry, cell, rectified, chosen)
            stem, head = geometry.stem, geometry.head
            expected = moment(moments, stem.patches.shape[0], stem.tau, stem.filters, head.taus, head.widths)
            draws = 3 * run.draws  # squares have heavy tails
            samples = sample_stems(stem, head, draws, run.generator("T6", index, rectified), before_relu=True)
            values = torch.cat([_map(sample, rectified)[:, *cell] for sample in samples])
            scores.append(z_score(values**2, expected))
        run.tick()
    return Outcome(ZScores.of(scores), data={"curve": _curve(run, chosen)})


def _moment_score(run: Run, index: int, formulas: dict) -> float:
    """z of one moment alone, for random patches: windows of one and two cells, signed and rectified in turn."""
    generator, rectified = run.generator("T6", "moment", index), bool(index % 2)
    patch, *window = torch.randn(2 + index // 2 % 2, 3, generator=generator, device=run.device, dtype=torch.float64)
    filters = torch.randn(run.draws, 3, generator=generator, device=run.device, dtype=torch.float64)
    values = (filters @ patch).relu() if rectified else filters @ patch
    gate = (filters @ torch.stack(window).T > 0).any(1)
    expected = selected_moment(patch.cpu().numpy(), torch.stack(window).cpu().numpy(), rectified, formulas)
    return z_score(gate * values**2, expected)


def moments_at(geometry: Geometry, cell: tuple[int, int], rectified: bool, formulas: dict = FORMULAS) -> list[float]:
    """m_p(u) for every seen pooled cell p of a geometry."""
    stem, head = geometry.stem, geometry.head
    patches = stem.patches.double().cpu().numpy().reshape(*stem.grid, -1)
    windows = [
        patches[row * head.pool : (row + 1) * head.pool, column * head.pool : (column + 1) * head.pool]
        for row, column in torch.nonzero(head.seen).tolist()
    ]
    return [selected_moment(patches[cell], w.reshape(-1, w.shape[-1]), rectified, formulas) for w in windows]


def _map(sample: Sample, rectified: bool) -> Tensor:
    """S: the weights come from before the ReLU; drawn on the same layer, or on its positive part."""
    return weighted_sum(sample.gradient.mean((2, 3)), sample.target.relu()) if rectified else gradcam(sample)


def _curve(run: Run, formulas: dict) -> dict[str, list]:
    """Both moments over the angle, with simulated points, for the figure."""
    phi = np.linspace(0, np.pi, 13)
    generator = run.generator("T6", "curve", device="cpu")
    filters = torch.randn(4 * run.draws, 2, generator=generator, dtype=torch.float64)
    on_u = filters[:, :1]
    gate = (filters @ torch.tensor(np.stack([np.cos(phi), np.sin(phi)]))) > 0
    values = {"signed": gate * on_u**2, "rectified": gate * on_u.relu() ** 2}
    theory = {"signed": formulas["signed_one"](phi), "rectified": formulas["arc_cosine"](phi)}
    rows = {"phi": phi.tolist()}
    for name, value in values.items():
        rows[name] = np.asarray(theory[name]).tolist()
        rows[f"{name}_simulated"] = value.mean(0).tolist()
        rows[f"{name}_error"] = (value.std(0) / len(value) ** 0.5).tolist()
    return rows

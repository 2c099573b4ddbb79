"""T2. Exact expectation of Grad-CAM at initialisation, for any depth and width: the wall is nowhere in it.

One convolution with V Gaussian filters, ReLU, max-pooling, L Gaussian layers, a fixed class. At every cell u

    E[GC(u)] = sqrt(n) / (N sqrt(2 pi)) * tau_F |xi_u| kappa(V) * prod_{l<L} ( tau_l kappa(d_l) ) * tau_L

It depends on u through the norm of its patch alone: the map is the local contrast of the image, seen or unseen.

Condition, made exact: for L = 1, and at every seen cell, the formula holds as it stands. At an unseen cell with
L >= 2 it is to be multiplied by 1 - lost, see `empty_head`; lost <= 2^-V E chi_V / kappa(V).

Proof. T3 with |A(u)| = tau_F |xi_u| |relu(z)|, z standard normal in R^V, whose mean norm is kappa(V).
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
import sympy as sp
import torch
from numpy.typing import ArrayLike

from theory import chi
from theory.any_backbone import head_gain
from theory.arithmetic import NUMBERS, SYMBOLS, Arithmetic
from theory.empty_head import lost_share, prove_lost_share
from theory.geometries import Geometry, pick_cells
from theory.maps import gradcam
from theory.networks import sample_stems
from theory.proofs import Check, chi_mean_integrated, half_gaussian_mean, identity, standard_normal
from theory.runs import Outcome, Run
from theory.showcase import showcase_geometry
from theory.statistics import ZScores, z_score

TITLE = "Exact expectation, any depth, any width: local contrast, wall or no wall"


def expected_gradcam(
    patch_norms: ArrayLike,
    n_seen,
    n_cells,
    tau_conv,
    taus: tuple,
    widths: tuple[int, ...],
    filters: int,
    maths: Arithmetic = NUMBERS,
):
    """E[GC(u)] over random stems and heads, for a fixed class. patch_norms |xi_u|, any shape -> same shape.

    n_seen: pooled cells that the head reads, per channel; n_cells: all cells of the map; filters: V.

    >>> round(float(expected_gradcam(2.0, 4, 16, tau_conv=1.0, taus=(1.0,), widths=(), filters=1)), 4)
    0.0398
    """
    stem = tau_conv * patch_norms * maths.kappa(filters)
    return maths.sqrt(n_seen) / (n_cells * maths.sqrt(2 * maths.pi)) * stem * head_gain(taus, widths, maths)


def prove(claim=expected_gradcam, kappa=chi.kappa_exact, series=chi.SERIES, lost=lost_share) -> list[Check]:
    """kappa, its asymptotics, the recursion over layers, and one case by brute integration."""
    return [
        identity("E relu(sigma Z) = sigma / sqrt(2 pi)", *_half_gaussian()),
        identity("thinning: law of |relu(z)|^2 is chi^2 with Bin(m, 1/2) degrees", *_thinning()),
        identity("kappa(m) = E chi_K, densities integrated, m = 1..6", *_kappa(kappa)),
        identity("kappa(m) / sqrt(m/2) in powers of 1/m", list(series), list(chi.series_coefficients(len(series)))),
        identity("E[GC], depth 1 to 4, V = 1, 2, 3", *_recursion(claim)),
        identity("V = n = d = 1, L = 2, seen cell, integrated directly", *_brute_force(claim)),
        *prove_lost_share(lost),
    ]


@cache
def _half_gaussian() -> tuple[sp.Expr, sp.Expr]:
    sigma = sp.symbols("sigma", positive=True)
    return half_gaussian_mean(sigma), sigma / sp.sqrt(2 * sp.pi)


@cache
def _thinning() -> tuple[list, list]:
    """Moment generating functions: (that of z^2 1(z>0))^m = sum_k C(m,k) 2^-m (1 - 2s)^(-k/2)."""
    s = sp.symbols("s", negative=True)
    one = chi.rectified_square_mgf(s)
    mixture = [
        sum(sp.binomial(m, k) * (1 - 2 * s) ** sp.Rational(-k, 2) for k in range(m + 1)) / 2**m for m in range(1, 5)
    ]
    return [sp.expand(one**m) for m in range(1, 5)], mixture


def _kappa(kappa) -> tuple[list, list]:
    integrated = [sum(sp.binomial(m, k) * chi_mean_integrated(k) for k in range(1, m + 1)) / 2**m for m in range(1, 7)]
    return [kappa(m) for m in range(1, 7)], integrated


def _mean_norm(width: int) -> sp.Expr:
    """E |relu(z)|, z in R^width, from integrated chi densities: independent of chi.kappa_exact."""
    return sum(sp.binomial(width, k) * chi_mean_integrated(k) for k in range(1, width + 1)) / 2**width


def _recursion(claim) -> tuple[list, list]:
    """(claimed, derived) for L = 1..4: stem, then layer by layer, then the half Gaussian."""
    n, cells, patch, tau_conv, tau = sp.symbols("n N xi tau_F tau", positive=True)
    claimed, derived = [], []
    for depth, filters in ((1, 1), (2, 1), (2, 2), (3, 3), (4, 2)):
        widths = (3, 2, 4)[: depth - 1]
        carried = sp.sqrt(n) / cells * tau_conv * patch * _mean_norm(filters)
        for width in widths:
            carried *= tau * _mean_norm(width)
        derived.append(half_gaussian_mean(tau) * carried)
        claimed.append(claim(patch, n, cells, tau_conv, (tau,) * depth, widths, filters, SYMBOLS))
    return claimed, derived


def _brute_force(claim) -> tuple[sp.Expr, sp.Expr]:
    """GC = relu(w2) 1(w1 f > 0) w1 f / N with f = relu(F xi): three one-dimensional integrals, no gate argument."""
    z = sp.symbols("z", positive=True)
    cells, patch, tau_conv, t1, t2 = sp.symbols("N xi tau_F tau_1 tau_2", positive=True)
    half = [sp.integrate(scale * z * standard_normal(z), (z, 0, sp.oo)) for scale in (tau_conv * patch, t1, t2)]
    return claim(patch, 1, cells, tau_conv, (t1, t2), (1,), 1, SYMBOLS), half[0] * half[1] * half[2] / cells


CELLS = 4  # cells per geometry, each from draws of its own, so that all z-scores are independent


def simulate(run: Run, claim=expected_gradcam, lost=lost_share) -> Outcome:
    """Random networks: z-scores at seen and unseen cells in turn, then unseen cells of often empty heads."""
    scores, rows = [], []
    for index, geometry in enumerate(_all_geometries(run)):
        usable = geometry.stem.patch_norms.cpu() > 0
        if index >= run.geometries:
            usable &= ~geometry.covered
        for cell in pick_cells(geometry.covered, usable, CELLS, run.generator("T2", index, device="cpu")):
            expected, share = expectation_at(geometry, cell, claim, lost)
            scores.append(z_score(_at_cell(run, geometry, index, cell), expected))
            rows.append({"geometry": geometry.describe(), "seen": bool(geometry.covered[cell]), "lost": share})
        run.tick()
    data = {"cells": rows, "map": map_data(run, claim), "width": width_data(run)}
    return Outcome(ZScores.of(scores), data=data)


def _all_geometries(run: Run) -> Iterator[Geometry]:
    """run.geometries random ones, and a quarter as many whose heads are often empty."""
    yield from (run.geometry("T2", index) for index in range(run.geometries))
    yield from (run.nearly_blind_geometry("T2", index) for index in range(run.geometries // 4))


def expectation_at(geometry: Geometry, cell: tuple[int, int], claim=expected_gradcam, lost=lost_share):
    """(E[GC(u)], share lost to an empty head) at one cell of a geometry."""
    stem, head = geometry.stem, geometry.head
    value = claim(
        float(stem.patch_norms[cell]),
        head.n_seen,
        stem.patches.shape[0],
        stem.tau,
        head.taus,
        head.widths,
        stem.filters,
    )
    if head.depth == 1 or geometry.covered[cell]:
        return float(value), 0.0
    patches = stem.patches.double().cpu().numpy()
    here = cell[0] * stem.grid[1] + cell[1]
    share = lost(patches[here], patches[geometry.covered.flatten().numpy()], stem.filters)
    return float(value) * (1 - share), share


def _at_cell(run: Run, geometry: Geometry, index: int, cell: tuple[int, int]) -> torch.Tensor:
    """GC(u) of run.draws random networks at one cell: (M,)."""
    samples = sample_stems(geometry.stem, geometry.head, run.draws, run.generator("T2", index, cell))
    return torch.cat([gradcam(sample)[:, *cell].relu() for sample in samples])


def map_data(run: Run, claim=expected_gradcam) -> dict[str, np.ndarray]:
    """One walled network's theory and simulation over the whole map, for the figure."""
    geometry = showcase_geometry(run.device)
    stem, head = geometry.stem, geometry.head
    samples = sample_stems(stem, head, 4 * run.draws, run.generator("T2", "map"))
    maps = torch.cat([gradcam(sample).relu() for sample in samples])
    norms = stem.patch_norms.cpu().numpy()
    theory = claim(norms, head.n_seen, norms.size, stem.tau, head.taus, head.widths, stem.filters)
    error = maps.std(0) / len(maps) ** 0.5
    return {
        "image": stem.image[0].cpu().numpy(), "seen": geometry.covered.numpy(), "theory": theory,
        "simulation": maps.mean(0).cpu().numpy(), "error": error.cpu().numpy(),
    }  # fmt: skip


def width_data(run: Run) -> dict[str, list[float]]:
    """E |relu(z)| / sqrt(m/2) for m up to 128: simulated, with the exact value and the series, for the figure."""
    widths = [1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128]
    rows = {"m": widths, "simulated": [], "error": []}
    for m in widths:
        z = torch.randn(run.draws, m, generator=run.generator("T2", "width", m), device=run.device)
        norms = z.relu().norm(dim=1) / (m / 2) ** 0.5
        rows["simulated"].append(float(norms.mean()))
        rows["error"].append(float(norms.std()) / run.draws**0.5)
    rows["exact"] = [chi.kappa(m) / (m / 2) ** 0.5 for m in widths]
    for terms in (2, 3):
        rows[f"series{terms}"] = [float(chi.kappa_series(m, terms)) / (m / 2) ** 0.5 for m in widths]
    return rows

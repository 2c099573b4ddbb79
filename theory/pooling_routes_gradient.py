"""T1. Pooling routes exactly one unit of gradient per pooled cell, also where its maximum is 0.

So for a head that is linear above max-pooling (L = 1), Grad-CAM's channel weight is a plain mean of weights:

    alpha_v = (1/N) sum_{seen p} W_{v,p},    E alpha_v = 0,    E alpha_v^2 = n tau^2 / N^2

It does not depend on the image at all. Proof: pool(A + t) = pool(A) + t for every constant t, so the directional
derivative along (1, ..., 1) is 1; at a tie, every subgradient of a convex function with this property sums to 1 too
(t >= t sum(g) for t of both signs). The same holds for mean pooling and for overlapping windows.
"""

import sympy as sp
import torch

from theory.geometries import Geometry
from theory.networks import sample_stems
from theory.proofs import Check, identity
from theory.runs import Outcome, Run
from theory.statistics import ZScores, z_score

TITLE = "Pooling routes one unit of gradient per pooled cell: alpha_v = (1/N) sum of seen weights"


def channel_weight(seen_weights, n_cells):
    """alpha_v for L = 1: `seen_weights` is the sequence of W_{v,p} over seen p (numbers, symbols or tensors)."""
    return sum(seen_weights) / n_cells


def channel_weight_variance(n_seen, n_cells, tau):
    """E alpha_v^2 for Gaussian weights."""
    return n_seen * tau**2 / n_cells**2


def prove(weight=channel_weight, variance=channel_weight_variance) -> list[Check]:
    """One window at every position of its maximum, ties included; then a whole map with an uneven border."""
    return [
        identity("d/dt max(A + t) = 1, whichever cell is largest, ties allowed", *_one_window()),
        identity("a 4x5 map, pooling 2, border dropped, 3 of 4 pooled cells seen", *_whole_map(weight)),
        identity("E alpha_v^2 by expanding the square", *_variance(variance)),
    ]


def _one_window() -> tuple[list, list]:
    t, top = sp.symbols("t top", real=True)
    below = sp.symbols("b1:4", nonnegative=True)  # 0 is a tie with the largest
    slopes = []
    for place in range(4):
        cells = [top - b for b in below]
        cells.insert(place, top)
        slopes.append(sp.diff(sp.Max(*(cell + t for cell in cells)), t))
    return slopes, [1] * 4


def _whole_map(weight) -> tuple[list, list]:
    """Grad-CAM's weight from its definition (mean over all cells of d y / d A(u)), at three rational maps."""
    cells = {(i, j): sp.Symbol(f"A{i}{j}", real=True) for i in range(4) for j in range(5)}
    seen = {(0, 0): sp.Symbol("W00"), (0, 1): sp.Symbol("W01"), (1, 0): sp.Symbol("W10")}
    windows = {p: [cells[2 * p[0] + a, 2 * p[1] + b] for a in (0, 1) for b in (0, 1)] for p in seen}
    score = sum(w * sp.Max(*windows[p]) for p, w in seen.items())
    derived = []
    for multiplier in (3, 8, 11):  # i -> multiplier * i mod 23 shuffles the values, so the maxima move about
        point = {cell: sp.Rational(multiplier * (k + 1) % 23, 7) for k, cell in enumerate(cells.values())}
        derived.append(sum(sp.diff(score, cell).subs(point) for cell in cells.values()) / len(cells))
    return [weight(list(seen.values()), len(cells))] * 3, derived


def _variance(variance) -> tuple[list, list]:
    """E (sum_p W_p / N)^2 with E W_p W_q = tau^2 if p = q, else 0."""
    tau, cells = sp.symbols("tau N", positive=True)
    claimed, derived = [], []
    for n in (1, 2, 5):
        weights = sp.symbols(f"W0:{n}")
        square = sp.Poly(sp.expand(sum(weights) ** 2), *weights)
        derived.append(sum(c for powers, c in square.terms() if max(powers) == 2) * tau**2 / cells**2)
        claimed.append(variance(n, cells, tau))
    return claimed, derived


def simulate(run: Run, weight=channel_weight, variance=channel_weight_variance) -> Outcome:
    """Autograd's channel weights against the formula, network by network in float64, and their mean square."""
    scores, gaps, empty = [], [], 0
    for index in range(run.geometries):
        geometry = run.geometry("T1", index, depth=1)
        gap, squares, at_zero = _weights_and_gap(run, geometry, index, weight)
        gaps.append(gap)
        empty += at_zero
        expected = variance(geometry.head.n_seen, geometry.stem.patches.shape[0], geometry.head.taus[0])
        scores.append(z_score(squares, expected))
        run.tick()
    checks = (
        Check("autograd equals (1/N) sum W, network by network", max(gaps) < 1e-12, f"largest gap {max(gaps):.1e}"),
        Check("pooled cells whose maximum is 0 were among them", empty > 0, f"{empty} of them"),
    )
    return Outcome(ZScores.of(scores), checks, {"largest_gap": max(gaps), "pooled_maxima_at_zero": empty})


def _weights_and_gap(run: Run, geometry: Geometry, index: int, weight) -> tuple[float, torch.Tensor, int]:
    """(largest |autograd - formula|, alpha_0^2 of every draw, pooled cells with maximum 0) of one geometry."""
    stem, head = geometry.stem, geometry.head
    stem = type(stem)(stem.image.double(), stem.filters, stem.tau, stem.kernel, stem.stride, stem.padding)
    gap, squares, at_zero = 0.0, [], 0
    for sample in sample_stems(stem, head, run.draws // 4, run.generator("T1", index)):
        autograd = sample.gradient.mean((2, 3))
        by_cell = sample.weights[0].reshape(len(autograd), stem.filters, head.n_seen).unbind(2)
        gap = max(gap, float((autograd - weight(by_cell, stem.patches.shape[0])).abs().max()))
        squares.append(autograd[:, 0] ** 2)
        at_zero += int((sample.read == 0).sum())
    return gap, torch.cat(squares), at_zero

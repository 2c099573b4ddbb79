"""T3. Any backbone: under a random Gaussian head, Grad-CAM's expectation is the channel norm of the activations.

Given the activations A of any network (deep, biased, batch-normed, trained, even signed), a head of max-pooling, wall
and L bias-free Gaussian layers with ReLU between them, and a fixed class: at every cell u, seen or unseen,

    E[GC(u)] = sqrt(n) / (N sqrt(2 pi)) * |A(u)|_2 * prod_{l<L} ( tau_l kappa(d_l) ) * tau_L

and E[GC(u)^2] = n / (2 N^2) * |A(u)|^2 * prod_{l<L} ( tau_l^2 d_l / 2 ) * tau_L^2, whence, with no free parameter,

    sum_{unseen} E[GC^2] / sum_{all} E[GC^2] = sum_{unseen} |A|^2 / sum_{all} |A|^2.

Condition: some seen pooled activation is not 0 (else the gates are all closed and GC = 0 everywhere if L >= 2).
Rectified or not, A may have any sign. The ratio is one of expectations: the mean of a per-head ratio differs (Jensen).

Proof. S(u) = (1/N) W_L g_{L-1} W_{L-1} ... g_1 W_1 b, where b holds A_v(u) once per seen pooled cell of channel v, so
|b| = sqrt(n) |A(u)|, and g_l are the gates of the forward pass. Flipping the sign of a row of W_l flips its gate and
keeps the square of what it says of b: gates are fair coins independent of the squares. So each hidden layer multiplies
the norm by tau_l chi_K with K ~ Bin(d_l, 1/2), and the last one makes a Gaussian of it, whose positive part has mean
(its deviation) / sqrt(2 pi).
"""

from functools import cache

import sympy as sp
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from theory.arithmetic import NUMBERS, SYMBOLS, Arithmetic
from theory.backbones import fixed_case
from theory.geometries import pick_cells
from theory.maps import gradcam
from theory.networks import Head, sample_heads
from theory.proofs import (
    Check,
    chi_mean_integrated,
    chi_square_integrated,
    half_gaussian_mean,
    half_gaussian_square,
    identity,
)
from theory.runs import Outcome, Run
from theory.statistics import ZScores, z_score

TITLE = "Any backbone: E[GC(u)] is the channel norm |A(u)| times a constant of the head"


def head_gain(taus: tuple, widths: tuple[int, ...], maths: Arithmetic = NUMBERS):
    """prod_{l<L} ( tau_l kappa(d_l) ) * tau_L: what the head does to a norm, in the mean."""
    gain = taus[-1]
    for tau, width in zip(taus[:-1], widths, strict=True):
        gain = gain * tau * maths.kappa(width)
    return gain


def expected_gradcam(
    channel_norms: ArrayLike, n_seen, n_cells, taus: tuple, widths: tuple[int, ...], maths: Arithmetic = NUMBERS
):
    """E[GC(u)] over random heads, for a fixed class. channel_norms |A(u)|_2, any shape -> same shape.

    n_seen: pooled cells that the head reads, per channel; n_cells: all cells of the map that is explained.

    >>> round(float(expected_gradcam(1.0, n_seen=4, n_cells=16, taus=(1.0,), widths=())), 4)    # 2 / (16 sqrt(2 pi))
    0.0499
    """
    return maths.sqrt(n_seen) / (n_cells * maths.sqrt(2 * maths.pi)) * channel_norms * head_gain(taus, widths, maths)


def second_moment(channel_norms: ArrayLike, n_seen, n_cells, taus: tuple, widths: tuple[int, ...]):
    """E[GC(u)^2] over random heads, for a fixed class. Shapes as in `expected_gradcam`."""
    moment = n_seen * channel_norms**2 / (2 * n_cells**2) * taus[-1] ** 2
    for tau, width in zip(taus[:-1], widths, strict=True):
        moment = moment * tau**2 * width / 2
    return moment


def leak_share(squared_norms, unseen) -> float:
    """sum_{unseen} |A|^2 / sum_{all} |A|^2, predicted for sum_{unseen} E[GC^2] / sum_{all} E[GC^2].

    squared_norms (..., h, w) of one or many images; unseen (h, w) bool.
    """
    return (squared_norms * unseen).sum() / squared_norms.sum()


def predicted_leak_l2(channel_norms, unseen) -> float:
    """The square root of `leak_share`, on the scale of leak_l2 = |S_unseen| / |S|. channel_norms (..., h, w)."""
    return leak_share(channel_norms**2, unseen) ** 0.5


def prove(mean=expected_gradcam, square=second_moment) -> list[Check]:
    """Both formulas against the layer-by-layer recursion, with every step integrated."""
    return [
        identity("a gate is a fair coin, independent of the square it selects", *_gate_moments()),
        identity("mean of GC, depth 1 to 4", *_recursion(mean, chi_mean_integrated, half_gaussian_mean)),
        identity(
            "mean square of GC, depth 1 to 4", *_recursion(square, chi_square_integrated, half_gaussian_square, 2)
        ),
        identity("sum_k C(d,k) 2^-d k = d/2, any width", *_binomial_mean()),
    ]


@cache
def _gate_moments() -> tuple[list, list]:
    """E[1(w.a > 0) (w.b)^(2j)] = 1/2 E (w.b)^(2j) in the plane of a and b, at any angle between them.

    In polar coordinates the radius is independent of the direction, so the direction alone is integrated.
    """
    theta, between = sp.symbols("theta between", real=True)
    powers = [sp.cos(theta) ** (2 * j) for j in range(4)]
    open_gate = [sp.integrate(p, (theta, between - sp.pi / 2, between + sp.pi / 2)) for p in powers]
    return open_gate, [sp.integrate(p, (theta, 0, 2 * sp.pi)) / 2 for p in powers]


def _recursion(claim, chi_moment, last_layer, power: int = 1) -> tuple[list, list]:
    """(claimed, derived) moments for L = 1..4; `power` 1 or 2 says which moment of the norm is carried up."""
    n, cells, norm, tau = sp.symbols("n N a tau", positive=True)
    widths = (2, 3, 5)
    claimed, derived = [], []
    for depth in range(1, 5):
        carried = (sp.sqrt(n) * norm / cells) ** power
        for width in widths[: depth - 1]:
            coins = [sp.binomial(width, k) / sp.Integer(2) ** width for k in range(1, width + 1)]
            carried *= tau**power * sum(p * chi_moment(k) for k, p in enumerate(coins, start=1))
        derived.append(last_layer(tau) * carried)
        arguments = (norm, n, cells, (tau,) * depth, widths[: depth - 1])
        claimed.append(claim(*arguments, SYMBOLS) if power == 1 else claim(*arguments))
    return claimed, derived


@cache
def _binomial_mean() -> tuple[sp.Expr, sp.Expr]:
    d, k = sp.symbols("d k", integer=True, positive=True)
    return sp.summation(sp.binomial(d, k) * k, (k, 0, d)).simplify() / 2**d, d / 2


def simulate(run: Run, mean=expected_gradcam, square=second_moment, share=leak_share) -> Outcome:
    """Random heads on fixed activations of six kinds of network; three independent z-scores per geometry."""
    scores, rows = [], []
    for index in range(run.geometries):
        kind, activations, head = fixed_case(run, "T3", index)
        z_mean, row = _mean_score(run, index, activations, head, mean)
        scores += [z_mean, *_square_scores(run, index, activations, head, square, share)]
        rows.append({"backbone": kind, **row})
        run.tick()
    return Outcome(ZScores.of(scores), data={"means": rows})


def _mean_score(run: Run, index: int, activations: Tensor, head: Head, mean) -> tuple[float, dict]:
    """z of the mean map at one cell, and all cells' means for the figure."""
    norms = activations.norm(dim=0)
    generator = run.generator("T3", "mean", index)
    maps = _maps(activations, head, 2 * run.draws, generator)
    chance = run.generator("T3", index, device="cpu")
    row, column = pick_cells(head.covered(norms.shape), norms > 0, 2, chance)[index % 2 - 1]
    expected = mean(norms.double().cpu().numpy(), head.n_seen, norms.numel(), head.taus, head.widths)
    estimate, error = maps.mean(0).flatten(), maps.std(0).flatten() / len(maps) ** 0.5
    found = {"expected": expected.ravel(), "estimate": estimate.tolist(), "error": error.tolist()}
    return z_score(maps[:, row, column], float(expected[row, column])), found


def _square_scores(run: Run, index: int, activations: Tensor, head: Head, square, share) -> list[float]:
    """z of the mean square (one cell) and of the corollary (whole map), at depth 1 or 2, where GC^2 has light tails."""
    head = Head(head.seen, head.taus[-2:], head.widths[-1:], head.pool)
    norms = activations.norm(dim=0)
    place = divmod(int(norms.argmax()), norms.shape[1])
    expected = square(float(norms[place]), head.n_seen, norms.numel(), head.taus, head.widths)
    first = _maps(activations, head, run.draws, run.generator("T3", "square", index)) ** 2
    second = _maps(activations, head, run.draws, run.generator("T3", "share", index)) ** 2
    unseen = ~head.covered(norms.shape).to(norms.device)
    z_square = z_score(first[:, *place], expected)
    if _share_is_fixed(activations, unseen):
        return [z_square]
    predicted = share(norms.double() ** 2, unseen)
    return [z_square, z_score((second * unseen).sum((1, 2)) - predicted * second.sum((1, 2)), 0.0)]


def _share_is_fixed(activations: Tensor, unseen: Tensor) -> bool:
    """Is the share the same under every head (nothing unseen, or one direction of A alone), so that it has no z?"""
    alive_unseen = float((activations.norm(dim=0) * unseen).sum()) > 0
    return not alive_unseen or int(torch.linalg.matrix_rank(activations.flatten(1))) < 2


def _maps(activations: Tensor, head: Head, draws: int, generator) -> Tensor:
    """GC of `draws` random heads: (M, h, w)."""
    samples = sample_heads(activations, head, draws, generator)
    return torch.cat([gradcam(sample).relu() for sample in samples])

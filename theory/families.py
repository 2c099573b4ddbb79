"""T7. The families: where the channel weight comes from decides whether a map can see through a wall.

One statement: a map sum_v w_v A_v(u) with w free of u leaks at u unless w is orthogonal to A(u), which a random w with
a density is with probability 0; a map that vanishes with G(., u) cannot leak, because G(., u) = 0 where nothing reads.

(a) HiResCAM, Layer-CAM, element-wise Grad-CAM: exactly 0 at unseen cells, for all weights. At seen cells, without
    pooling, for a Gaussian head of any depth on A >= 0 (the claim said L = 1; the same recursion as in T3 gives all L):
        E[relu HiRes(u)] = gain |A(u)| / sqrt(2 pi),   E[Layer-CAM(u)] = gain sum_v A_v(u) / sqrt(2 pi),
    gain = prod_{l<L} ( tau_l kappa(d_l) ) tau_L. Element-wise Grad-CAM equals Layer-CAM where A >= 0.
(b) Linear weights w_v = sum_{seen p} W_{v,p} c_{v,p} (L = 1): Var(S(u) | A) = tau^2 sum_v A_v(u)^2 |c_v|^2.
    Grad-CAM c = 1/N; XGrad-CAM c = (pooled activation) / (sum of the channel); Ablation-CAM and LIFT-CAM c = pooled
    activation. Hence E[relu S(u)] = deviation / sqrt(2 pi), at seen and unseen cells alike.
(c) Grad-CAM++ (L = 1, windows that do not overlap): weights are non-negative, nothing cancels, and at an unseen cell
        P(leak at u) = 1 - 2^(-n * number of channels alive at u).
(d) Class-free methods (Eigen-CAM and kin) are functions of A alone: any head, walled or not, gives the same map.
"""

from itertools import product

import numpy as np
import sympy as sp
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from theory import maps
from theory.any_backbone import head_gain
from theory.arithmetic import NUMBERS, SYMBOLS, Arithmetic
from theory.backbones import fixed_case
from theory.geometries import pick_cells
from theory.networks import Head, Sample, explain, sample_heads
from theory.proofs import Check, half_gaussian_mean, identity, standard_normal
from theory.runs import Outcome, Run
from theory.statistics import ZScores, z_frequency, z_score

TITLE = "Families: gated maps are exactly 0 at unseen cells, channel-weighted ones leak"

GATED = {
    "HiResCAM": maps.hirescam,
    "Layer-CAM": maps.layercam,
    "element-wise Grad-CAM": maps.elementwise_gradcam,
}
WEIGHTED = {
    "Grad-CAM": lambda sample, head: maps.gradcam(sample),
    "XGrad-CAM": lambda sample, head: maps.xgradcam(sample),
    "Ablation-CAM": maps.ablationcam,
    "LIFT-CAM": maps.liftcam,
}


def expected_hirescam(channel_norms: ArrayLike, taus: tuple, widths: tuple[int, ...], maths: Arithmetic = NUMBERS):
    """E[relu HiRes(u)] at seen cells, no pooling. channel_norms |A(u)|_2, any shape -> same shape."""
    return head_gain(taus, widths, maths) * channel_norms / maths.sqrt(2 * maths.pi)


def expected_layercam(channel_sums: ArrayLike, taus: tuple, widths: tuple[int, ...], maths: Arithmetic = NUMBERS):
    """E[Layer-CAM(u)] at seen cells, no pooling, A >= 0. channel_sums sum_v A_v(u), any shape -> same shape."""
    return head_gain(taus, widths, maths) * channel_sums / maths.sqrt(2 * maths.pi)


def variance_linear(activations, squared_coefficients, tau):
    """Var(S(u) | A) = tau^2 sum_v A_v(u)^2 |c_v|^2 for L = 1; two sequences over channels v."""
    return tau**2 * sum(a**2 * c for a, c in zip(activations, squared_coefficients, strict=True))


def leak_probability_plus_plus(n_seen: int, living: int):
    """P(Grad-CAM++ > 0 at an unseen cell) for L = 1: 1 - 2^-(n * channels alive there).

    >>> leak_probability_plus_plus(1, 1), leak_probability_plus_plus(2, 2)
    (0.5, 0.9375)
    """
    return 1 - 0.5 ** (n_seen * living)


def squared_coefficients(name: str, activations: Tensor, head: Head) -> Tensor:
    """|c_v|^2 of a linear-weight method: (V,). activations (V, h, w)."""
    read = head.read(activations[None]).reshape(len(activations), head.n_seen)
    total = activations.sum((1, 2))
    return {
        "Grad-CAM": torch.full_like(total, head.n_seen / activations[0].numel() ** 2),
        "XGrad-CAM": (read**2).sum(1) / torch.where(total == 0, 1.0, total) ** 2,
        "Ablation-CAM": (read**2).sum(1),
        "LIFT-CAM": (read**2).sum(1),
    }[name]


def prove(hires=expected_hirescam, layer=expected_layercam, variance=variance_linear, leak=leak_probability_plus_plus):
    """Each formula from the definition of the map, for two channels and small n."""
    return [
        identity("(a) gated maps at an unseen cell are 0 for all weights and activations", *_gated_at_unseen()),
        identity("(a) E relu HiRes and E Layer-CAM at a seen cell, L = 1", *_seen_means(hires, layer)),
        identity("(b) Var(S(u) | A) by expanding the square", *_variance(variance)),
        identity("(c) P(some weight positive) by summing over all sign patterns", *_sign_patterns(leak)),
        identity("one statement: sum_v w_v A_v(u) = 0 only on the hyperplane w orthogonal to A(u)", *_hyperplane()),
    ]


def _small_net():
    """Two channels, three cells of which the first two are read by a hidden layer of two units."""
    cells = sp.symbols("A11 A12 A13 A21 A22 A23", positive=True)
    weights = sp.Matrix(2, 4, sp.symbols("W1:9", real=True))
    last = sp.symbols("y1 y2", real=True)
    hidden = weights * sp.Matrix([cells[0], cells[1], cells[3], cells[4]])
    return cells, sum(w * sp.Max(0, h) for w, h in zip(last, hidden, strict=True))


def _gated_at_unseen() -> tuple[list, list]:
    """HiRes, Layer-CAM and element-wise Grad-CAM at the third cell, with symbolic weights."""
    cells, score = _small_net()
    unseen = [(sp.diff(score, cell), cell) for cell in (cells[2], cells[5])]
    hires = sum(g * a for g, a in unseen)
    layer = sum(sp.Max(0, g) * a for g, a in unseen)
    elementwise = sum(sp.Max(0, g * a) for g, a in unseen)
    return [hires, layer, elementwise], [0, 0, 0]


def _seen_means(hires, layer) -> tuple[list, list]:
    """HiRes(u) = W_1 A_1 + W_2 A_2 is Gaussian of variance tau^2 |A|^2; Layer-CAM is a sum of half Gaussians."""
    a1, a2, tau = sp.symbols("a1 a2 tau", positive=True)
    norm = sp.sqrt(a1**2 + a2**2)
    derived = [half_gaussian_mean(tau * norm), half_gaussian_mean(tau) * a1 + half_gaussian_mean(tau) * a2]
    return [hires(norm, (tau,), (), SYMBOLS), layer(a1 + a2, (tau,), (), SYMBOLS)], derived


def _variance(claim) -> tuple[sp.Expr, sp.Expr]:
    """E (sum_v A_v sum_p W_vp c_vp)^2 for two channels and two seen cells."""
    a1, a2, tau = sp.symbols("a1 a2 tau", positive=True)
    c = sp.symbols("c1:5", real=True)
    weights = sp.symbols("W1:5")
    total = a1 * (weights[0] * c[0] + weights[1] * c[1]) + a2 * (weights[2] * c[2] + weights[3] * c[3])
    square = sp.Poly(sp.expand(total**2), *weights)
    derived = sum(coefficient for powers, coefficient in square.terms() if max(powers) == 2) * tau**2
    return claim((a1, a2), (c[0] ** 2 + c[1] ** 2, c[2] ** 2 + c[3] ** 2), tau), derived


def _sign_patterns(claim) -> tuple[list, list]:
    """Grad-CAM++ at u is sum over living v of (non-negative weight) A_v(u): positive iff some W_{v,p} > 0."""
    z = sp.symbols("z", positive=True)
    half = sp.integrate(standard_normal(z), (z, 0, sp.oo))
    claimed, derived = [], []
    for n, living in ((1, 1), (2, 1), (2, 2), (3, 2)):
        patterns = product((False, True), repeat=n * living)
        derived.append(sum(half ** (n * living) for positive in patterns if any(positive)))
        claimed.append(sp.nsimplify(claim(n, living)))
    return claimed, derived


def _hyperplane() -> tuple[sp.Expr, sp.Expr]:
    """Solving sum_v w_v a_v = 0 for one weight: a single value of it, so probability 0 under any density."""
    w1, w2, w3 = sp.symbols("w1:4", real=True)
    a1, a2, a3 = sp.symbols("a1:4", positive=True)
    (only,) = sp.solve(w1 * a1 + w2 * a2 + w3 * a3, w3)
    return only * a3, -(w1 * a1 + w2 * a2)


def simulate(
    run: Run,
    hires=expected_hirescam,
    layer=expected_layercam,
    variance=variance_linear,
    leak=leak_probability_plus_plus,
    gated: dict = GATED,
) -> Outcome:
    """Means of each family on fixed activations; exact zeros; leak frequencies of Grad-CAM++; heads changed."""
    scores, rows, nonzero, changed = [], [], 0, 0
    for index in range(run.geometries):
        _, activations, head = fixed_case(run, "T7", index)
        activations = activations.relu()
        nonzero += _nonzero_at_unseen(run, index, activations, head, gated)
        changed += _eigencam_changes(run, index, activations, head)
        if head.read(activations[None]).any():
            rows += _seen_rows(run, index, activations, Head(head.seen, head.taus, head.widths), hires, layer)
            rows += _linear_rows(run, index, activations, head, variance)
        rows.append(_plus_plus_row(run, index, leak))
        run.tick()
    scores = [row["z"] for row in rows]
    checks = (
        Check("gated maps: non-zero values at unseen cells, all draws", nonzero == 0, f"{nonzero} of them"),
        Check("uncentred Eigen-CAM changed by another head", changed == 0, f"{changed} times"),
    )
    return Outcome(ZScores.of(scores), checks, {"rows": rows})


def _nonzero_at_unseen(run: Run, index: int, activations: Tensor, head: Head, gated: dict) -> int:
    """How many values at unseen cells are not exactly 0, over the gated methods and 200 heads."""
    unseen = ~head.covered(tuple(activations.shape[1:])).to(activations.device)
    samples = list(sample_heads(activations, head, 200, run.generator("T7", "zeros", index)))
    return sum(int(torch.count_nonzero(method(s)[:, unseen])) for method in gated.values() for s in samples)


def _eigencam_changes(run: Run, index: int, activations: Tensor, head: Head) -> int:
    """Is |A^T v_1| (cells by channels, uncentred) other bits under a second head? It never reads one."""
    generator = run.generator("T7", "eigen", index)
    drawn = [head.draw(len(activations), 1, 1, generator, activations.dtype) for _ in range(2)]
    first, second = (_eigencam(explain(activations[None], head, weights)) for weights in drawn)
    return int(not torch.equal(first, second))


def _eigencam(sample: Sample) -> Tensor:
    """The first principal direction's projection, without centring: (M, cells)."""
    columns = sample.target.flatten(2).transpose(1, 2)
    return (columns @ torch.linalg.svd(columns, full_matrices=False).Vh[:, 0, :, None])[:, :, 0].abs()


def _row(method: str, side: str, values: Tensor, expected: float) -> dict:
    """One estimate with its standard error and z-score."""
    error = float(values.double().std()) / len(values) ** 0.5
    estimate = float(values.double().mean())
    return {
        "method": method, "side": side, "expected": expected, "estimate": estimate, "error": error,
        "z": z_score(values, expected),
    }  # fmt: skip


def _seen_rows(run: Run, index: int, activations: Tensor, head: Head, hires, layer) -> list[dict]:
    """HiResCAM and Layer-CAM at a seen cell, no pooling: the wall is laid over the same activations."""
    height, width = (min(a, b) for a, b in zip(head.seen.shape, activations.shape[1:], strict=True))
    activations = activations[:, :height, :width]
    alive = activations.sum(0).cpu() > 0
    cells = pick_cells(head.seen, alive & head.seen, 1, run.generator("T7", index, device="cpu"))
    if not cells:
        return []
    (cell,) = cells
    fibre = activations[:, *cell].double()
    expected = {
        "HiResCAM": float(hires(float(fibre.norm()), head.taus, head.widths)),
        "Layer-CAM": float(layer(float(fibre.sum()), head.taus, head.widths)),
    }
    rows = []
    for name, value in expected.items():
        samples = sample_heads(activations, head, run.draws // 2, run.generator("T7", name, index))
        rows.append(_row(name, "seen", torch.cat([GATED[name](s)[:, *cell].relu() for s in samples]), value))
    return rows


def _linear_rows(run: Run, index: int, activations: Tensor, head: Head, variance) -> list[dict]:
    """The linear-weight methods at an unseen cell (a seen one where nothing is unseen), L = 1."""
    head = Head(head.seen, head.taus[-1:], (), head.pool)
    covered = head.covered(tuple(activations.shape[1:]))
    rows = []
    for name, method in WEIGHTED.items():
        squares = squared_coefficients(name, activations, head)
        alive = ((activations * squares[:, None, None]).sum(0) > 0).cpu()
        cells = pick_cells(covered, alive & ~covered, 1, run.generator("T7", index, device="cpu"))
        for cell in cells or pick_cells(covered, alive, 1, run.generator("T7", index, device="cpu")):
            spread = float(variance(activations[:, *cell].double(), squares.double(), head.taus[0])) ** 0.5
            samples = sample_heads(activations, head, run.draws // 4, run.generator("T7", name, index))
            values = torch.cat([method(s, head)[:, *cell].relu() for s in samples])
            side = "seen" if covered[cell] else "unseen"
            rows.append(_row(name, side, values, spread / (2 * np.pi) ** 0.5))
    return rows


def _plus_plus_row(run: Run, index: int, leak) -> dict:
    """Frequency of Grad-CAM++ > 0 at an unseen cell with 1 or 2 of 3 channels alive and 1 to 3 seen cells."""
    n, living = 1 + index % 3, 1 + index % 2
    activations = torch.rand(3, 1, n + 1, generator=run.generator("T7", "++", index, device="cpu")) + 0.1
    activations[living:, 0, n] = 0
    head = Head(torch.arange(n + 1)[None] < n, taus=(0.8,))
    samples = sample_heads(activations.to(run.device), head, run.draws // 2, run.generator("T7", "leaks", index))
    leaks = torch.cat([maps.gradcam_plus_plus(s)[:, 0, n] > 0 for s in samples])
    expected = float(leak(n, living))
    row = _row("Grad-CAM++ leaks", "unseen", leaks, expected)
    return row | {"n_living": n * living, "z": z_frequency(int(leaks.sum()), len(leaks), expected)}

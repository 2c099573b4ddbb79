"""T5. The predicted class: leakage is then more likely than 1/2, wall or no wall.

Given the activations, with the first head layer Gaussian and everything above it independent of it. s_v = sum over
seen pooled cells of channel v, q(u) = sum_v s_v A_v(u) (>= 0 for rectified A), P all seen pooled activations, g the
gradient of y_c at the first pre-activations, c chosen from the logits in any way:

    E[S(u) | pre-activations] = y_c q(u) / (N |P|^2)
    P(S(u) > 0 | pre-activations) = Phi( t rho / sqrt(1 - rho^2) )
    rho = q(u) / (sqrt(n) |A(u)| |P|),   t = y_c / (tau_1 |g| |P|)

For the arg-max of D linear classes (L = 1) t is the largest of D standard normals, of mean 1.538 for D = 10; then
P(S(u) > 0) = int D phi(t) Phi(t)^(D-1) Phi(t rho / sqrt(1 - rho^2)) dt, which is 1/2 + arcsin(rho / sqrt 2) / pi for
D = 2 and rises to 1 - 2^-D at rho = 1.

Conditions: g != 0, A(u) != 0, P != 0. Biases in the first layer or above: replace y_c by g . (W_1 P).

Proof. With b(u) holding A_v(u) once per seen pooled cell, S(u) = (1/N) sum_j g_j W_1j . b(u). Given W_1 P = z a row of
W_1 is Gaussian with W_1j . b of mean z_j (P . b) / |P|^2 and variance tau_1^2 (|b|^2 - (P . b)^2 / |P|^2): the regression
of one Gaussian on another. P . b = q, |b|^2 = n |A(u)|^2, and g . z = y_c, because y is homogeneous of degree 1 in z.
"""

from functools import cache

import numpy as np
import sympy as sp
import torch
from numpy.typing import ArrayLike

from theory.arithmetic import NUMBERS, SYMBOLS, Arithmetic
from theory.chi import legendre
from theory.geometries import pick_cells
from theory.maps import gradcam
from theory.networks import Head, Sample, sample_heads, sample_stems
from theory.proofs import Check, identity, standard_normal
from theory.runs import Outcome, Run
from theory.statistics import ZScores, z_frequency, z_score

TITLE = "The predicted class leaks more often than half: Phi(t rho / sqrt(1 - rho^2))"
CLASSES = (2, 10, 1000)


def conditional_mean(score: ArrayLike, q: ArrayLike, read_norm: ArrayLike, n_cells):
    """E[S(u) | pre-activations] = y_c q / (N |P|^2). All of one shape."""
    return score * q / (n_cells * read_norm**2)


def correlation(q: ArrayLike, channel_norm: ArrayLike, read_norm: ArrayLike, n_seen, maths: Arithmetic = NUMBERS):
    """rho = q(u) / (sqrt(n) |A(u)| |P|): how alike the fibre at u and the seen activations are."""
    return q / (maths.sqrt(n_seen) * channel_norm * read_norm)


def standardised_score(score: ArrayLike, first_gradient_norm: ArrayLike, read_norm: ArrayLike, tau_first):
    """t = y_c / (tau_1 |g| |P|); for L = 1 the logit in units of its standard deviation."""
    return score / (tau_first * first_gradient_norm * read_norm)


def probability_positive(t: ArrayLike, rho: ArrayLike, maths: Arithmetic = NUMBERS):
    """P(S(u) > 0 | pre-activations) = Phi( t rho / sqrt(1 - rho^2) ), rho < 1.

    >>> float(probability_positive(1.5, 0.0))
    0.5
    """
    return maths.normal_cdf(t * rho / maths.sqrt(1 - rho**2))


def _largest_of(classes: int, nodes: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """Nodes t and weights for an expectation over the largest of D standard normals."""
    x, weight = legendre(nodes // 2)
    # all but 1e-20 of the mass lies within 10; two panels, because at rho = 1 the integrand jumps at 0
    t, weight = np.concatenate([5 * x - 5, 5 * x + 5]), 5 * np.concatenate([weight, weight])
    density = classes * np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi) * NUMBERS.normal_cdf(t) ** (classes - 1)
    return t, weight * density


def mean_of_largest(classes: int) -> float:
    """E of the largest of D standard normals.

    >>> round(mean_of_largest(10), 3)
    1.539
    """
    t, weight = _largest_of(classes)
    return float((t * weight).sum())


def probability_positive_predicted(rho: ArrayLike, classes: int) -> np.ndarray:
    """P(S(u) > 0) for the arg-max of D linear classes (L = 1). rho any shape, 0 to 1 -> same shape.

    >>> probability_positive_predicted([0.0, 1.0], classes=2).round(6).tolist()
    [0.5, 0.75]
    """
    t, weight = _largest_of(classes)
    rho = np.asarray(rho, dtype=float)[..., None]
    slope = rho / np.sqrt(np.maximum(1 - rho**2, 1e-30))  # at rho = 1 a step: S has the sign of the logit
    return np.minimum((weight * NUMBERS.normal_cdf(t * slope)).sum(-1), 1.0)


def two_classes(rho, maths: Arithmetic = NUMBERS):
    """The same in closed form for D = 2: 1/2 + arcsin(rho / sqrt 2) / pi."""
    return (maths.pi / 2 + maths.arcsin(rho / maths.sqrt(2))) / maths.pi


def prove(mean=conditional_mean, rho=correlation, t=standardised_score, phi=probability_positive, two=two_classes):
    """Regression, homogeneity, the Gaussian tail, and the closed form for two classes."""
    return [
        identity("regression of w.b on w.a, from the joint density", *_regression()),
        identity("g . z = y for a ReLU network without bias", *_homogeneous()),
        identity("E[S | z] for three units", *_mean(mean)),
        identity("P(S > 0 | z) from that mean and variance", *_tail(rho, t, phi)),
        identity("D = 2: slope in t-ratio of 1/2 + arcsin(rho/sqrt 2)/pi, integrated; value at 0", *_two_classes(two)),
        Check("E of the largest of 10 normals is 1.538", abs(mean_of_largest(10) - 1.53875) < 1e-5),
        _two_classes_numerically(two),
    ]


@cache
def _regression() -> tuple[list, list]:
    """Conditional mean and variance by integrating the joint Gaussian density over y at fixed x."""
    y, x = sp.symbols("y x", real=True)
    c_xx, c_yy, tau = sp.symbols("aa bb tau", positive=True)  # |a|^2, |b|^2
    c_xy = sp.Symbol("ab", real=True)
    precision = (tau**2 * sp.Matrix([[c_xx, c_xy], [c_xy, c_yy]])).inv()
    big = sp.Symbol("big", positive=True)  # the precision of y, positive for a proper density
    lean = sp.Symbol("lean", real=True)
    weight = sp.exp(-(big * y**2) / 2 - lean * x * y)
    moments = [sp.integrate(y**k * weight, (y, -sp.oo, sp.oo)) for k in range(3)]
    at = {big: precision[1, 1], lean: precision[0, 1]}
    mean = sp.simplify(moments[1] / moments[0])
    variance = sp.simplify(moments[2] / moments[0] - mean**2)
    return [mean.subs(at), variance.subs(at)], [x * c_xy / c_xx, tau**2 * (c_yy - c_xy**2 / c_xx)]


@cache
def _homogeneous() -> tuple[list, list]:
    """sum_j z_j dy/dz_j - y at rational points of a net with two hidden layers and symbolic last weights."""
    z = sp.symbols("z1:4", real=True)
    last = sp.symbols("w1:3", real=True)
    inner = sp.Matrix([[1, -2, sp.Rational(1, 3)], [sp.Rational(-3, 5), 1, 2]])
    hidden = inner * sp.Matrix([sp.Max(0, each) for each in z])
    score = sum(w * sp.Max(0, each) for w, each in zip(last, hidden, strict=True))
    euler = sum(each * sp.diff(score, each) for each in z)
    points = [(1, sp.Rational(1, 4), 3), (-1, 2, sp.Rational(1, 7)), (2, -3, -1)]
    at = [dict(zip(z, point, strict=True)) for point in points]
    return [euler.subs(p) for p in at], [score.subs(p) for p in at]


def _mean(claim) -> tuple[sp.Expr, sp.Expr]:
    """(1/N) sum_j g_j E[W_1j . b | z_j], then g . z = y solved for z_3."""
    g1, g2, g3, z1, z2, y, q, norm, cells = sp.symbols("g1 g2 g3 z1 z2 y q P N", positive=True)
    z3 = (y - g1 * z1 - g2 * z2) / g3
    derived = sum(g * z * q / norm**2 for g, z in ((g1, z1), (g2, z2), (g3, z3))) / cells
    return claim(y, q, norm, cells), derived


def _tail(rho, t, phi) -> tuple[sp.Expr, sp.Expr]:
    """int_0^oo of the Gaussian with the derived mean and variance, against Phi(t rho / sqrt(1 - rho^2))."""
    x, y, here, norm, g, tau, n, slope = sp.symbols("x y A P g tau n slope", positive=True)
    q = sp.sqrt(n) * here * norm * slope / sp.sqrt(1 + slope**2)  # any 0 < q < sqrt(n) |A| |P|
    mean, deviation = y * q / norm**2, tau * g * sp.sqrt(n) * here * sp.sqrt(1 / (1 + slope**2))
    mu, sigma = sp.symbols("mu sigma", positive=True)
    density = sp.exp(-((x - mu) ** 2) / (2 * sigma**2)) / (sigma * sp.sqrt(2 * sp.pi))
    derived = sp.integrate(density, (x, 0, sp.oo)).subs({mu: mean, sigma: deviation})
    claimed = phi(t(y, g, norm, tau), rho(q, here, norm, n, SYMBOLS), SYMBOLS)
    return claimed, derived


def _two_classes(claim) -> tuple[list, list]:
    """d/dk of int 2 phi(t) Phi(t) Phi(kt) dt with k = rho / sqrt(1 - rho^2), and the value at k = 0."""
    t = sp.symbols("t", real=True)
    k = sp.symbols("k", positive=True)
    # d/dk Phi(kt) = t phi(kt); by parts against t exp(-(1+k^2) t^2/2) the Phi(t) becomes phi(t)
    c = sp.symbols("c", positive=True)  # 1 + k^2
    surface = 2 / (2 * sp.pi) * sp.exp(-c * t**2 / 2) / c * standard_normal(t)
    slope = sp.integrate(surface, (t, -sp.oo, sp.oo)).subs(c, 1 + k**2)
    claimed = claim(k / sp.sqrt(1 + k**2), SYMBOLS)
    return [sp.diff(claimed, k), claimed.subs(k, 0)], [slope, sp.Rational(1, 2)]


def _two_classes_numerically(claim) -> Check:
    rho = np.linspace(0, 1, 11)
    gap = np.abs(claim(rho) - probability_positive_predicted(rho, 2)).max()
    return Check("D = 2: closed form equals the integral over the largest", gap < 1e-6, f"{gap:.0e}")


def simulate(run: Run, phi=probability_positive, predicted=probability_positive_predicted, mean=conditional_mean):
    """Frequencies over a grid of rho for 2, 10, 1000 classes; then each network's own probability, any depth."""
    scores, rows = [], []
    for classes in CLASSES:
        for rho in np.linspace(0, 0.98, 15):
            above, draws = frequency(run, float(rho), classes)
            expected = float(predicted(rho, classes))
            if draws * (1 - expected) > 20:  # else hardly a draw is negative, and a count is not yet Gaussian
                scores.append(z_frequency(above, draws, expected))
            rows.append({"classes": classes, "rho": float(rho), "frequency": above / draws, "draws": draws})
        run.tick()
    for index in range(run.geometries):
        scores += _own_probabilities(run, index, phi, mean)
        run.tick()
    grid = np.linspace(0, 1, 101)
    curves = {classes: predicted(grid, classes).tolist() for classes in CLASSES}
    return Outcome(ZScores.of(scores), data={"rows": rows, "rho": grid.tolist(), "curves": curves})


def frequency(run: Run, rho: float, classes: int) -> tuple[int, int]:
    """(draws with S > 0, draws) at the unseen third cell, whose fibre has correlation rho with the seen two."""
    activations = torch.tensor([[[1.0, 1.0, rho]], [[0.0, 0.0, (1 - rho**2) ** 0.5]]], device=run.device)
    head = Head(torch.tensor([[True, True, False]]), taus=(0.7,))
    samples = sample_heads(activations, head, run.draws, run.generator("T5", rho, classes), classes, predicted=True)
    return sum(int((gradcam(sample)[:, 0, 2] > 0).sum()) for sample in samples), run.draws


def _own_probabilities(run: Run, index: int, phi, mean) -> list[float]:
    """z of the number of positive S(u) against the sum of each network's probability, and of S(u) against its mean."""
    geometry = run.geometry("T5", index, depth=1 + index % 3)
    stem, head = geometry.stem, geometry.head
    usable = geometry.stem.patch_norms.cpu() > 0
    cell = pick_cells(geometry.covered, usable, 2, run.generator("T5", index, device="cpu"))[-1]
    gaps, spread, residuals = 0.0, 0.0, []
    generator, classes = run.generator("T5", "own", index), (2, 3, 10)[index % 3]
    for sample in sample_stems(stem, head, run.draws // 2, generator, classes, predicted=True):
        t, rho, centred, proper = _ingredients(sample, head, cell, mean)
        p = torch.as_tensor(phi(t[proper].cpu().numpy(), rho[proper].cpu().numpy()))
        positive = (gradcam(sample)[:, *cell] > 0)[proper].cpu()
        gaps += float((positive.double() - p).sum())
        spread += float((p * (1 - p)).sum())
        residuals.append(centred[proper])
    if spread < 10:  # S is decided by its class, as with one filter and one seen cell: nothing random to test
        return []
    return [gaps / spread**0.5] if index % 2 else [z_score(torch.cat(residuals), 0.0)]


def _ingredients(sample: Sample, head: Head, cell: tuple[int, int], mean) -> tuple:
    """(t, rho, S - its mean, which draws meet the conditions), each (M,), in float64."""
    here, read = sample.target[:, :, *cell].double(), sample.read.double()
    s = read.unflatten(1, (here.shape[1], head.n_seen)).sum(2)
    q, norm, fibre = (s * here).sum(1), read.norm(dim=1), here.norm(dim=1)
    g = sample.first_gradient.double().norm(dim=1)
    rho = correlation(q, fibre, norm, head.n_seen)
    t = standardised_score(sample.score.double(), g, norm, head.taus[0])
    centred = gradcam(sample)[:, *cell] - mean(sample.score.double(), q, norm, sample.target[0, 0].numel())
    return t, rho, centred, (g > 0) & (fibre > 0) & (norm > 0) & (rho < 1 - 1e-9)

"""Beyond the exact case: biases, dropout, batch-norm, PyTorch's default initialisation, in the head and in the stem.

What T3 and T4 need of a layer is less than "Gaussian without bias". Let each row of weights with its bias be symmetric
(the law of (w, b) is that of (-w, -b)) and independent of the other rows. Then gates are still fair coins, independent
of the squares they select, and, with tau^2 the variance of one weight:

    P(S > 0 | S != 0) = 1/2, T4       exact in every case here: the last layer alone is at work
    P(S > 0) = 1/2 prod (1 - 2^-d)    exact for symmetric biases, uniform weights, batch-norm with running statistics
    E[GC^2], leak share, T3           exact for symmetric biases and uniform weights: only second moments enter
    E[GC], T3                         exact for Gaussian weights, else in the wide limit (a central limit per unit)

Dropout in training mode thins the gates to alive = (1-p)/2 and scales by 1/(1-p): exact again, with kappa(d, alive).
In evaluation mode it is not there. Fresh batch-norm (mean 0, variance 1) is a constant factor, exact. Batch-norm with
statistics of data keeps the coins fair (mean and variance of a unit flip and stay when its weights flip), but divides
by that unit's deviation on data: the scale of T3's map is lost, its shape kept within a few percent at any width. In
training mode gradients also run through the other images, so units that are off for this image do not end them. Biases
of one sign break the coins: scale and shape are off.
In the stem, a Gaussian bias N(0, sigma^2) is one more pixel: |xi_u|^2 becomes |xi_u|^2 + (sigma/tau_F)^2, exactly.
"""

from dataclasses import asdict, dataclass
from functools import cache
from math import prod

import sympy as sp
import torch
from torch import Generator, Tensor

from theory.backbones import deep_batch
from theory.chi import kappa, kappa_exact
from theory.networks import chunks
from theory.proofs import Check, chi_mean_integrated, identity
from theory.runs import Outcome, Run
from theory.statistics import ZScores, z_score

TITLE = "Beyond the exact case: which claims survive biases, dropout, batch-norm, PyTorch's initialisation"
QUANTITIES = ("mean", "square", "share", "positive", "half")
WIDTHS = (4, 64)


@dataclass(frozen=True)
class Variant:
    """A change to the head, and which quantities the theory says are still exact at any width."""

    weights: str = "gaussian"  # or "uniform": PyTorch's default for linear layers, +-1/sqrt(fan_in)
    bias: str = "none"  # "gaussian", "uniform" (PyTorch's default) or "constant"
    dropout: float = 0.0
    norm: str = "none"  # "fresh" running statistics, "data": those of 16 images, "batch": training mode
    exact: tuple[str, ...] = QUANTITIES

    @property
    def alive(self) -> float:
        """P(a unit is on and not dropped)."""
        return (1 - self.dropout) / 2


VARIANTS = {
    "none of these": Variant(),
    "symmetric biases": Variant(bias="gaussian"),
    "PyTorch default": Variant(weights="uniform", bias="uniform", exact=("square", "share", "positive", "half")),
    "dropout 0.5, training": Variant(dropout=0.5),
    "batch-norm, fresh": Variant(norm="fresh"),
    "batch-norm, data": Variant(norm="data", exact=("positive", "half")),
    "batch-norm, training": Variant(norm="batch", exact=("half",)),
    "biases of one sign": Variant(bias="constant", exact=("half",)),
}


def deviation(variant: Variant, fan_in: int) -> float:
    """tau of one layer: He's sqrt(2 / fan_in), or that of PyTorch's uniform default, 1 / sqrt(3 fan_in)."""
    return (1 / (3 * fan_in)) ** 0.5 if variant.weights == "uniform" else (2 / fan_in) ** 0.5


def gain(variant: Variant, fans: tuple[int, ...]) -> float:
    """E of the factor on a norm; `fans` = (inputs, d_1, ..., d_{L-1}), so that tau_l belongs to fans[l-1]."""
    hidden = prod(kappa(width, variant.alive) / (1 - variant.dropout) for width in fans[1:])
    return hidden * prod(deviation(variant, fan) for fan in fans)


def square_gain(variant: Variant, fans: tuple[int, ...]) -> float:
    """E of the factor on a squared norm."""
    hidden = prod(width * variant.alive / (1 - variant.dropout) ** 2 for width in fans[1:])
    return hidden * prod(deviation(variant, fan) ** 2 for fan in fans)


def positive(variant: Variant, fans: tuple[int, ...]) -> float:
    """P(S > 0): half the chance that each hidden layer has a unit alive."""
    return prod(1 - (1 - variant.alive) ** width for width in fans[1:]) / 2


def biased_patch_norm(patch_norms, bias_deviation, tau_conv):
    """What replaces |xi_u| when the stem has Gaussian biases: sqrt(|xi_u|^2 + (sigma / tau_F)^2)."""
    return (patch_norms**2 + (bias_deviation / tau_conv) ** 2) ** 0.5


def prove(thinned_kappa=kappa_exact) -> list[Check]:
    """Thinned kappa, uniform weights' gates and variance, fresh bias as a pixel."""
    return [
        identity("kappa(m, 1/4) = E chi_K, K ~ Bin(m, 1/4), densities integrated", *_thinned(thinned_kappa)),
        identity("uniform weights: E[1(w.a > 0) (w.b)^2] = 1/2 E (w.b)^2", *_uniform_gate()),
        identity("uniform on +-1/sqrt(f): variance 1 / (3 f)", *_uniform_variance()),
    ]


def _thinned(claim) -> tuple[list, list]:
    quarter = sp.Rational(1, 4)
    integrated = [
        sum(sp.binomial(m, k) * quarter**k * (1 - quarter) ** (m - k) * chi_mean_integrated(k) for k in range(1, m + 1))
        for m in range(1, 5)
    ]
    return [claim(m, quarter) for m in range(1, 5)], integrated


@cache
def _uniform_gate() -> tuple[sp.Expr, sp.Expr]:
    """Over the square [-1, 1]^2 with a = (1, 2), b = (b1, b2): the gate is x > -2y."""
    x, y, b1, b2 = sp.symbols("x y b1 b2", real=True)
    square = (b1 * x + b2 * y) ** 2 / 4
    open_gate = sp.integrate(sp.integrate(square, (y, -x / 2, 1)), (x, -1, 1))
    return open_gate, sp.integrate(sp.integrate(square, (y, -1, 1)), (x, -1, 1)) / 2


def _uniform_variance() -> tuple[sp.Expr, sp.Expr]:
    w, fan = sp.symbols("w f", positive=True)
    edge = 1 / sp.sqrt(fan)
    return sp.integrate(w**2 / (2 * edge), (w, -edge, edge)), 1 / (3 * fan)


def _draw(variant: Variant, kind: str, shape: tuple, fan_in: int, generator: Generator) -> Tensor:
    """Weights or biases of `kind` for a layer with `fan_in` inputs."""
    if kind == "gaussian":
        return deviation(variant, fan_in) * torch.randn(shape, generator=generator, device=generator.device)
    if kind == "uniform":
        return (2 * torch.rand(shape, generator=generator, device=generator.device) - 1) / fan_in**0.5
    return torch.full(shape, deviation(variant, fan_in) if kind == "constant" else 0.0, device=generator.device)


def _linear(variant: Variant, inputs: Tensor, width: int, generator: Generator) -> Tensor:
    """A fresh layer per draw: (M, B, fan_in) -> (M, B, width)."""
    draws, _, fan_in = inputs.shape
    weights = _draw(variant, variant.weights, (draws, fan_in, width), fan_in, generator)
    return torch.bmm(inputs, weights) + _draw(variant, variant.bias, (draws, 1, width), fan_in, generator)


def _normalise(pre: Tensor, norm: str) -> Tensor:
    """Batch-norm over the images of (M, B, d), the explained one first; no affine part, as when fresh."""
    if norm == "none":
        return pre
    if norm == "fresh":
        return pre / (1 + 1e-5) ** 0.5
    statistics = pre[:, 1:].detach() if norm == "data" else pre
    mean, variance = statistics.mean(1, keepdim=True), statistics.var(1, unbiased=False, keepdim=True)
    return (pre - mean) / (variance + 1e-5).sqrt()


def _logit(variant: Variant, read: Tensor, widths: tuple[int, ...], generator: Generator) -> Tensor:
    """One class's logit of the first image under a random head per draw: (M, B, inputs) -> (M,)."""
    hidden = read
    for width in widths:
        pre = _normalise(_linear(variant, hidden, width, generator), variant.norm)
        kept = torch.rand(len(pre), 1, width, generator=generator, device=pre.device) >= variant.dropout
        hidden = pre.relu() * kept / (1 - variant.dropout)
    return _linear(variant, hidden, 1, generator)[:, 0, 0]


def signed_maps(variant: Variant, images: Tensor, rows: int, widths: tuple, draws: int, generator: Generator) -> Tensor:
    """S of the first image under random heads that read the upper `rows` rows. images (B, V, h, w) -> (M, h, w)."""
    batch = images if variant.norm in ("data", "batch") else images[:1]
    inputs, maps = batch[:, :, :rows].flatten(1), []
    for m in chunks(draws, inputs.shape[1] * max(widths[0], len(batch)), budget=12_000_000):
        read = inputs.expand(m, -1, -1).clone().requires_grad_()
        (gradient,) = torch.autograd.grad(_logit(variant, read, widths, generator).sum(), read)
        weights = gradient[:, 0].unflatten(1, (images.shape[1], -1)).sum(2) / images[0, 0].numel()
        maps.append(torch.einsum("mv,vhw->mhw", weights, images[0]))
    return torch.cat(maps)


def shape_spread(maps: Tensor, norms: Tensor) -> float:
    """How far the map is from |A(u)| in shape: relative deviation over cells of sqrt(E S^2) / |A(u)|, weak cells left out.

    Sampling alone gives about 0.005 here.
    """
    living = norms > 0.2 * norms.max()
    profile = ((maps**2).mean(0).sqrt() / norms)[living]
    return float(profile.std() / profile.mean())


def _images(run: Run, index: int, count: int = 16) -> Tensor:
    """Activations of `count` images under one biased convolutional network: (count, 5, 6, 5)."""
    generator = run.generator("beyond", "images", index, device="cpu")
    return deep_batch(generator, count).to(run.device)


ROWS = 3  # of 6 are seen


@dataclass(frozen=True)
class Reading:
    """One quantity of one variant: measured over predicted, its standard error, and the z-score."""

    ratio: float
    error: float
    z: float


def read_quantity(quantity: str, variant: Variant, maps: Tensor, norms: Tensor, widths: tuple[int, ...]) -> Reading:
    """Compare simulated maps (M, h, w) with the theory for channel norms (h, w); unseen cell of the largest norm."""
    fans = (5 * ROWS * norms.shape[1], *widths)
    place = divmod(int(norms[ROWS:].argmax()), norms.shape[1])
    signed = maps[:, ROWS + place[0], place[1]].double()
    scale = (ROWS * norms.shape[1]) ** 0.5 * float(norms[ROWS:].max()) / norms.numel()
    if quantity == "share":
        return _share(maps.double().relu() ** 2, norms.double() ** 2)
    if quantity == "half":
        return _ratio((signed[signed != 0] > 0).double(), 0.5)
    if quantity == "positive":
        return _ratio((signed > 0).double(), positive(variant, fans))
    if quantity == "mean":
        return _ratio(signed.relu(), scale * gain(variant, fans) / (2 * torch.pi) ** 0.5)
    return _ratio(signed.relu() ** 2, scale**2 * square_gain(variant, fans) / 2)


def _ratio(values: Tensor, expected: float) -> Reading:
    error = float(values.std()) / len(values) ** 0.5 / expected
    return Reading(float(values.mean()) / expected, error, z_score(values, expected))


def _share(squares: Tensor, squared_norms: Tensor) -> Reading:
    """Leak share over the T3 corollary's: a ratio of means, its error by linearisation."""
    predicted = float(squared_norms[ROWS:].sum() / squared_norms.sum())
    unseen, total = squares[:, ROWS:].sum((1, 2)), squares.sum((1, 2))
    found = float(unseen.mean() / total.mean())
    error = float((unseen - found * total).std() / total.mean()) / len(total) ** 0.5
    return Reading(found / predicted, error / predicted, z_score(unseen - predicted * total, 0.0))


def simulate(run: Run, variants: dict = VARIANTS, patch_norm=biased_patch_norm) -> Outcome:
    """Every variant at a narrow and a wide head: ratios for the figure; z-scores where the claim is 'exact'."""
    scores, rows = [], []
    for name, variant in variants.items():
        for width in WIDTHS:
            for quantity in QUANTITIES:
                label = ("beyond", name, width, quantity)
                images, widths = _images(run, len(rows) % 10), (width, width)  # the same for every variant
                draws = 2 * run.draws if width < 10 else run.draws // 8  # narrow heads have heavy tails
                maps = signed_maps(variant, images, ROWS, widths, draws, run.generator(*label))
                reading = read_quantity(quantity, variant, maps, images[0].norm(dim=0), widths)
                exact = quantity in variant.exact
                scores += [reading.z] if exact else []
                rows.append(dict(zip(("variant", "width", "quantity"), label[1:], strict=True)) | asdict(reading))
                rows[-1] |= {"exact": exact, "spread": shape_spread(maps, images[0].norm(dim=0))}
        run.tick()
    return Outcome(ZScores.of(scores + _stem_scores(run, patch_norm)), data={"rows": rows})


def _stem_scores(run: Run, patch_norm) -> list[float]:
    """z of |A(u)| for stems with Gaussian biases: tau_F kappa(V) sqrt(|xi|^2 + (sigma / tau_F)^2)."""
    scores = []
    for index in range(8):
        generator, filters = run.generator("beyond", "stem", index), 1 + index % 4
        patch = torch.randn(9, generator=generator, device=run.device)
        weights = 0.7 * torch.randn(run.draws, filters, 9, generator=generator, device=run.device)
        biases = 1.3 * torch.randn(run.draws, filters, generator=generator, device=run.device)
        norms = (weights @ patch + biases).relu().norm(dim=1)
        scores.append(z_score(norms, 0.7 * kappa(filters) * patch_norm(float(patch.norm()), 1.3, 0.7)))
    return scores

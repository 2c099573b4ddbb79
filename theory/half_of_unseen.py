"""T4. Half of all unseen cells are positive, for a fixed class, at initialisation.

Let the channel weights be linear in the weights of the last layer, which is Gaussian and independent of all below:
Grad-CAM, XGrad-CAM, un-normalised Ablation-CAM and LIFT-CAM, at any depth. Then S(u) = w_L . c(u) with c(u) fixed by
the layers below, a centred Gaussian given c(u), and

    P( S(u) > 0 | everything below the last layer ) = 1/2    wherever c(u) != 0.

What c(u) != 0 needs (the claim's first wording asked only for a living channel at u):
* Grad-CAM: a channel alive at u, and no hidden layer entirely dead. The second fails with probability
  1 - prod_{l<L} (1 - 2^-d_l), so for given activations P(S(u) > 0) = 1/2 prod_{l<L} (1 - 2^-d_l).
* XGrad-CAM, Ablation-CAM, LIFT-CAM: also, that channel is alive at some seen cell (else its weight is 0).

Gaussian is more than needed: any law of w_L that is symmetric and gives no mass to hyperplanes will do (`beyond`).
For the predicted class the last layer is no longer independent of what lies below, and 1/2 becomes more: see T5.
"""

import sympy as sp
import torch
from torch import Tensor

from theory import maps
from theory.arithmetic import NUMBERS, SYMBOLS, Arithmetic
from theory.backbones import fixed_case
from theory.geometries import pick_cells
from theory.networks import Head, explain, sample_heads
from theory.proofs import Check, identity
from theory.runs import Outcome, Run
from theory.statistics import ZScores, z_frequency

TITLE = "Half of all unseen cells are positive, for every method linear in the last layer's weights"

LINEAR_METHODS = {
    "Grad-CAM": lambda sample, head: maps.gradcam(sample),
    "XGrad-CAM": lambda sample, head: maps.xgradcam(sample),
    "Ablation-CAM": maps.ablationcam,
    "LIFT-CAM": maps.liftcam,
}


def probability_given_alive(maths: Arithmetic = NUMBERS):
    """P(S(u) > 0 | c(u)) where c(u) != 0: one half."""
    return maths.pi / (2 * maths.pi)


def probability_positive(widths: tuple[int, ...], maths: Arithmetic = NUMBERS):
    """P(S(u) > 0) of Grad-CAM for given activations, alive at u and among the seen: 1/2 prod (1 - 2^-d).

    >>> float(probability_positive(())), float(probability_positive((2, 1)))
    (0.5, 0.1875)
    """
    fair = maths.pi / (2 * maths.pi)  # the chance that a gate is closed; exact in both arithmetics
    probability = fair
    for width in widths:
        probability = probability * (1 - fair**width)
    return probability


def prove(alive=probability_given_alive, positive=probability_positive) -> list[Check]:
    """The Gaussian's half, the chance that a layer is dead, and linearity in the last layer for Grad-CAM."""
    return [
        identity("P(N(0, s^2) > 0) = 1/2, integrated, any s", *_half(alive)),
        identity("P(some unit of a layer is alive) = 1 - 2^-d, counted, times 1/2", *_counted(positive)),
    ]


def _half(alive) -> tuple[sp.Expr, sp.Expr]:
    x, s = sp.symbols("x s", positive=True)
    density = sp.exp(-(x**2) / (2 * s**2)) / (s * sp.sqrt(2 * sp.pi))
    return alive(SYMBOLS), sp.integrate(density, (x, 0, sp.oo))


def _counted(positive) -> tuple[list, list]:
    """Every pattern of fair gates, layer by layer: S is 0 if a layer is all closed, else positive half the time."""
    claimed, derived = [], []
    for widths in ((), (1,), (2,), (3, 2), (2, 4, 1)):
        open_somewhere = sp.Integer(1)
        for width in widths:
            patterns = [sp.binomial(width, k) for k in range(width + 1)]
            open_somewhere *= sp.Rational(sum(patterns[1:]), sum(patterns))
        derived.append(open_somewhere / 2)
        claimed.append(positive(widths, SYMBOLS))
    return claimed, derived


def simulate(run: Run, alive=probability_given_alive, positive=probability_positive) -> Outcome:
    """Random heads on fixed activations; each method at one unseen cell, each from draws of its own."""
    scores, rows = [], []
    for index in range(run.geometries):
        _, activations, head = fixed_case(run, "T4", index)
        cell = _unseen_living_cell(activations, head)
        for name in LINEAR_METHODS if cell else ():
            values = _values(run, index, name, activations, head, cell)
            nonzero, above = int((values != 0).sum()), int((values > 0).sum())
            scores.append(z_frequency(above, nonzero, float(alive())))
            rows.append({"method": name, "positive": above, "nonzero": nonzero, "draws": len(values)})
        if cell:
            values = _values(run, index, "Grad-CAM", activations, head, cell, "unconditional")
            scores.append(z_frequency(int((values > 0).sum()), len(values), float(positive(head.widths))))
        run.tick()
    gap = _nonlinearity(run)
    check = Check("S(u) is linear in the last layer's weights, each method", gap < 1e-10, f"largest gap {gap:.0e}")
    return Outcome(ZScores.of(scores), (check,), {"frequencies": rows})


def _nonlinearity(run: Run) -> float:
    """The largest relative |S(w + w') - S(w) - S(w')| over methods, for heads of three layers."""
    _, activations, head = fixed_case(run, "T4", 0, depth=3)
    batch = activations.double().expand(200, *activations.shape)
    generator, channels = run.generator("T4", "linear"), len(activations)
    weights = head.draw(channels, 1, len(batch), generator, batch.dtype)
    other = torch.randn(weights[-1].shape, generator=generator, dtype=batch.dtype, device=batch.device)
    samples = [explain(batch, head, [*weights[:-1], last]) for last in (weights[-1], other, weights[-1] + other)]
    gaps = []
    for method in LINEAR_METHODS.values():
        first, second, both = (method(sample, head) for sample in samples)
        gaps.append(float((both - first - second).abs().max() / both.abs().max()))
    return max(gaps)


def _unseen_living_cell(activations: Tensor, head: Head) -> tuple[int, int] | None:
    """An unseen cell with a channel that is alive there and among the seen, if the wall leaves one."""
    grid = tuple(activations.shape[1:])
    read = head.read(activations[None]).reshape(len(activations), -1)
    living = (activations[(read != 0).any(1)] != 0).any(0).cpu() & ~head.covered(grid)
    cells = pick_cells(head.covered(grid), living, 1, torch.Generator().manual_seed(0))
    return cells[0] if cells else None


def _values(run: Run, index: int, name: str, activations: Tensor, head: Head, cell, label: str = "") -> Tensor:
    """S(u) of run.draws / 2 random heads, in float64 so that 0 means 0: (M,)."""
    generator = run.generator("T4", index, name, label)
    samples = sample_heads(activations.double(), head, run.draws // 2, generator)
    return torch.cat([LINEAR_METHODS[name](sample, head)[:, *cell] for sample in samples])

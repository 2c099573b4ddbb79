"""The proofs and simulations are real: change a constant or an exponent in a claim and its check fails.

Each mutation names the claim, what was changed, and the altered formula as keywords of `prove` and `simulate`.
"""

from dataclasses import dataclass, field, replace

import pytest
import sympy as sp
import torch

from theory import (
    any_backbone,
    attention_walls,
    before_relu,
    beyond,
    blind_metrics,
    chi,
    exact_expectation,
    families,
    maps,
)
from theory import half_of_unseen as half
from theory import predicted_class as predicted
from theory.arithmetic import NUMBERS
from theory.claims import CLAIMS
from theory.runs import Run

RUN = Run(seed=4, geometries=12, draws=3000, device=torch.device("cpu"))


@dataclass(frozen=True)
class Mutation:
    """An altered claim; an empty dictionary where there is nothing of that kind to alter."""

    claim: str
    change: str
    prove: dict = field(default_factory=dict)
    simulate: dict = field(default_factory=dict)


def both(claim: str, change: str, /, **altered) -> Mutation:
    return Mutation(claim, change, altered, altered)


def t2(factor):
    """T2's formula times a wrong factor of its own arguments."""

    def mutated(norm, n, cells, tau_conv, taus, widths, filters, maths=NUMBERS):
        right = exact_expectation.expected_gradcam(norm, n, cells, tau_conv, taus, widths, filters, maths)
        return right * factor(norm, n, cells, tau_conv, taus, widths, filters, maths)

    return mutated


def t3(factor, formula=any_backbone.expected_gradcam):
    def mutated(norms, n, cells, taus, widths, maths=NUMBERS):
        return any_backbone.expected_gradcam(norms, n, cells, taus, widths, maths) * factor(
            norms, n, cells, taus, widths, maths
        )

    return mutated


def t3_square(factor):
    def mutated(norms, n, cells, taus, widths):
        return any_backbone.second_moment(norms, n, cells, taus, widths) * factor(norms, n, cells, taus, widths)

    return mutated


def wide_limit(widths, maths):
    """sqrt(d/2) in place of kappa(d), product over layers."""
    ratio = maths.pi / maths.pi
    for width in widths:
        ratio = ratio * maths.sqrt(width) / maths.sqrt(2) / maths.kappa(width)
    return ratio


def t6(**changed):
    return both("T6", f"{', '.join(changed)}", formulas=changed)


def t9(name: str, factor):
    """One of T9's moments times a wrong factor of its own arguments."""

    def mutated(*arguments):
        return getattr(attention_walls, name)(*arguments) * factor(*arguments)

    return mutated


def chi_as_coins(norm, share, value, projection, width, channels, taus, widths, maths=NUMBERS):
    """kappa in place of E chi for the two linear layers."""
    return maths.kappa(width) * maths.kappa(channels) / maths.kappa(width, 1) / maths.kappa(channels, 1)


def whole_token(averages, token, inverse=torch.linalg.pinv):
    """Nothing taken away of what is left."""
    return attention_walls.parted(averages, token, inverse)[0], (token.T @ token)[0, 0]


def first_row_alone(averages, token, inverse=torch.linalg.pinv):
    """What else is read does not count."""
    weights, _ = attention_walls.parted(averages, token, inverse)
    _, rest = attention_walls.parted(averages[:1, :], token, inverse)
    return weights, rest


def more_than_unseen(stem, head):
    """Also the first row of seen pixels next to the unseen ones."""
    hidden = blind_metrics.unseen_pixels(stem, head)
    down, up = hidden.roll(1, 0), hidden.roll(-1, 0)
    return hidden | down | up


MUTATIONS = [
    both("T1", "mean over seen cells, not over all", weight=lambda w, cells: sum(w) / len(w)),
    both("T1", "1 % more", weight=lambda w, cells: sum(w) * 101 / (100 * cells)),
    both("T1", "n squared", variance=lambda n, cells, tau: n**2 * tau**2 / cells**2),
    both("T1", "tau not squared", variance=lambda n, cells, tau: n * tau / cells**2),
    both("T2", "n for sqrt(n)", claim=t2(lambda x, n, *rest: rest[-1].sqrt(n))),
    both("T2", "pi for 2 pi", claim=t2(lambda *a: a[-1].sqrt(2))),
    both("T2", "sqrt(V/2) for kappa(V)", claim=t2(lambda *a: wide_limit((a[-2],), a[-1]))),
    both("T2", "patch norm squared", claim=t2(lambda x, *rest: x)),
    both("T2", "tau_F squared", claim=t2(lambda x, n, c, tau, *rest: tau)),
    both("T2", "sqrt(d/2) for kappa(d)", claim=t2(lambda *a: wide_limit(a[5], a[-1]))),
    Mutation("T2", "kappa of one more", prove={"kappa": lambda m: chi.kappa_exact(m + 1)}),
    Mutation("T2", "-9/128 in the series", prove={"series": (sp.Integer(1), sp.Rational(-5, 8), sp.Rational(-9, 128))}),
    both("T2", "nothing lost to empty heads", lost=lambda patch, seen, filters: 0.0),
    both("T3", "n for sqrt(n)", mean=t3(lambda x, n, *rest: rest[-1].sqrt(n))),
    both("T3", "sqrt(d/2) for kappa(d)", mean=t3(lambda *a: wide_limit(a[4], a[5]))),
    both("T3", "last tau twice", mean=t3(lambda *a: a[3][-1])),
    both("T3", "square without its half", square=t3_square(lambda *a: 2)),
    both("T3", "d for d/2", square=t3_square(lambda *a: 2 ** len(a[4]))),
    Mutation("T3", "share of norms", simulate={"share": lambda squares, unseen: any_backbone.leak_share(squares**0.5, unseen)}),
    both("T4", "11/20 for 1/2", alive=lambda maths=NUMBERS: 11 * maths.pi / (20 * maths.pi)),
    both("T4", "dead layers forgotten", positive=lambda widths, maths=NUMBERS: maths.pi / (2 * maths.pi)),
    both("T4", "2^-(d+1)", positive=lambda widths, maths=NUMBERS: half.probability_positive(tuple(d + 1 for d in widths), maths)),
    both("T5", "no square root", phi=lambda t, rho, maths=NUMBERS: maths.normal_cdf(t * rho / (1 - rho**2))),
    both("T5", "rho without its denominator", phi=lambda t, rho, maths=NUMBERS: maths.normal_cdf(t * rho)),
    both("T5", "|P| not squared", mean=lambda y, q, norm, cells: y * q / (cells * norm)),
    Mutation("T5", "n for sqrt(n) in rho", prove={"rho": lambda q, a, p, n, maths=NUMBERS: q / (n * a * p)}),
    Mutation("T5", "|g| squared in t", prove={"t": lambda y, g, p, tau: y / (tau * g**2 * p)}),
    Mutation("T5", "D = 2: arcsin(rho)", prove={"two": lambda rho, maths=NUMBERS: (maths.pi / 2 + maths.arcsin(rho)) / maths.pi}),
    Mutation("T5", "one class fewer", simulate={"predicted": lambda rho, d: predicted.probability_positive_predicted(rho, d - 1)}),
    t6(arc_cosine=lambda phi, maths=NUMBERS: (maths.pi - phi) / (2 * maths.pi)),
    t6(signed_one=lambda phi, maths=NUMBERS: before_relu.arc_cosine(phi, maths)),
    Mutation("T6", "pair, signed", {"formulas": {"signed": lambda r, a, b, maths=NUMBERS: before_relu.dead_pair_signed(r, a, b, maths) * 2}}),
    Mutation("T6", "pair, rectified", {"formulas": {"rectified": lambda r, a, b, maths=NUMBERS: before_relu.dead_pair_rectified(r, a, -b, maths)}}),
    both("T6", "V squared", moment=lambda m, n, t, v, *rest: v * before_relu.second_moment(m, n, t, v, *rest)),
    both("T7", "pi for 2 pi", hires=lambda *a: families.expected_hirescam(*a) * (a[3] if len(a) > 3 else NUMBERS).sqrt(2)),
    both("T7", "Layer-CAM from half", layer=lambda *a: families.expected_layercam(*a) / 2),
    both("T7", "A not squared", variance=lambda a, c, tau: families.variance_linear([x**sp.Rational(1, 2) if isinstance(x, sp.Expr) else x**0.5 for x in a], c, tau)),
    both("T7", "exponent n", leak=lambda n, living: 1 - 1 / 2**n),
    Mutation("T7", "Grad-CAM said to be gated", simulate={"gated": families.GATED | {"Grad-CAM": maps.gradcam}}),
    both("T8", "trapezoid", anywhere=lambda curve: (sum(curve) - (curve[0] + curve[-1]) / 2) / (len(curve) - 1)),
    Mutation("T8", "first and last exchanged", prove={"first": blind_metrics.auc_unseen_last, "last": blind_metrics.auc_unseen_first}),
    Mutation("T8", "seen pixels said to be unseen", {"unseen": (2, 3, 4)}, {"unseen": more_than_unseen}),
    both("T9", "|r| of the whole token", split=whole_token),
    both("T9", "one row read", split=first_row_alone),
    both("T9", "o does not matter", mean=lambda weights, carried: 0 * attention_walls.conditional_mean(weights, carried)),
    both("T9", "|g| not squared", variance=lambda tau, slope, rest: tau**2 * slope ** sp.Rational(1, 2) * rest if isinstance(slope, sp.Expr) else tau**2 * slope**0.5 * rest),
    both("T9", "tau not squared", variance=lambda tau, slope, rest: tau * slope * rest),
    both("T9", "coins for the values", positive=t9("expected_positive", chi_as_coins)),
    both("T9", "share squared", positive=t9("expected_positive", lambda norm, share, *rest: share)),
    both("T9", "C not counted", square=t9("second_moment", lambda *a: sp.Rational(1, a[5]))),
    both("T9", "d for d/2", square=t9("second_moment", lambda *a: 2 ** len(a[7]))),
    both("T9", "|n| not squared", square=t9("second_moment", lambda norm, *rest: 1 / norm)),
    Mutation("T9", "G said to be gated", simulate={"gated": ("A G", "G")}),
    Mutation("beyond", "kappa not thinned", prove={"thinned_kappa": lambda m, alive: chi.kappa_exact(m)}),
    Mutation("beyond", "biases of one sign said to be exact", simulate={"variants": {"none": beyond.Variant(), "one sign": beyond.Variant(bias="constant")}}),
    Mutation("beyond", "norm and bias added unsquared", simulate={"variants": {"none": beyond.Variant()}, "patch_norm": lambda norm, s, t: norm + s / t}),
]  # fmt: skip


def name(mutation: Mutation) -> str:
    return f"{mutation.claim}: {mutation.change}"


@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if m.prove], ids=name)
def test_no_proof_of_a_mutated_claim(mutation):
    checks = CLAIMS[mutation.claim].prove(**mutation.prove)
    assert not all(check.holds for check in checks)


@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if m.simulate], ids=name)
def test_simulation_rejects_a_mutated_claim(mutation):
    outcome = CLAIMS[mutation.claim].simulate(RUN, **mutation.simulate)
    assert not (outcome.z.agree and all(check.holds for check in outcome.checks)), outcome.z.row()


@pytest.mark.parametrize("claim", CLAIMS)
def test_same_budget_accepts_the_claim_itself(claim):
    outcome = CLAIMS[claim].simulate(replace(RUN, seed=5))
    assert outcome.z.agree and all(check.holds for check in outcome.checks), outcome.z.row()


def test_every_claim_has_mutations_of_both_kinds():
    for claim in CLAIMS:
        mine = [m for m in MUTATIONS if m.claim == claim]
        assert any(m.prove for m in mine) and any(m.simulate for m in mine)

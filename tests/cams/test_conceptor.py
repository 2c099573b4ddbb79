"""The algebra of conceptors, identity by identity, and what conceptors do to maps."""

import math

import pytest
import torch

from tests.nets import photos, trained_tiny
from wallcheck.cams import METHODS
from wallcheck.cams.conceptor import algebra as conceptors
from wallcheck.cams.conceptor.algebra import (
    absorbed,
    absorbing,
    and_not,
    best_aperture,
    conceptor,
    conjunction,
    correlation,
    disjunction,
    inverse,
    negation,
    saturated,
    through_and_not,
    through_or,
    widened,
)
from wallcheck.cams.conceptor.methods import by_cell, by_channel, gradcam_evidence, hirescam_evidence
from wallcheck.cams.conceptor.methods import conceptor as conceptor_cam
from wallcheck.evidence import Evidence


def states(seed, n=6, count=20, rank=None):
    drawn = torch.Generator().manual_seed(seed)
    shape = (n, count) if rank is None else (n, rank)
    x = torch.randn(shape, generator=drawn, dtype=torch.float64)
    return x if rank is None else x @ torch.randn(rank, count, generator=drawn, dtype=torch.float64)


EYE = torch.eye(6, dtype=torch.float64)
PAIRS = {
    "regular": (states(1), states(2)),
    "singular": (states(1, rank=4), states(2, rank=3)),
    "one singular": (states(1), states(2, rank=3)),
    "nothing in common": (
        torch.diag(torch.tensor([1.0, 2, 3, 0, 0, 0])),
        torch.diag(torch.tensor([0, 0, 0, 4.0, 5, 6])),
    ),
    "empty": (states(1), torch.zeros(6, 20)),
}


@pytest.fixture(params=PAIRS)
def pair(request):
    one, other = PAIRS[request.param]
    return conceptor(one, 1.5), conceptor(other, 0.7)


def close(a, b, atol=1e-8):
    torch.testing.assert_close(a, b, rtol=1e-6, atol=atol)


def test_singular_values_are_s_over_s_plus_inverse_square_aperture():
    s = torch.linalg.eigvalsh(correlation(states(1)))
    close(torch.linalg.eigvalsh(conceptor(states(1), 3.0)), s / (s + 1 / 9))


def test_conceptor_solves_its_own_problem():
    """C minimises mean |x - C x|^2 + a^-2 |C|_F^2: the gradient -2 (I - C) R + 2 a^-2 C vanishes."""
    c, r = conceptor(states(3), 2.0), correlation(states(3))
    close((EYE - c) @ r, c / 4)


def test_and_or_commute_and_not_twice_is_nothing(pair):
    c, b = pair
    close(conjunction(c, b), conjunction(b, c))
    close(disjunction(c, b), disjunction(b, c))
    close(negation(negation(c)), c)


def test_de_morgan(pair):
    c, b = pair
    close(negation(disjunction(c, b)), conjunction(negation(c), negation(b)))
    close(negation(conjunction(c, b)), disjunction(negation(c), negation(b)))


def test_all_and_nothing_are_neutral(pair):
    c, nothing = pair[0], 0 * EYE
    close(conjunction(c, EYE), c)
    close(conjunction(c, nothing), nothing)
    close(disjunction(c, nothing), c)
    close(disjunction(c, EYE), EYE)


def test_and_is_below_both_and_or_above(pair):
    c, b = pair
    for smaller, larger in ((conjunction(c, b), c), (conjunction(c, b), b), (c, disjunction(c, b))):
        assert torch.linalg.eigvalsh(larger - smaller).min() > -1e-8


def test_or_adds_correlations(pair):
    """R-space: C OR B is the conceptor of Q + P."""
    q, p = absorbed(correlation(states(1)), 1.5), absorbed(correlation(states(2, rank=3)), 0.7)
    close(disjunction(saturated(q), saturated(p)), saturated(q + p))


def test_and_is_the_parallel_sum_of_correlations():
    """R-space: C AND B is the conceptor of (Q^-1 + P^-1)^-1."""
    q, p = absorbed(correlation(states(1)), 1.5), absorbed(correlation(states(2)), 0.7)
    close(
        conjunction(saturated(q), saturated(p)), saturated(torch.linalg.inv(torch.linalg.inv(q) + torch.linalg.inv(p)))
    )


def test_and_agrees_with_the_textbook_formula_where_it_exists():
    c, b = conceptor(states(1), 1.5), conceptor(states(2), 0.7)
    close(conjunction(c, b), torch.linalg.inv(torch.linalg.inv(c) + torch.linalg.inv(b) - EYE))


def test_and_of_singular_conceptors_lives_where_both_do():
    """In 6 dimensions the ranges of rank 4 and 3 meet in 1."""
    c, b = conceptor(states(1, rank=4), 1.5), conceptor(states(2, rank=3), 0.7)
    both = conjunction(c, b)
    assert int((torch.linalg.eigvalsh(both) > 1e-8).sum()) == 1
    close(widened(c, float("inf")) @ both, both)
    close(widened(b, float("inf")) @ both, both)


@pytest.mark.parametrize("names", PAIRS)
def test_and_not_in_closed_form_is_and_of_not(names):
    one, other = (absorbed(correlation(x), 1.2) for x in PAIRS[names])
    close(and_not(one, other), conjunction(saturated(one), negation(saturated(other))))


@pytest.mark.parametrize("names", PAIRS)
def test_and_not_is_applied_without_being_formed(names):
    """From either side, at the aperture the states ask for, and with what is 0 throughout the batch left out."""
    pair = [torch.stack([x, 2 * x]) for x in PAIRS[names]]
    for x, y in (pair, [z.mT for z in pair]):
        f = absorbing(x)
        q, p = ((f * z) @ (f * z).mT for z in (x, y))
        close(f.flatten() ** 2 * x.shape[-1], best_aperture(torch.linalg.eigvalsh(correlation(x))) ** 2)
        rows = torch.randn(2, 3, x.shape[1], generator=torch.Generator().manual_seed(0)).double()
        close(through_and_not(rows, f * x, f * y), rows @ and_not(q, p))


@pytest.mark.parametrize("names", PAIRS)
def test_or_is_applied_without_being_formed(names):
    x, y = (torch.stack([z, 2 * z]).double() for z in PAIRS[names])
    rows = torch.randn(2, 3, x.shape[1], generator=torch.Generator().manual_seed(0)).double()
    close(through_or(rows, x, y), rows @ disjunction(saturated(x @ x.mT), saturated(y @ y.mT)))


def test_and_not_of_a_batch_on_several_threads():
    """Where torch's own batched LU fails: 196 cells, two threads."""
    x, y = (torch.randn(3, 196, 200, generator=torch.Generator().manual_seed(s)).double() for s in (1, 2))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        formed = and_not(x @ x.mT, y @ y.mT)
        rows = torch.ones(3, 1, 196).double()
        close(through_and_not(rows, x, y), rows @ formed)
    finally:
        torch.set_num_threads(threads)
    close(formed[1], and_not((x @ x.mT)[1], (y @ y.mT)[1]))


def test_and_not_through_states_that_are_all_zero_is_zero():
    nothing = torch.zeros(2, 5, 3).double()
    rows = torch.ones(2, 1, 5).double()
    assert torch.count_nonzero(through_and_not(rows, absorbing(nothing) * nothing, torch.ones_like(nothing))) == 0


def test_and_not_keeps_zero_rows_exactly():
    q = correlation(states(1))
    q[4:], q[:, 4:] = 0, 0
    out = and_not(q, correlation(states(2)))
    assert torch.count_nonzero(out[4:]) == 0
    assert torch.count_nonzero(out[:, 4:]) == 0


def test_aperture_multiplies():
    close(widened(conceptor(states(1), 0.5), 3.0), conceptor(states(1), 1.5))


def test_limits_of_the_aperture():
    x = states(1, rank=4)
    c = conceptor(x, 1.0)
    projector = x @ torch.linalg.pinv(x)
    close(widened(c, float("inf")), projector)
    close(conceptor(x, 1e4), projector, atol=1e-6)
    close(widened(c, 0), 0 * EYE)
    close(widened(projector, 0), projector)
    assert conceptor(x, 1e-6).abs().max() < 1e-9


def test_best_aperture_is_where_the_norm_grows_fastest():
    x = states(4)
    strengths = torch.linalg.eigvalsh(correlation(x))
    best = best_aperture(strengths)

    def growth(a):
        wide, narrow = conceptor(x, a * 1.0001), conceptor(x, a / 1.0001)
        return (wide.square().sum() - narrow.square().sum()) / (2 * math.log(1.0001))

    others = [growth(best * f) for f in torch.logspace(-1, 1, 41, dtype=torch.float64)]
    assert growth(best) >= max(others) - 1e-6
    close(growth(best), (4 * (lambda c: c**2 * (1 - c))(strengths / (strengths + best**-2))).sum(), atol=1e-5)


def test_best_aperture_scales_inversely_with_the_states_and_takes_batches():
    strengths = torch.stack([torch.linalg.eigvalsh(correlation(states(seed))) for seed in (1, 2)])
    close(best_aperture(9 * strengths), best_aperture(strengths) / 3)
    close(best_aperture(strengths[1]), best_aperture(strengths)[1])
    assert best_aperture(torch.zeros(3)) == 1


def test_inverse_of_a_projector_is_itself():
    projector = widened(conceptor(states(1, rank=2), 1.0), float("inf"))
    close(inverse(projector), projector)
    assert conceptors.NULL < 1e-6


# -- Conceptor-CAM ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evidence():
    return Evidence(trained_tiny(), photos(6, seed=5)[0])


def test_conceptors_of_gated_evidence_stay_blind(evidence):
    """HiResCAM has no evidence on unseen cells, so no state there: neither relation can reach them."""
    maps = METHODS["conceptor_hirescam"](evidence)
    assert torch.count_nonzero(maps[:, evidence.unseen]) == 0
    assert torch.count_nonzero(maps[:, ~evidence.unseen]) > 0


def test_relations_of_activations_carry_gated_evidence_across_the_wall(evidence):
    """The same base: only the intra-channel conceptor, learnt on whole channels, spreads it; the inter-channel one cannot."""
    only_inter = conceptor_cam(hirescam_evidence, intra=False, states=by_channel)(evidence)
    only_intra = conceptor_cam(hirescam_evidence, inter=False, states=by_channel)(evidence)
    assert torch.count_nonzero(only_inter[:, evidence.unseen]) == 0
    assert (only_intra[:, evidence.unseen] > 0).any(1).all()


def test_without_conceptors_the_map_is_the_base_map(evidence):
    for base in ("gradcam", "layercam", "scorecam"):
        plain = conceptor_cam(METHODS[base], inter=False, intra=False)(evidence)
        torch.testing.assert_close(plain, METHODS[base](evidence), rtol=1e-4, atol=1e-5)


def test_any_method_can_be_the_base(evidence):
    for base in ("layercam", "ablationcam", "lafam"):
        maps = conceptor_cam(METHODS[base])(evidence)
        assert maps.isfinite().all() and torch.count_nonzero(maps) > 0


def test_channel_weights_leave_nothing_to_subtract_between_channels(evidence):
    """w_k A_k puts each channel on one side, so C AND NOT B is C."""
    positive, negative = (part.flatten(2).double() for part in by_cell(evidence, gradcam_evidence(evidence)))
    scale = absorbing(positive)

    def filters(states, opposed):
        rows = torch.eye(states.shape[1]).double().expand(len(states), -1, -1)
        return through_and_not(rows, scale * states, scale * opposed)

    close(filters(positive, negative), filters(positive, 0 * negative))
    assert (filters(positive.mT, negative.mT) - filters(positive.mT, 0 * negative.mT)).abs().max() > 1e-3


def test_either_side_counts_for_or(evidence):
    """Turning the evidence over turns the map over, which no AND NOT would."""

    def side(sign):
        return conceptor_cam(lambda ev: sign * gradcam_evidence(ev), intra=False, combined=through_or)(evidence)

    def alike(one, other):
        return torch.nn.functional.cosine_similarity(one.flatten(1), other.flatten(1))

    assert (alike(side(1), -side(-1)) > 0.5).all()
    assert torch.count_nonzero(conceptor_cam(lambda ev: -ev.activations, combined=through_or)(evidence)) > 0


def test_opposition_alone_gives_the_empty_map(evidence):
    against = conceptor_cam(lambda ev: -ev.activations)(evidence)
    assert torch.count_nonzero(against) == 0

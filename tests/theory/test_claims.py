"""Each claim of the theory: its identities hold exactly, and its simulations' z-scores look standard normal."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from theory.claims import CLAIMS, judge
from theory.networks import Head
from theory.runs import QUICK, Run

RUN = replace(QUICK, seed=11, draws=4000, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def verdicts() -> dict:
    return {}


def verdict_on(claim: str, verdicts: dict):
    if claim not in verdicts:
        verdicts[claim] = judge(claim, RUN)
    return verdicts[claim]


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_identity_is_proved(claim, verdicts):
    broken = [check for check in verdict_on(claim, verdicts).proofs if not check.holds]
    assert not broken


@pytest.mark.parametrize("claim", CLAIMS)
def test_simulation_agrees_with_theory(claim, verdicts):
    verdict = verdict_on(claim, verdicts)
    assert all(check.holds for check in verdict.outcome.checks), verdict.outcome.checks
    assert verdict.outcome.z.agree, verdict.outcome.z.row()


def test_exact_expectation_covers_many_geometries(verdicts):
    geometries = [RUN.geometry("T2", index) for index in range(RUN.geometries)]
    heads, stems = [g.head for g in geometries], [g.stem for g in geometries]
    assert len(geometries) >= 30
    assert {1, 2, 3} <= {head.pool for head in heads}
    assert {head.depth for head in heads} == {1, 2, 3, 4}
    assert {1, 2, 8} <= {stem.filters for stem in stems}
    assert {1, 2} == {stem.stride for stem in stems}
    assert {0, 1} == {stem.padding for stem in stems}
    assert min(width for head in heads for width in head.widths) == 2
    assert any(s.grid[0] % h.pool or s.grid[1] % h.pool for s, h in zip(stems, heads, strict=True)), "no uneven border"
    assert any(head.seen.all() for head in heads)
    assert any(not (head.seen.any(0).all() or head.seen.any(1).all()) for head in heads), "no irregular wall"


def test_corrections_for_empty_heads_are_not_negligible(verdicts):
    lost = [cell["lost"] for cell in verdict_on("T2", verdicts).outcome.data["cells"]]
    assert max(lost) > 0.3
    assert np.mean(lost) > 0.01


def test_equal_seeds_give_equal_numbers_and_chance_stays_local():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    small = replace(RUN, geometries=4, draws=400)
    first, second = (CLAIMS["T4"].simulate(small).z.values for _ in range(2))
    assert np.array_equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not np.array_equal(first, CLAIMS["T4"].simulate(replace(small, seed=12)).z.values)


def test_streams_depend_on_their_label_alone():
    draw = torch.rand(3, generator=Run(device=torch.device("cpu")).generator("T2", 5))
    assert torch.equal(draw, torch.rand(3, generator=Run(draws=7, device=torch.device("cpu")).generator("T2", 5)))
    assert not torch.equal(draw, torch.rand(3, generator=Run(device=torch.device("cpu")).generator("T2", 6)))


def test_bad_heads_and_claims_say_what_is_wrong():
    with pytest.raises(ValueError, match="at least one pooled cell"):
        Head(torch.zeros(2, 2, dtype=torch.bool), taus=(1.0,))
    with pytest.raises(ValueError, match="1 hidden widths need 2 taus"):
        Head(torch.ones(2, 2, dtype=torch.bool), taus=(1.0,), widths=(3,))
    with pytest.raises(LookupError, match="no claim named 'T99'"):
        judge("T99", RUN)

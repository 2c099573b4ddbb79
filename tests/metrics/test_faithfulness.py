"""Faithfulness metrics by hand, on a net whose logit counts pixels, and what they cannot notice (claim T8)."""

import math

import pytest
import torch
from torch import nn

from tests.nets import photos, tiny, trained_tiny
from wallcheck import measuring
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.geometry import Wall
from wallcheck.masking import asked, brightest_first, chances
from wallcheck.metrics import ASKED, CONSISTENCY, FAITHFULNESS, TRUTH
from wallcheck.models import BlindNet
from wallcheck.numerics import probabilities

NAN = math.nan
BY_SHOWING = [name for name, metric in FAITHFULNESS.items() if metric.asks in ("kept", "removed")]
BY_RANK = [name for name, metric in FAITHFULNESS.items() if metric.asks in ("deleted", "inserted")]
IMPUTED = ["road_most", "road_least"]

BY_HAND = {
    # (Y, after): {metric: value}
    (0.8, 0.2): dict(average_drop=3 / 4, average_increase=0.0, average_gain=0.0, drop_in_deletion=3 / 4),
    (0.5, 0.9): dict(average_drop=0.0, average_increase=1.0, average_gain=4 / 5, drop_in_deletion=-4 / 5),
    (0.5, 0.5): dict(average_drop=0.0, average_increase=0.0, average_gain=0.0, drop_in_deletion=0.0),
    (1.0, 0.0): dict(average_drop=1.0, average_increase=0.0, average_gain=NAN, drop_in_deletion=1.0),
    (0.0, 0.5): dict(average_drop=NAN, average_increase=1.0, average_gain=1 / 2, drop_in_deletion=NAN),
    (0.5, NAN): dict(average_drop=NAN, average_increase=NAN, average_gain=NAN, drop_in_deletion=NAN),
}
CURVES = {
    (0.0, 0.0, 0.0): 0.0,
    (1.0, 1.0, 1.0): 1.0,
    (1.0, 0.0, 0.0): 1 / 4,  # half a step
    (0.0, 0.5, 1.0, 1.0, 1.0): (0.25 + 0.75 + 1 + 1) / 4,
    (0.5, NAN): NAN,
}


def value(name: str, before: float, after) -> float:
    before, after = (torch.tensor([given], dtype=torch.float64) for given in (before, after))
    return FAITHFULNESS[name](before, after).item()


@pytest.mark.parametrize("name", BY_SHOWING)
@pytest.mark.parametrize("pair", BY_HAND)
def test_by_hand(pair, name):
    assert value(name, *pair) == pytest.approx(BY_HAND[pair][name], rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", IMPUTED)
@pytest.mark.parametrize(
    ("curve", "wanted"), [((0.5, 0.5), 0.0), ((0.0, 0.0), -0.5), ((0.4, 0.9), 0.15), ((NAN, 1), NAN)]
)
def test_road_by_hand(curve, wanted, name):
    assert value(name, 0.5, curve) == pytest.approx(wanted, rel=1e-12, nan_ok=True)


# (what the map says of three squares, what the logit loses): best scale, what is left of the whole
SQUARES = {
    ((1.0, 2.0, 0.0), (3.0, 6.0, 0.0)): 0.0,  # scale 3
    ((1.0, 0.0, 0.0), (3.0, 4.0, 0.0)): 16 / 25,  # scale 3: 4 is not told
    ((1.0, 1.0, 1.0), (1.0, -1.0, 0.0)): 1.0,  # scale 0
    ((1.0, 2.0, 0.0), (-3.0, -6.0, 0.0)): 1.0,  # upside down: no scale above 0 helps
    ((0.0, 0.0, 0.0), (1.0, 2.0, 3.0)): 1.0,
    ((1.0, 2.0, 3.0), (0.0, 0.0, 0.0)): NAN,  # nothing is lost: nothing to be told
    ((NAN, NAN, NAN), (1.0, 2.0, 3.0)): NAN,
}


@pytest.mark.parametrize("pair", SQUARES)
def test_infidelity_by_hand(pair):
    assert value("infidelity", 0.5, pair) == pytest.approx(SQUARES[pair], rel=1e-12, abs=1e-15, nan_ok=True)


@pytest.mark.parametrize("name", BY_RANK)
@pytest.mark.parametrize("curve", CURVES)
def test_areas_by_hand(curve, name):
    assert value(name, 0.5, curve) == pytest.approx(CURVES[curve], rel=1e-12, nan_ok=True)


def test_every_metric_is_done_by_hand_and_knows_its_direction():
    assert {*BY_SHOWING, *BY_RANK, *IMPUTED, "infidelity"} == set(FAITHFULNESS)
    assert {metric.asks for metric in (*FAITHFULNESS.values(), *CONSISTENCY.values(), *TRUTH.values())} == set(ASKED)
    assert all(set(found) == set(BY_SHOWING) for found in BY_HAND.values())
    assert {name for name in FAITHFULNESS if FAITHFULNESS[name].better == "low"} == {
        "average_drop", "deletion", "road_most", "infidelity",
    }  # fmt: skip


@pytest.mark.parametrize("name", FAITHFULNESS)
def test_what_is_no_probability_is_refused(name):
    if name == "infidelity":
        with pytest.raises(ValueError, match=r"after, expected \(B,\) and \(B, 2, N\); wallcheck.masking makes"):
            FAITHFULNESS[name](torch.ones(2), torch.ones(2, 3))
        return
    after = torch.full((2,) if name in BY_SHOWING else (2, 3), 1.5)
    with pytest.raises(ValueError, match=f"{name}: probabilities run from 1.5 to 1.5; give what wallcheck.numerics"):
        FAITHFULNESS[name](torch.ones(2), after)
    with pytest.raises(ValueError, match=rf"{name}: probabilities are \(3,\) before and .* after, expected \(B,\) and"):
        FAITHFULNESS[name](torch.ones(3), after)


# -- a net that counts ----------------------------------------------------------------------------


@pytest.fixture
def counting() -> Evidence:
    """4 x 4 pixels of ones, the lower two rows unseen; p of class 0 is the sigmoid of how many seen pixels are left."""
    features, head = (
        nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(8, 2)),
    )
    features[0].weight.data.fill_(1 / 3)
    head[1].weight.data.copy_(torch.tensor([[1.0], [0.0]]).expand(2, 8))
    head[1].bias.data.zero_()
    net = BlindNet(features, head, Wall.behind("bottom", (4, 4), 2), (4, 4))
    return Evidence(net.eval(), torch.ones(1, 3, 4, 4))


def left(*counts: int) -> torch.Tensor:
    """(1, T): probabilities while so many seen pixels are left."""
    return torch.tensor(counts, dtype=torch.float64).sigmoid()[None]


def test_curves_of_the_counting_net(counting):
    down = torch.arange(16.0, 0, -1).view(1, 4, 4) / 16  # seen pixels first, row by row
    found, back = asked(counting, down, steps=16), asked(counting, down.flip(1), steps=16)
    close = dict(rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found["deleted"], left(*range(8, 0, -1), *[0] * 9), **close)
    torch.testing.assert_close(found["inserted"], left(*range(8), *[8] * 9), **close)
    torch.testing.assert_close(back["deleted"], left(*[8] * 8, *range(8, -1, -1)), **close)
    torch.testing.assert_close(back["inserted"], left(*[0] * 8, *range(9)), **close)
    torch.testing.assert_close(asked(counting, down, steps=4)["deleted"], left(8, 4, 0, 0, 0), **close)


def test_what_is_kept_and_removed_of_the_counting_net(counting):
    quarter = torch.zeros(1, 4, 4)
    quarter[:, 0] = 1  # four of the eight seen pixels
    found = asked(counting, quarter)
    torch.testing.assert_close(found["kept"], left(4)[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(found["removed"], left(4)[0], rtol=1e-6, atol=0)
    drop = FAITHFULNESS["average_drop"](left(8)[0], found["kept"])
    torch.testing.assert_close(drop, 1 - left(4)[0] / left(8)[0], rtol=1e-6, atol=1e-7)


# -- order ----------------------------------------------------------------------------------------


def test_steps_nest_and_ties_fall_at_random_but_the_same_for_all(counting):
    evidence = Evidence(tiny(), photos(3)[0])
    maps = torch.zeros(3, 24, 24)
    maps[:, 20:] = 1  # a sixth of the image: the first four steps of 24
    first = brightest_first(evidence, maps, 24)
    assert first.sum((2, 3)).tolist() == [[24 * step for step in range(25)]] * 3
    assert (first[:, 1:] >= first[:, :-1]).all()
    assert torch.equal(first[:, 4], maps.bool())
    assert torch.equal(first[0], first[2])
    seen = first[0, 14, :10].float().mean()  # half of the zeros: as many in the upper as in the lower rows
    assert 0.4 < seen < 0.6


# -- T8 -------------------------------------------------------------------------------------------


@pytest.fixture(params=["untrained", "trained"])
def evidence(request) -> Evidence:
    return Evidence(tiny() if request.param == "untrained" else trained_tiny(), photos(6, seed=5)[0])


@pytest.fixture
def two_maps(evidence) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps in [0, 1] that agree on every seen pixel: the first is silent on unseen ones, the second as loud as can be."""
    silent = torch.rand(evidence.images[:, 0].shape, generator=torch.Generator().manual_seed(2))
    unseen = torch.from_numpy(evidence.regions.unseen.copy())
    return silent.masked_fill(unseen, 0), silent.masked_fill(unseen, 1)


def scores(evidence: Evidence, shown: torch.Tensor) -> dict[str, torch.Tensor]:
    before = evidence.of_target(probabilities(evidence.logits.double()))
    found = asked(evidence, shown)
    return {name: metric(before, found[metric.asks]) for name, metric in FAITHFULNESS.items()}


def test_drop_increase_and_gain_cannot_notice_a_leak(evidence, two_maps):
    silent, loud = (scores(evidence, shown) for shown in two_maps)
    for name in BY_SHOWING:
        assert torch.equal(silent[name], loud[name]), name


def test_maps_in_double_precision_mask_as_any_others_do(evidence, two_maps):
    """Some methods give double maps on a float32 net: powers of slopes have room in nothing less."""
    one, other = (scores(evidence, shown) for shown in (two_maps[1], two_maps[1].double()))
    for name in one:
        assert torch.equal(one[name], other[name]), name
    double = METHODS["squaregrad"]
    assert double(evidence).dtype == torch.float64
    found = measuring.scores(evidence, double, [*FAITHFULNESS, *CONSISTENCY])
    assert all(torch.isfinite(values).any() for values in found.values())


def test_it_is_the_net_that_cannot_notice_not_the_short_cut(evidence, two_maps):
    """The same images through all of the features, unseen pixels included."""
    silent, loud = (
        evidence.net.logits_from(evidence.net.activations(evidence.images * shown[:, None])) for shown in two_maps
    )
    assert torch.equal(silent, loud)


def test_deletion_and_insertion_notice_a_leak(evidence, two_maps):
    silent, loud = (asked(evidence, shown) for shown in two_maps)
    for name in ("deleted", "inserted"):
        assert (silent[name] != loud[name]).any(1).all(), name
    share = evidence.regions.unseen.mean()  # unseen pixels come first: nothing happens in these steps
    waiting = 1 + int(24 * share)
    for name in ("deleted", "inserted"):
        assert (loud[name][:, :waiting] == loud[name][:, :1]).all()
        assert (silent[name][:, 25 - waiting :] == silent[name][:, -1:]).all()


def test_stretching_the_map_again_is_what_they_can_notice(evidence, two_maps):
    """The condition of T8: with a leak four times as bright as the rest and its own normalisation, they move."""
    silent, loud = two_maps
    rescaled = torch.where(silent == loud, silent / 4, loud)
    assert not torch.equal(scores(evidence, silent)["average_drop"], scores(evidence, rescaled)["average_drop"])


@pytest.mark.parametrize("where", ["everywhere", "on all that is seen"])
def test_a_map_that_keeps_all_that_is_seen_drops_exactly_nothing(evidence, where):
    shown = torch.ones_like(evidence.images[:, 0])
    if where != "everywhere":
        shown[:, torch.from_numpy(evidence.regions.unseen.copy())] = 0
    before = chances(evidence, torch.ones_like(shown)[:, None])[:, 0]
    found = asked(evidence, shown)
    assert torch.equal(found["kept"], before)
    nothing = chances(evidence, torch.zeros_like(shown)[:, None])[:, 0]
    assert torch.equal(found["removed"], nothing)
    for name, wanted in (("average_drop", 0.0), ("average_increase", 0.0), ("average_gain", 0.0)):
        assert (FAITHFULNESS[name](before, found["kept"]) == wanted).all(), name
    assert torch.equal(FAITHFULNESS["drop_in_deletion"](before, nothing), (before - nothing) / before)


def test_an_empty_map_is_counted_apart(evidence):
    shown = torch.rand(evidence.images[:, 0].shape, generator=torch.Generator().manual_seed(3))
    shown[2] = 0
    for name, values in scores(evidence, shown).items():
        assert values.isnan().tolist() == [image == 2 for image in range(6)], name


def test_batch_is_its_images_one_by_one(evidence, two_maps):
    whole = scores(evidence, two_maps[1])
    for image in range(2):
        alone = Evidence(evidence.net, evidence.images[[image]])
        for name, found in scores(alone, two_maps[1][[image]]).items():
            torch.testing.assert_close(found[0], whole[name][image], rtol=1e-4, atol=1e-5)


def test_maps_outside_their_range_are_refused(evidence):
    with pytest.raises(ValueError, match=r"maps are \(6, 24, 24\) from -1 to 2, expected \(6, 24, 24\) from 0 to 1"):
        asked(evidence, torch.linspace(-1, 2, 6 * 24 * 24).view(6, 24, 24))

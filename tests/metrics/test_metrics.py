"""Leakage metrics on maps small enough to do by hand, and what they say of empty, constant and tied maps."""

import math

import pytest
import torch

from wallcheck.metrics import LEAKAGE

NAN = math.nan

# Four rows of two: seen, seen, halo, unseen.
UNSEEN = torch.tensor([[0, 0], [0, 0], [0, 0], [1, 1]], dtype=torch.bool)
COUNTED = torch.tensor([[1, 1], [1, 1], [0, 0], [1, 1]], dtype=torch.bool)

BY_HAND = {
    # name: rows, {metric: value}
    "mixed": (
        [[4.0, 0.0], [1.0, -2.0], [9.0, 9.0], [3.0, -6.0]],
        {
            # norms of everything, halo and signs included: 45 over 16 + 1 + 4 + 81 + 81 + 9 + 36 = 228
            "leak_l2": math.sqrt(45 / 228),
            "leak_mass": 3 / 8,  # 3 of 4 + 1 + 3; negative values and the halo do not count
            "leak_peak": 3 / 4,
            "leak_area": 1 / 2,  # 3 is above 4 / 2, -6 is not
            "leak_pointing": 0.0,
            "leak_any": 1.0,
        },
    ),
    "clean": (
        [[4.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
        dict(leak_l2=0.0, leak_mass=0.0, leak_peak=0.0, leak_area=0.0, leak_pointing=0.0, leak_any=0.0),
    ),
    "halo alone is neither clean nor leaking": (
        [[0.0, 0.0], [0.0, 0.0], [5.0, 5.0], [0.0, 0.0]],
        dict(leak_l2=0.0, leak_mass=NAN, leak_peak=NAN, leak_area=NAN, leak_pointing=NAN, leak_any=NAN),
    ),
    "empty": ([[0.0, 0.0]] * 4, dict.fromkeys(LEAKAGE, NAN)),
    "negative everywhere": (
        [[-1.0, -1.0]] * 4,
        dict(leak_l2=math.sqrt(2 / 8), leak_mass=NAN, leak_peak=NAN, leak_area=NAN, leak_pointing=NAN, leak_any=NAN),
    ),
    "constant": (
        [[0.3, 0.3]] * 4,
        dict(leak_l2=math.sqrt(2 / 8), leak_mass=2 / 6, leak_peak=1.0, leak_area=1.0, leak_pointing=2 / 6, leak_any=1.0),
    ),
    "unseen alone": (
        [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [2.0, 1.0]],
        # 1 is not above half of 2: the threshold itself is not bright
        dict(leak_l2=1.0, leak_mass=1.0, leak_peak=1.0, leak_area=0.5, leak_pointing=1.0, leak_any=1.0),
    ),
    "three equal maxima, one of them unseen": (
        [[7.0, 7.0], [0.0, 0.0], [0.0, 0.0], [7.0, 0.0]],
        dict(leak_l2=math.sqrt(1 / 3), leak_mass=1 / 3, leak_peak=1.0, leak_area=0.5, leak_pointing=1 / 3, leak_any=1.0),
    ),
    "a trace": (
        [[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1e-30, 0.0]],
        dict(leak_l2=1e-30, leak_mass=1e-30, leak_peak=1e-30, leak_area=0.0, leak_pointing=0.0, leak_any=1.0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAKAGE)
@pytest.mark.parametrize("case", BY_HAND)
def test_by_hand(case, name):
    rows, expected = BY_HAND[case]
    value = LEAKAGE[name](torch.tensor([rows], dtype=torch.float64), UNSEEN, COUNTED).item()
    assert value == pytest.approx(expected[name], rel=1e-12, abs=0, nan_ok=True)


def test_every_metric_is_done_by_hand_somewhere():
    assert all(set(expected) == set(LEAKAGE) for _, expected in BY_HAND.values())


@pytest.fixture
def maps():
    return torch.randn(16, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", LEAKAGE)
def test_batch_is_its_maps_one_by_one(name, maps):
    whole = LEAKAGE[name](maps, UNSEEN, COUNTED)
    assert torch.equal(whole, torch.cat([LEAKAGE[name](one[None], UNSEEN, COUNTED) for one in maps]))


@pytest.mark.parametrize("name", LEAKAGE)
def test_brightness_does_not_matter(name, maps):
    """Powers of two scale without rounding."""
    before, after = (LEAKAGE[name](m, UNSEEN, COUNTED) for m in (maps, maps * 2.0**-20))
    torch.testing.assert_close(after, before, rtol=1e-12, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", LEAKAGE)
def test_values_stay_between_their_bounds(name, maps):
    values = LEAKAGE[name](maps, UNSEEN, COUNTED)
    low, high = LEAKAGE[name].bounds
    assert ((values >= low) & (values <= high)).all()
    assert LEAKAGE[name].better == "low"


@pytest.mark.parametrize("name", sorted(set(LEAKAGE) - {"leak_l2"}))
def test_the_halo_is_left_out(name, maps):
    other = maps.clone()
    other[:, 2] = 1e6
    assert torch.equal(LEAKAGE[name](maps, UNSEEN, COUNTED), LEAKAGE[name](other, UNSEEN, COUNTED))


def test_the_halo_is_part_of_the_papers_whole():
    maps = torch.tensor([[[3.0, 0], [0, 0], [0, 0], [4, 0]]])
    with_halo = maps.clone()
    with_halo[:, 2, 0] = 12  # 3, 4, 12, 13
    l2 = LEAKAGE["leak_l2"]
    assert l2(maps, UNSEEN, COUNTED).item() == pytest.approx(4 / 5)
    assert l2(with_halo, UNSEEN, COUNTED).item() == pytest.approx(4 / 13)


@pytest.mark.parametrize("name", LEAKAGE)
def test_regions_of_another_grid_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name}: maps have \(5, 2\) positions, a region \(4, 2\); use the regions"):
        LEAKAGE[name](torch.zeros(1, 5, 2), UNSEEN, COUNTED)


def test_without_a_wall_nothing_leaks():
    nothing = torch.zeros(4, 2, dtype=torch.bool)
    for metric in LEAKAGE.values():
        assert metric(torch.ones(1, 4, 2), nothing, ~nothing).item() == 0, metric.name

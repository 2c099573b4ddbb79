"""Localisation metrics on maps small enough to do by hand."""

import math

import pytest
import torch

from wallcheck.metrics import LOCALISATION
from wallcheck.metrics.localisation import box

NAN = math.nan

# An L of three positions in a map of 4 x 4; its box is 2 x 2.
OBJECT = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)

BY_HAND = {
    "perfect": (OBJECT.float().tolist(), dict(energy_inside=1.0, pointing=1.0, mask_iou=1.0, box_iou=1.0)),
    "constant": (
        [[0.3] * 4] * 4,
        dict(energy_inside=3 / 16, pointing=3 / 16, mask_iou=3 / 16, box_iou=4 / 16),
    ),
    "the box instead of the object": (
        [[2, 2, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        dict(energy_inside=3 / 4, pointing=3 / 4, mask_iou=3 / 4, box_iou=1.0),
    ),
    "elsewhere": (
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 4, 0], [0, 0, 0, 4]],
        dict(energy_inside=0.0, pointing=0.0, mask_iou=0.0, box_iou=0.0),
    ),
    "on the object, and a second spot below": (
        # 6 + 4 of 6 + 4 + 2 + 8; the maximum is below; bright (above 4): one of the object, one below
        [[6, 0, 0, 0], [4, 0, 0, -9], [2, 0, 0, 0], [0, 0, 8, 0]],
        dict(energy_inside=1 / 2, pointing=0.0, mask_iou=1 / 4, box_iou=4 / 12),
    ),
    "half the maximum is not bright": (
        [[2, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]],
        dict(energy_inside=4 / 5, pointing=1.0, mask_iou=1 / 3, box_iou=1 / 4),
    ),
    "empty": ([[0.0] * 4] * 4, dict.fromkeys(LOCALISATION, NAN)),
    "nothing positive": ([[-1.0, -2.0, -1.0, -1.0]] * 4, dict.fromkeys(LOCALISATION, NAN)),
}  # fmt: skip


@pytest.mark.parametrize("name", LOCALISATION)
@pytest.mark.parametrize("case", BY_HAND)
def test_by_hand(case, name):
    rows, expected = BY_HAND[case]
    value = LOCALISATION[name](torch.tensor([rows], dtype=torch.float64), OBJECT[None]).item()
    assert value == pytest.approx(expected[name], rel=1e-12, abs=0, nan_ok=True)


def test_every_metric_is_done_by_hand_everywhere():
    assert all(set(expected) == set(LOCALISATION) for _, expected in BY_HAND.values())


@pytest.fixture
def drawn():
    draw = torch.Generator().manual_seed(0)
    maps = torch.randn(16, 6, 5, generator=draw, dtype=torch.float64)
    return maps, torch.rand(16, 6, 5, generator=draw) < 0.3


@pytest.mark.parametrize("name", LOCALISATION)
def test_batch_is_its_maps_one_by_one_and_brightness_does_not_matter(drawn, name):
    whole = LOCALISATION[name](*drawn)
    alone = [LOCALISATION[name](one[None], inside[None]) for one, inside in zip(*drawn, strict=True)]
    assert torch.equal(whole, torch.cat(alone))
    torch.testing.assert_close(LOCALISATION[name](drawn[0] * 2.0**-20, drawn[1]), whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", LOCALISATION)
def test_values_stay_between_their_bounds(drawn, name):
    values, (low, high) = LOCALISATION[name](*drawn), LOCALISATION[name].bounds
    assert ((values >= low) & (values <= high)).all()
    assert LOCALISATION[name].better == "high"


@pytest.mark.parametrize("name", LOCALISATION)
def test_an_image_without_the_object_is_not_scored(name):
    assert LOCALISATION[name](torch.ones(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)).isnan().all()


def test_a_box_reaches_from_first_to_last(drawn):
    for region, found in zip(drawn[1], box(drawn[1]), strict=True):
        rows, columns = region.any(1).nonzero()[:, 0], region.any(0).nonzero()[:, 0]
        expected = torch.zeros_like(region)
        expected[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        assert torch.equal(found, expected)


@pytest.mark.parametrize("inside", [torch.zeros(1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)])
@pytest.mark.parametrize("name", LOCALISATION)
def test_masks_that_do_not_fit_are_refused(name, inside):
    with pytest.raises(
        ValueError, match=rf"{name}: maps are \(1, 4, 4\), object masks torch.*one Boolean mask per map"
    ):
        LOCALISATION[name](torch.zeros(1, 4, 4), inside)

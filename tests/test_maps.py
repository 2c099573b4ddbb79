"""Every alteration of a raw map by itself, and what each of them adds to leakage."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam.base_cam import BaseCAM
from torch import nn

from wallcheck.maps import VIEWS, displayed, rectify, stretched, upsample, views_of
from wallcheck.numerics import ratio, unit_range, weighted_sum

CELLS, SIZE = (12, 12), (96, 96)
UNSEEN = torch.zeros(CELLS, dtype=torch.bool)
UNSEEN[4:] = True


@pytest.fixture
def raw():
    return torch.randn(8, *CELLS, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def blind(raw):
    """Signed on seen cells, zero on unseen ones."""
    return raw.masked_fill(UNSEEN, 0)


def view(name, on, raw):
    (one,) = [v for v in VIEWS if (v.name, v.on) == (name, on)]
    return one.alter(raw, UNSEEN, SIZE)


def test_upsampling_by_hand():
    """Twice as large, half-pixel centres: new positions lie 1/4 and 3/4 of the way between old ones."""
    assert upsample(torch.tensor([[[0.0, 4.0]]]), (1, 4)).tolist() == [[[0.0, 1.0, 3.0, 4.0]]]


def test_a_map_of_the_images_size_is_left_alone(raw):
    assert upsample(raw, CELLS) is raw


def test_upsampling_keeps_a_constant_and_is_linear(raw):
    assert torch.equal(upsample(torch.full((1, *CELLS), 0.7), SIZE), torch.full((1, *SIZE), 0.7))
    torch.testing.assert_close(upsample(2 * raw - 1, SIZE), 2 * upsample(raw, SIZE) - 1, rtol=1e-5, atol=1e-6)


def test_unit_range_reaches_both_ends_and_flattens_a_constant(raw):
    ranged = unit_range(raw)
    assert torch.equal(ranged.amin((1, 2)), torch.zeros(8))
    assert torch.equal(ranged.amax((1, 2)), torch.ones(8))
    assert not unit_range(torch.full((2, 3, 3), -5.0)).any()


def test_ratio_is_zero_over_zero_and_exact_at_any_scale():
    top, bottom = torch.tensor([1.0, 1e-30, 0.0, -2.0]), torch.tensor([0.0, 4e-30, 0.0, 8.0])
    assert ratio(top, bottom).tolist() == [0.0, 0.25, 0.0, -0.25]


def test_weighted_sum_by_hand():
    cells = torch.tensor([[[[1.0, 2.0]], [[10.0, 20.0]]]])
    assert weighted_sum(torch.tensor([[3.0, -1.0]]), cells).tolist() == [[[-7.0, -14.0]]]


def test_the_raw_view_is_the_map_itself(raw):
    assert view("raw", "grid", raw) is raw


def test_rectified_views_are_positive_parts(raw):
    assert torch.equal(view("rectified", "grid", raw), raw.where(raw > 0, 0))
    assert torch.equal(view("rectified", "image", raw), upsample(raw.where(raw > 0, 0), SIZE))


def test_confined_is_rectified_without_unseen_cells(raw, blind):
    assert torch.equal(view("confined", "image", raw), view("rectified", "image", blind))


def test_views_are_told_apart_and_pixel_maps_have_no_grid():
    keys = [(v.name, v.on) for v in VIEWS]
    assert len(set(keys)) == len(keys)
    assert views_of("cells") == VIEWS
    assert [(v.name, v.on) for v in views_of("pixels")] == [
        ("rectified", "image"), ("displayed", "image"), ("stretched", "image")
    ]  # fmt: skip


# What each alteration adds


def test_bleed_is_at_most_one_cell_wide(blind):
    """A pixel lies between the centres of two cells, so it mixes a cell with its direct neighbours only."""
    shown = view("rectified", "image", blind)
    first_unseen_row = 4 * 8
    half_a_cell = 4  # beyond the centre of the first unseen row of cells, both neighbours are unseen
    assert torch.count_nonzero(shown[:, first_unseen_row + half_a_cell :]) == 0
    assert (shown[:, first_unseen_row : first_unseen_row + half_a_cell] > 0).any((1, 2)).all()


def test_stretching_a_signed_map_lights_up_its_empty_half(blind):
    """An unseen cell's 0 becomes -min / (max - min)."""
    far = stretched(blind, SIZE)[:, 40:]
    small = upsample(blind, SIZE)
    low, high = small.amin((1, 2)), small.amax((1, 2))
    assert (low < 0).all()
    torch.testing.assert_close(far, (-low / (high - low))[:, None, None].expand_as(far))
    assert (far > 0.2).all()


def test_stretching_after_rectifying_adds_nothing(blind):
    assert torch.count_nonzero(displayed(blind, SIZE)[:, 40:]) == 0
    positive = rectify(blind)
    assert torch.count_nonzero(stretched(positive, SIZE)[:, 40:]) == 0


# The published pipeline


class RawMaps(BaseCAM):
    """pytorch-grad-cam's own post-processing around given raw maps."""

    def __init__(self, maps: np.ndarray):
        model = nn.Conv2d(3, 1, 1)
        super().__init__(model, [model])
        self.maps = maps

    def get_cam_image(self, *_):
        return self.maps


@pytest.fixture
def peers():
    def post_processed(raw: torch.Tensor) -> np.ndarray:
        with RawMaps(raw.numpy()) as cam:
            return cam(torch.zeros(len(raw), 3, *SIZE), targets=[lambda output: output.sum()] * len(raw))

    return post_processed


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0, 1e3])
def test_displayed_is_what_pytorch_grad_cam_returns(raw, peers, scale):
    """Its 1e-7 beside the maximum is repaired by its second stretch, which adds 1e-7 once more."""
    ours, theirs = displayed(scale * raw, SIZE).numpy(), peers(scale * raw)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-6


def test_very_faint_maps_are_a_known_difference(raw, peers):
    """At a maximum of some 1e-15, 1e-7 is felt twice: there the picture is dim, here brightness has no scale."""
    assert (peers(1e-15 * raw).max((1, 2)) < 0.5).all()
    torch.testing.assert_close(displayed(1e-15 * raw, SIZE), displayed(raw, SIZE), rtol=1e-4, atol=1e-5)


def test_flat_maps_are_a_known_difference(peers):
    """A map with one positive value everywhere is bright everywhere here and black there."""
    flat = torch.stack([torch.full(CELLS, value) for value in (2.0, 0.0, -2.0)])
    assert [ours.unique().tolist() for ours in displayed(flat, SIZE)] == [[1.0], [0.0], [0.0]]
    assert [np.unique(theirs).tolist() for theirs in peers(flat)] == [[0.0], [0.0], [0.0]]

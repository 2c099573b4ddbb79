"""Localisation metrics on maps small enough to do by hand."""

import importlib
import math

import numpy as np
import pytest
import torch

from wallcheck.metrics import LOCALISATION
from wallcheck.metrics.localisation import box

NAN = math.nan

# An L of three positions in a map of 4 x 4; its box is 2 x 2.
OBJECT = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)

BY_HAND = {
    "perfect": (OBJECT.float().tolist(), dict.fromkeys(LOCALISATION, 1.0)),
    "constant": (
        [[0.3] * 4] * 4,
        dict.fromkeys(LOCALISATION, 3 / 16) | dict(box_iou=4 / 16, roc_auc=1 / 2),
    ),
    "the box instead of the object": (
        [[2, 2, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        # three of four equal pixels; 12 darker ones and half of an equal one to each of the object's
        dict.fromkeys(LOCALISATION, 3 / 4) | dict(box_iou=1.0, roc_auc=12.5 / 13),
    ),
    "elsewhere": (
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 4, 0], [0, 0, 0, 4]],
        # the third brightest is one of 14 zeros; the object's pixels are equal to 11 of 13 others
        dict.fromkeys(LOCALISATION, 0.0) | dict(rank_accuracy=1 / 14, roc_auc=5.5 / 13),
    ),
    "on the object, and a second spot below": (
        # 6 + 4 of 6 + 4 + 2 + 8; the maximum is below; bright (above 4): one of the object, one below
        [[6, 0, 0, 0], [4, 0, 0, -9], [2, 0, 0, 0], [0, 0, 8, 0]],
        # thresholds 2 four times, 4 and 6 three times, 7.92 leave 10 of 20, 10 of 18, 6 of 14, 0 of 8
        # 6 and 4 are above 12 of 13 others, 0 beside 11 equal ones
        dict(
            energy_inside=1 / 2, pointing=0.0, mask_iou=1 / 4, box_iou=4 / 12, rank_accuracy=2 / 3,
            roc_auc=(12 + 12 + 5.5) / 39, effective_heat_ratio=(1 / 4 + 3 * 1 / 2 + 3 * 10 / 18 + 3 * 6 / 14) / 10,
        ),
    ),
    "half the maximum is not bright": (
        [[2, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]],
        # 2 and two of three ones; thresholds 1 ten times, then 1.98
        dict(
            energy_inside=4 / 5, pointing=1.0, mask_iou=1 / 3, box_iou=1 / 4, rank_accuracy=(1 + 2 * 2 / 3) / 3,
            roc_auc=(13 + 12.5 + 12.5) / 39, effective_heat_ratio=(0.4 + 9 * 0.8 + 0.5) / 10,
        ),
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


@pytest.fixture
def tied(drawn):
    """Whole numbers, negative ones among them, so that many pixels are equal."""
    return (4 * drawn[0]).round(), drawn[1]


def test_roc_auc_is_scikit_learns_and_torchmetrics(tied):
    ours = LOCALISATION["roc_auc"](*tied)
    learned = importlib.import_module("sklearn.metrics").roc_auc_score
    binary_auroc = importlib.import_module("torchmetrics.functional.classification").binary_auroc
    for value, one, inside in zip(ours, tied[0].clamp(min=0), tied[1], strict=True):
        assert value.item() == pytest.approx(learned(inside.flatten().numpy(), one.flatten().numpy()), rel=1e-12)
        scores = one / one.max()  # torchmetrics takes anything outside [0, 1] for logits
        assert value.item() == pytest.approx(binary_auroc(scores.flatten(), inside.flatten().int()).item(), rel=1e-6)


def test_rank_accuracy_is_what_random_ties_give_on_average(tied):
    draw = torch.Generator().manual_seed(2)
    for value, one, inside in zip(LOCALISATION["rank_accuracy"](*tied), tied[0].clamp(min=0), tied[1], strict=True):
        count = int(inside.sum())
        found = []
        for _ in range(400):
            order = torch.randperm(30, generator=draw)
            first = order[one.flatten()[order].argsort(descending=True, stable=True)][:count]
            found.append(inside.flatten()[first].double().mean())
        assert abs(value - torch.stack(found).mean()) < 0.05


def test_heat_ratio_by_numpy(tied):
    """Threshold by threshold. InputIBA's code sums the heat on the object too, but divides it by the number of pixels."""
    for value, one, inside in zip(
        LOCALISATION["effective_heat_ratio"](*tied), tied[0].numpy(), tied[1].numpy(), strict=True
    ):
        kept, ratios = one[one > 0], []
        for tenth in range(11):
            above = one >= min(np.sort(kept)[tenth * (len(kept) - 1) // 10], 0.99 * kept.max())
            ratios.append(one[above & inside].sum() / one[above].sum())
        assert value.item() == pytest.approx(np.trapezoid(ratios, dx=0.1), rel=1e-12)


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

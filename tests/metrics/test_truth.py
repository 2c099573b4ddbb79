"""Truth by hand and against scikit-learn and scipy; what each cell adds, against the head itself."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn import metrics as sk
from torch import nn

from tests.nets import photos, tiny
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.measuring import scores
from wallcheck.metrics import TRUTH
from wallcheck.models import blind

ADDS = [name for name, metric in TRUTH.items() if metric.asks == "contributions"]


def one(rows) -> torch.Tensor:
    return torch.as_tensor(np.array(rows), dtype=torch.float64)[None]


TRUE = one([[4.0, -1.0, 0.0], [1.0, 3.0, -3.0]])
BY_HAND = {
    # map: missed, precision, sign agreement, bright area
    "the truth itself": (TRUE, 0.0, 1.0, 1.0, 2 / 6),
    "nothing": (torch.zeros_like(TRUE), 1.0, None, 0.0, None),
    "bright everywhere": (torch.ones_like(TRUE), 0.0, 3 / 6, 8 / 12, 1.0),
    "upside down": (-TRUE, 1.0, 0.0, 0.0, 1 / 6),
    "one of three": (one([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), 0.5, 1.0, 4 / 12, 1 / 6),
    "one right, one wrong": (one([[0.0, 1.0, 0.0], [3.0, 0.0, -1.0]]), 7 / 8, 0.75, 4 / 12, 1 / 6),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name):
    maps, *wanted = BY_HAND[name]
    found = [
        TRUTH["missed"](maps, TRUE),
        TRUTH["precision"](maps, TRUE),
        TRUTH["sign_agreement"](maps, TRUE),
        TRUTH["bright_area"](maps),
    ]
    for value, expected in zip(found, wanted, strict=True):
        assert value.item() == pytest.approx(expected) if expected is not None else value.isnan().all()


@pytest.mark.parametrize("seed", range(8))
def test_against_scikit_learn_and_scipy(seed):
    draw = np.random.default_rng(seed)
    truth, maps = draw.normal(size=(2, 5, 6)), draw.normal(size=(2, 5, 6)).round(1)  # ties
    maps[draw.random(maps.shape) < 0.3] = 0
    for at in range(2):
        t, m = truth[at].ravel(), maps[at].ravel()
        found = {name: TRUTH[name](one(maps[at]), one(truth[at])).item() for name in ADDS}
        recall = sk.recall_score(t > 0, m > 0, sample_weight=t.clip(0))
        assert found["missed"] == pytest.approx(1 - recall)
        assert found["precision"] == pytest.approx(sk.precision_score(t > 0, m > 0, sample_weight=m.clip(0)))
        signs = sk.accuracy_score(np.sign(t), np.sign(m), sample_weight=np.abs(t))
        assert found["sign_agreement"] == pytest.approx(signs)
        assert found["rank_agreement"] == pytest.approx(spearmanr(m, t).statistic)


@pytest.mark.parametrize("name", ADDS)
def test_neither_the_maps_scale_nor_the_truths_matters(name):
    draw = torch.Generator().manual_seed(3)
    maps, truth = torch.randn(4, 5, 5, generator=draw), torch.randn(4, 5, 5, generator=draw)
    torch.testing.assert_close(TRUTH[name](1e-42 * maps.double(), truth), TRUTH[name](maps.double(), truth))
    torch.testing.assert_close(TRUTH[name](maps, 1e9 * truth), TRUTH[name](maps, truth))


def test_nothing_true_is_not_missed_and_flat_maps_have_no_order():
    nothing = torch.zeros_like(TRUE)
    assert TRUTH["missed"](TRUE, nothing).isnan().all() and TRUTH["sign_agreement"](TRUE, nothing).isnan().all()
    assert TRUTH["rank_agreement"](torch.ones_like(TRUE), TRUE).isnan().all()
    assert TRUTH["rank_agreement"](-TRUE, TRUE).item() == pytest.approx(-1)


@pytest.mark.parametrize("name", TRUTH)
def test_what_does_not_fit_is_told(name):
    with pytest.raises(ValueError, match=f"{name}: maps are"):
        TRUTH[name](torch.zeros(2, 3, 3), torch.zeros(2, 3, 4))
    given = [torch.full((1, 2, 2), torch.nan), torch.zeros(1, 2, 2)][: 1 + (name in ADDS)]
    with pytest.raises(ValueError, match="NaN or infinity"):
        TRUTH[name](*given)


# -- what each cell adds --------------------------------------------------------------------------

HEADS = {"flat": dict(hidden=()), "pooled": dict(hidden=(), pooled=True)}


@pytest.mark.parametrize("head", HEADS)
def test_what_cells_add_is_the_logit_but_for_the_bias(head):
    """Cell by cell: all others emptied, the head itself says what one adds."""
    net = tiny(**HEADS[head]).double()
    ev = Evidence(net, photos(3, seed=5)[0].double())
    empty = torch.zeros_like(ev.activations[:1])
    bias = ev.rescore(empty)[0]
    torch.testing.assert_close(ev.truth.sum((1, 2)), ev.score - bias[ev.targets])
    for image, (row, column) in enumerate(((0, 3), (2, 7), (4, 11))):
        alone = empty.clone()
        alone[0, :, row, column] = ev.activations[image, :, row, column]
        said = (ev.rescore(alone)[0] - bias)[ev.targets[image]]
        torch.testing.assert_close(ev.truth[image, row, column], said)
    assert torch.count_nonzero(ev.truth[:, ev.unseen]) == 0


def test_heads_that_do_not_add_up_have_no_truth():
    assert Evidence(tiny(), photos(1)[0]).truth is None
    ev = Evidence(tiny(hidden=()), photos(1)[0])
    assert ev.truth is not None and ev.explaining(lambda logits: logits.softmax(1)[:, 0]).truth is None
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 36, 3)]
    assert Evidence(blind(nn.Sequential(*layers), 12, layer="1"), torch.rand(1, 3, 12, 12)).truth is None
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4 * 36, 3)]
    assert Evidence(blind(nn.Sequential(*layers), 12, layer="1"), torch.rand(1, 3, 12, 12)).truth is not None


def test_hirescam_is_the_truth_on_a_linear_head_and_the_controls_are_not():
    ev = Evidence(tiny(hidden=()), photos(6, seed=2)[0])
    right = scores(ev, METHODS["hirescam"], ADDS)
    assert (right["missed"] < 1e-6).all() and (right["precision"] > 1 - 1e-6).all()
    assert (right["sign_agreement"] > 1 - 1e-6).all() and (right["rank_agreement"] > 1 - 1e-6).all()
    flat = scores(ev, METHODS["constant"], ["missed", "bright_area"])
    assert (flat["missed"] == 0).all() and (flat["bright_area"] == 1).all()


def test_a_metric_of_truth_says_why_it_cannot_be_had():
    with pytest.raises(
        ValueError, match="missed asks what each cell adds to the logit, and the net's head does not add up"
    ):
        scores(Evidence(tiny(), photos(1)[0]), METHODS["gradcam"], ["missed"])
    with pytest.raises(ValueError, match="has pixels, not cells"):
        scores(Evidence(tiny(hidden=()), photos(1)[0]), METHODS["polycam"], ["precision"])
    assert "missed" not in scores(Evidence(tiny(), photos(1)[0]), METHODS["gradcam"])
    assert set(TRUTH) <= set(scores(Evidence(tiny(hidden=()), photos(1)[0]), METHODS["gradcam"]))

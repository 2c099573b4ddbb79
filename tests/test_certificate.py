"""The certificate passes what is blind, refuses what is not, and says where."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from tests.nets import CLASSES, SIZE, photos, tiny, trained_tiny
from wallcheck.auditing import audit
from wallcheck.certificate import PROOFS, BrokenWall, Certificate, certify, fingerprint
from wallcheck.geometry import Regions, Wall
from wallcheck.models import PRESETS, BlindNet


def failed(certificate: Certificate) -> dict[tuple[str, str], str]:
    return {(check.name, check.mode): check.detail for check in certificate.checks if not check.passed}


def with_wall(seen: np.ndarray, kind: type[BlindNet] = BlindNet, norm: nn.Module | None = None, **kwargs) -> BlindNet:
    """A net of two convolutions with drawn weights behind any wall over 12 x 12 cells."""
    torch.manual_seed(0)
    features = [
        nn.Conv2d(3, 6, 3, padding=1),
        norm,
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
    ]
    head = nn.Sequential(nn.Flatten(), nn.Linear(8 * int(seen.sum()), CLASSES))
    features = nn.Sequential(*(module for module in features if module is not None))
    return kind(features, head, Wall(seen), (SIZE, SIZE), **kwargs).eval()


def bottom(cells: int = 7) -> np.ndarray:
    return Wall.behind("bottom", (12, 12), cells).seen.copy()


# What holds


@pytest.mark.parametrize("walled", [True, False])
def test_vgg_small_passes(walled):
    certificate = certify(PRESETS["vgg_small"](walled=walled))
    assert [(check.name, check.mode) for check in certificate.checks] == list(PROOFS)
    assert certificate.raise_if_broken().unseen_pixels.sum() == (48 * 96 if walled else 0)
    assert certificate.unseen_cells.sum() == (8 * 12 if walled else 0)


def test_vgg16_walls_passes_with_54_unseen_rows():
    certificate = certify(PRESETS["vgg16_walls"](), seeds=1, images=1).raise_if_broken()
    assert [(check.name, check.mode) for check in certificate.checks] == list(PROOFS)
    rows = certificate.unseen_pixels.any(1)
    assert np.array_equal(np.flatnonzero(rows), np.arange(170, 224))
    assert certificate.unseen_pixels[rows].all()


@pytest.mark.parametrize(
    "wall",
    [
        {"side": "bottom", "cells": 7},
        {"side": "bottom", "cells": 11},
        {"side": "top", "cells": 5},
        {"side": "left", "cells": 6},
        {"side": "right", "cells": 1},
        {"side": "centre", "cells": 2},
    ],
    ids=str,
)
def test_walls_of_every_side_pass_with_dropout_in_both_modes(wall):
    net = tiny(wall=wall, dropout=0.5)
    assert failed(certify(net)) == {}
    assert failed(certify(trained_tiny())) == {}


@pytest.mark.parametrize("seed", range(3))
def test_irregular_walls_pass(seed):
    seen = np.random.default_rng(seed).random((12, 12)) < 0.15
    certificate = certify(with_wall(seen))
    assert failed(certificate) == {}
    assert certificate.unseen_pixels.any()


def test_pooled_head_passes():
    assert failed(certify(tiny(pooled=True, hidden=()))) == {}


def test_certifying_leaves_the_net_and_the_random_state_alone():
    net = with_wall(bottom(), norm=nn.BatchNorm2d(6)).train()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    certify(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(state, torch.get_rng_state())


# What does not


class PeepHole(BlindNet):
    """Hands over one unseen cell as well, added to the first seen one."""

    peep = (9, 4)

    def _hand_over(self, activations, first):
        handed = super()._hand_over(activations, first)
        i, j = self.peep
        if i < activations.shape[2]:  # the crop that forward runs on does not reach so far
            handed = handed + nn.functional.pad(
                activations[:, :, i : i + 1, j : j + 1], (0, handed.shape[3] - 1, 0, handed.shape[2] - 1)
            )
        return handed


def test_one_unseen_cell_handed_over_is_found():
    certificate = certify(with_wall(bottom(), PeepHole))
    broken = failed(certificate)
    assert set(broken) == {(name, mode) for mode in ("eval", "train") for name in ("structure", "bits", "gradient")}
    for mode in ("eval", "train"):
        assert broken["structure", mode].startswith("the head reads unseen cell (9, 4); NaN there changes logit 0")
        # cell (9, 4) reads pixel rows 2 * 9 - 2 - 1 .. and columns 2 * 4 - 2 - 1 ..: 3 x 3 at stride 2, then 3 x 3
        assert broken["bits", mode].startswith("pixel (15, 5) leaks into logit 0: ")
        assert broken["gradient", mode] == "d logit 0 / d pixel (15, 5) is not zero"
    with pytest.raises(BrokenWall, match=r"(?s)the wall is broken:.*structure \(eval\): .*unseen cell \(9, 4\)"):
        certificate.raise_if_broken()


def test_a_wall_moved_after_construction_is_found():
    """One more row of cells is handed over, but the pixels declared unseen stay those of the old wall."""
    net, other = with_wall(bottom(7)), with_wall(bottom(6))
    net.wall, net.head = other.wall, other.head
    broken = failed(certify(net))
    assert broken["receptive_field", "any"] == (
        "pixel (13, 0) is declared unseen, but the layers as they are reach it; 48 such pixels"
    )
    assert broken["bits", "eval"].startswith("pixel (13, 0) leaks into logit")


def test_one_more_dilation_than_declared_is_found():
    net = tiny()
    net.features[3].dilation = net.features[3].padding = (2, 2)
    broken = failed(certify(net))
    assert broken["receptive_field", "any"] == (
        "pixel (13, 0) is declared unseen, but the layers as they are reach it; 48 such pixels"
    )
    assert broken["gradient", "eval"] == "d logit 0 / d pixel (13, 0) is not zero"


def test_a_wider_kernel_put_in_later_is_found():
    net = tiny()
    net.features[0] = nn.Conv2d(3, 6, 5, padding=2)
    assert "pixel (13, 0) is declared unseen" in failed(certify(net))["receptive_field", "any"]


def test_batch_statistics_leak_in_training_mode_only():
    """A mean over all positions of a layer has seen the unseen pixels; running statistics have not."""
    broken = failed(certify(with_wall(bottom(), norm=nn.BatchNorm2d(6))))
    assert set(broken) == {("bits", "train"), ("gradient", "train")}
    assert broken["gradient", "train"] == "d logit 0 / d pixel (13, 0) is not zero"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["features.0.weight", "head.1.bias"])
def test_weights_that_are_not_finite_are_named_and_nothing_else_is_claimed(name, value):
    net = tiny()
    weight = dict(net.named_parameters())[name].data
    weight[(0,) * weight.ndim] = value
    assert failed(certify(net)) == {
        ("finite_weights", "any"): f"NaN or infinity in {name}; train the model again or copy its file again"
    }


def test_a_mask_that_is_too_small_is_not_maximal():
    """The last two unseen rows are declared seen: all proofs of blindness hold, but more is unseen than declared."""
    net = tiny()
    unseen = net.regions.unseen.copy()
    unseen[13:15] = False
    net.regions = Regions(net.regions.seen, net.regions.halo, unseen)
    assert failed(certify(net)) == {
        ("maximal", "eval"): "seen pixel (14, 0) at the border changes no logit, so the unseen mask could be larger"
    }


def test_a_net_that_looks_nowhere_is_not_maximal():
    net = tiny()
    net.head[1].weight.data.zero_()
    assert set(failed(certify(net))) == {("maximal", "eval")}


# Whose certificate it is


def one_weight(net):
    net.features[0].weight.data[0, 0, 0, 0] += 1e-6


def one_bias(net):
    net.head[-1].bias.data[-1] = net.head[-1].bias.data[-1].nextafter(torch.tensor(9.0))


def dilation(net):
    net.features[3].dilation = net.features[3].padding = (2, 2)


def wall(net):
    net.wall = Wall(bottom(6))


@pytest.mark.parametrize("change", [one_weight, one_bias, dilation, wall])
def test_a_net_changed_after_certification_is_refused(change):
    net = tiny()
    certificate = certify(net)
    assert certificate.raise_if_other(net) is certificate
    assert certificate.raise_if_other(copy.deepcopy(net)) is certificate
    change(net)
    with pytest.raises(BrokenWall, match=r"for weights [0-9a-f]{12}, this net has [0-9a-f]{12}; certify it again"):
        certificate.raise_if_other(net)
    with pytest.raises(BrokenWall):
        audit(net, photos(1)[0], ["gradcam"], certificate=certificate)


def test_a_broken_certificate_does_not_pass_an_audit():
    net = with_wall(bottom(), PeepHole)
    with pytest.raises(BrokenWall, match=r"unseen cell \(9, 4\)"):
        audit(net, photos(1)[0], ["gradcam"])
    with pytest.raises(BrokenWall, match=r"unseen cell \(9, 4\)"):
        audit(net, photos(1)[0], ["gradcam"], certificate=certify(net))


def test_the_fingerprint_does_not_depend_on_layout_or_mode():
    net = tiny()
    before = fingerprint(net)
    net.train().to(memory_format=torch.contiguous_format)
    assert fingerprint(net) == before
    assert fingerprint(copy.deepcopy(net).double()) != before


def test_a_certificate_comes_back_from_json(tmp_path):
    net = with_wall(bottom(), PeepHole)
    certificate = certify(net)
    certificate.save(tmp_path / "certificate.json")
    loaded = Certificate.load(tmp_path / "certificate.json")
    assert loaded.fingerprint == certificate.fingerprint
    assert loaded.checks == certificate.checks
    assert np.array_equal(loaded.unseen_pixels, net.regions.unseen)
    assert np.array_equal(loaded.unseen_cells, net.wall.unseen)
    assert loaded.raise_if_other(net) is loaded
    assert not loaded.holds
    assert [path.name for path in tmp_path.iterdir()] == ["certificate.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fingerprint": "a", "unseen_pixels": ["01"]}'])
def test_a_damaged_certificate_is_refused(tmp_path, text):
    (tmp_path / "certificate.json").write_text(text)
    with pytest.raises(ValueError, match=r"certificate\.json is no whole certificate .*write it again"):
        Certificate.load(tmp_path / "certificate.json")


def test_a_certificate_without_its_proofs_does_not_hold(tmp_path):
    raw = certify(tiny()).to_dict()
    (tmp_path / "certificate.json").write_text(json.dumps({**raw, "checks": []}))
    with pytest.raises(BrokenWall, match=r"maximal \(eval\): not proved"):
        Certificate.load(tmp_path / "certificate.json").raise_if_broken()


def test_the_summary_reads_as_a_list():
    lines = certify(tiny()).summary().splitlines()
    assert lines[0].startswith("264 of 576 pixels unseen, weights ")
    assert lines[1].split(maxsplit=3) == ["pass", "receptive_field", "any", "264 unseen pixels by interval arithmetic"]
    assert len(lines) == 1 + len(PROOFS)

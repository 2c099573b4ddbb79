"""The certificate proves what is blind, refuses what is not, and says where; nobody's word is taken for it."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests.leaky import LEAKY, PeepHole, behind_bottom, moved_wall, wider_dilation
from tests.nets import photos, tiny, trained_tiny
from tests.windows import layers_of
from wallcheck.auditing import audit
from wallcheck.certificate import DEMANDED, BrokenWall, Certificate, certify, prove
from wallcheck.geometry import Regions, Wall, regions
from wallcheck.models import PRESETS, blind

REPORTED = [("maximal", "eval"), ("bits", "train"), ("gradient", "train")]


def failed(certificate: Certificate) -> dict[tuple[str, str], str]:
    return {(check.name, check.mode): check.detail for check in certificate.checks if not check.passed}


def checks_of(certificate: Certificate) -> list[tuple[str, str]]:
    return [(check.name, check.mode) for check in certificate.checks]


def bottom(cells: int = 7) -> Wall:
    return Wall.behind("bottom", (12, 12), cells)


# What holds


def test_vgg_small_passes():
    certificate = certify(PRESETS["vgg_small"]())
    assert checks_of(certificate) == [*DEMANDED, *REPORTED]
    assert failed(certificate) == {} and certificate.holds
    assert certificate.unseen_pixels.sum() == 48 * 96
    assert certificate.unseen_cells.sum() == 8 * 12


def test_a_net_without_a_wall_has_nothing_unseen_and_its_certificate_does_not_hold():
    certificate = certify(PRESETS["vgg_small"](walled=False))
    assert failed(certificate) == {}
    assert not certificate.unseen_pixels.any() and not certificate.unseen_cells.any()
    with pytest.raises(BrokenWall, match="nothing is unseen"):
        certificate.raise_if_broken()
    with pytest.raises(BrokenWall, match="nothing is unseen"):
        prove(tiny(wall=None))


def test_vgg16_walls_passes_with_54_unseen_rows():
    certificate = certify(PRESETS["vgg16_walls"](), seeds=1, images=1).raise_if_broken()
    assert checks_of(certificate) == [*DEMANDED, *REPORTED]
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
        {"side": "right", "cells": 2},
        {"side": "centre", "cells": 2},
    ],
    ids=str,
)
def test_walls_of_every_side_pass_with_dropout_in_both_modes(wall):
    assert failed(certify(tiny(wall=wall, dropout=0.5))) == {}


def test_trained_and_pooled_nets_pass():
    for net in (trained_tiny(), tiny(pooled=True, hidden=())):
        assert failed(certify(net)) == {}


def test_a_wall_behind_which_every_pixel_is_read_is_refused():
    """The last column of cells is unseen, but the one beside it looks as far as the border."""
    with pytest.raises(BrokenWall, match=r"no pixel is unseen: pixel \(\d+, 23\) reaches logit 0"):
        certify(tiny(wall={"side": "right", "cells": 1})).raise_if_broken()


@pytest.mark.parametrize("seed", range(3))
def test_irregular_walls_pass(seed):
    seen = np.random.default_rng(seed).random((12, 12)) < 0.15
    certificate = certify(behind_bottom(wall=Wall(seen)))
    assert failed(certificate) == {}
    assert certificate.unseen_pixels.any()


def test_certifying_leaves_the_net_and_the_random_state_alone():
    net = behind_bottom(norm=nn.BatchNorm2d(6)).train()
    hooks = net.features[0].register_forward_hook(lambda module, given, out: out)
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    strides = {name: value.stride() for name, value in net.named_parameters()}
    places = {name: value.data_ptr() for name, value in net.named_parameters()}
    certify(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert strides == {name: value.stride() for name, value in net.named_parameters()}
    assert places == {name: value.data_ptr() for name, value in net.named_parameters()}
    assert all(module.training for module in net.modules())
    assert list(net.features[0]._forward_hooks) == [hooks.id]
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert torch.equal(state, torch.get_rng_state())


# What does not


def test_one_unseen_cell_handed_over_is_found():
    net = behind_bottom(PeepHole)
    certificate = certify(net)
    proof = failed(certificate)["proof", "eval"]
    assert proof.startswith("unseen cell (9, 4) reaches a logit")
    assert [problem.partition(":")[0] for problem in certificate.problems] == ["proof (eval)"]
    # cell (9, 4) reads pixel rows 2 * 9 - 2 - 1 .. and columns 2 * 4 - 2 - 1 ..: 3 x 3 at stride 2, then 3 x 3
    heard = regions(Wall(net.wall.seen | cell_at(9, 4)), layers_of(net.features), net.image_size)
    assert np.array_equal(certificate.unseen_pixels, heard.unseen)
    assert not certificate.unseen_pixels[15:21, 5:11].any()
    with pytest.raises(BrokenWall, match=r"(?s)the wall is broken:.*proof \(eval\): .*unseen cell \(9, 4\)"):
        certificate.raise_if_broken()


def cell_at(i: int, j: int) -> np.ndarray:
    cells = np.zeros((12, 12), dtype=bool)
    cells[i, j] = True
    return cells


@pytest.mark.parametrize("how", LEAKY)
def test_every_hidden_leak_is_refused_and_named(how):
    build, said = LEAKY[how]
    net = build()
    certificate = certify(net, seeds=1, images=1)
    assert not certificate.holds
    (problem, *_) = certificate.problems
    assert problem.startswith(("proof (eval): ", "graph (eval): "))
    with pytest.raises(BrokenWall, match=f"(?s){said}"):
        certificate.raise_if_broken()
    with pytest.raises(BrokenWall, match=f"(?s){said}"):
        audit(net, photos(1)[0], ["hirescam"])


def wider_kernel(net):
    net.features[0] = nn.Conv2d(3, 6, 5, padding=2)


@pytest.mark.parametrize("change", [moved_wall, wider_dilation, wider_kernel])
def test_what_is_unseen_follows_the_layers_as_they_are(change):
    """What was true at construction is not believed: the mask is that of interval arithmetic on the net of now."""
    net = behind_bottom()
    before = certify(net, seeds=1).unseen_pixels
    change(net)
    certificate = certify(net, seeds=1)
    now = regions(net.wall, layers_of(net.features), net.image_size)
    assert failed(certificate) == {}
    assert np.array_equal(certificate.unseen_pixels, now.unseen) and before.sum() > now.unseen.sum()
    assert all(np.array_equal(getattr(net.regions, part), getattr(now, part)) for part in ("seen", "halo", "unseen"))


def test_batch_statistics_leak_in_training_mode_only_and_are_reported():
    """A mean over all positions of a layer has seen the unseen pixels; running statistics have not."""
    certificate = certify(behind_bottom(norm=nn.BatchNorm2d(6))).raise_if_broken()
    assert set(failed(certificate)) == {("bits", "train"), ("gradient", "train")}
    assert failed(certificate)["gradient", "train"] == "d logits / d pixel (13, 0) is not zero"
    assert [line.split()[0] for line in certificate.summary().splitlines()[-2:]] == ["not", "not"]


def test_what_is_computed_of_weights_and_is_nan_is_no_leak():
    """A weight norm of a channel of zeros: 0 / 0. The wall is not to blame."""
    net = behind_bottom()
    torch.nn.utils.parametrizations.weight_norm(net.features[0])
    net.features[0].parametrizations.weight.original1.data[0] = 0
    assert list(failed(certify(net)).values()) == [
        "what is computed of the weights (a norm of one, a parametrization) is NaN; train or load them again"
    ]
    with pytest.raises(BrokenWall, match="is NaN; train or load them again"):
        prove(net)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["features.0.weight", "head.1.bias"])
def test_weights_that_are_not_finite_are_named_and_nothing_else_is_claimed(name, value):
    net = tiny()
    weight = dict(net.named_parameters())[name].data
    weight[(0,) * weight.ndim] = value
    certificate = certify(net)
    assert failed(certificate) == {("finite_weights", "eval"): f"{name} holds NaN or infinity; train or load it again"}
    assert checks_of(certificate) == [("graph", "eval"), ("proof", "eval"), ("finite_weights", "eval")]
    assert not certificate.holds


@pytest.mark.parametrize("size", [0, -3, 24.0, "24", None, (24,), (24, 24, 3), (24, 0)])
def test_a_size_that_is_none_is_refused_in_words(size):
    with pytest.raises(ValueError, match=r"image_size is .*, expected the side of a square or"):
        blind(nn.Conv2d(3, 4, 3), size)


def test_regions_are_proved_and_cannot_be_declared():
    net = tiny()
    found = net.regions
    with pytest.raises(AttributeError, match="regions are proved on the net's graph and cannot be declared"):
        net.regions = Regions(found.seen, ~found.unseen, found.unseen)
    assert net.regions is found


def test_a_net_that_looks_nowhere_is_blind_but_not_maximal():
    """Its weights are 0, which no proof looks at: more is unseen than is proved, and that is reported, not demanded."""
    net = tiny()
    net.head[1].weight.data.zero_()
    certificate = certify(net).raise_if_broken()
    assert set(failed(certificate)) == {("maximal", "eval")}


@pytest.mark.parametrize("few", [dict(seeds=0), dict(images=0), dict(seeds=-1), dict(seeds=0, images=0)])
def test_a_certificate_of_no_tests_is_refused(few):
    with pytest.raises(ValueError, match="at least one of each"):
        certify(tiny(), **few)


def test_arithmetic_is_tried_on_copies_where_a_device_sums_by_tiles(monkeypatch):
    """What a GPU takes, on the CPU under another name: graph and net are copied, and the certificate is the same."""
    net = trained_tiny()
    here = certify(net).to_dict()
    monkeypatch.setattr("wallcheck.arithmetic.EXACT", "cpu:0")
    copied = []
    monkeypatch.setattr(copy, "deepcopy", lambda one, deep=copy.deepcopy: copied.append(one) or deep(one))
    assert certify(net).to_dict() == here
    assert any(one is net for one in copied)
    graph = net.graph.on_cpu()
    assert torch.equal(graph.run(photos(2)[0]), net.graph.run(photos(2)[0]))

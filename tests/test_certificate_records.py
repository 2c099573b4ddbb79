"""Whose certificate it is: one fingerprint per function, and what is on disk is a record, never believed."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from tests.leaky import Flagged, InFloat64, PeepHole, behind_bottom, moved_wall, wider_dilation
from tests.nets import photos, tiny
from wallcheck.auditing import audit
from wallcheck.certificate import DEMANDED, BrokenWall, Certificate, certify, fingerprint
from wallcheck.geometry import Wall

# Whose certificate it is


def one_weight(net):
    net.features[0].weight.data[0, 0, 0, 0] += 1e-6


def one_bias(net):
    net.head[-1].bias.data[-1] = net.head[-1].bias.data[-1].nextafter(torch.tensor(9.0))


def a_flag(net):
    net.features[1].flag = True


def a_leaking_hook(net):
    net.features[1].register_forward_hook(lambda module, given, out: out - out.mean((2, 3), keepdim=True))


def a_sound_hook(net):
    net.head.register_forward_hook(lambda module, given, out: -out)


@pytest.mark.parametrize(
    "change", [one_weight, one_bias, wider_dilation, moved_wall, a_flag, a_leaking_hook, a_sound_hook]
)
def test_a_net_changed_after_certification_is_refused(change):
    net = behind_bottom(act=Flagged())
    certificate = certify(net)
    assert certificate.raise_if_other(net) is certificate
    assert certificate.raise_if_other(copy.deepcopy(net)) is certificate
    change(net)
    with pytest.raises(BrokenWall, match=r"for graph [0-9a-f]{12}, this net is [0-9a-f]{12}; certify it again"):
        certificate.raise_if_other(net)
    with pytest.raises(BrokenWall):
        audit(net, photos(1)[0], ["gradcam"], certificate=certificate)


def test_a_net_that_leaks_in_another_precision_is_another_net():
    net = behind_bottom(act=InFloat64())
    certificate = certify(net).raise_if_broken()
    with pytest.raises(BrokenWall, match="certify it again"):
        certificate.raise_if_other(net.double())
    with pytest.raises(BrokenWall, match=r"features\.1: mean"):
        certify(net).raise_if_broken()


class Squared(nn.Flatten):
    def forward(self, cells):
        return cells.flatten(1) ** 2


def headed(net, change):
    change(net)
    return net


OTHERS = {
    "LeakyReLU": lambda: behind_bottom(act=nn.LeakyReLU(0.5)),
    "steeper LeakyReLU": lambda: behind_bottom(act=nn.LeakyReLU(0.6)),
    "GELU": lambda: behind_bottom(act=nn.GELU()),
    "no ReLU": lambda: behind_bottom(act=nn.Identity()),
    "AvgPool": lambda: behind_bottom(pool=nn.AvgPool2d(2)),
    "BatchNorm": lambda: behind_bottom(norm=nn.BatchNorm2d(6)),
    "BatchNorm, another eps": lambda: behind_bottom(norm=nn.BatchNorm2d(6, eps=10.0)),
    "ReLU on logits": lambda: headed(behind_bottom(), lambda net: net.head.append(nn.ReLU())),
    "square before the head": lambda: headed(behind_bottom(), lambda net: net.head.__setitem__(0, Squared())),
    "negated by a hook": lambda: headed(behind_bottom(), a_sound_hook),
    "another wall of as many cells": lambda: behind_bottom(wall=Wall.behind("top", (12, 12), 7)),
}


def test_one_fingerprint_per_function():
    """All have the same tensors of the same names: what differs is what is done with them."""
    found = {name: fingerprint(build()) for name, build in OTHERS.items()} | {"plain": fingerprint(behind_bottom())}
    assert len(set(found.values())) == len(found)
    assert fingerprint(behind_bottom()) == found["plain"] != fingerprint(behind_bottom(seed=1))


def test_the_fingerprint_does_not_depend_on_layout_or_mode():
    net = tiny()
    before = fingerprint(net)
    net.train().to(memory_format=torch.contiguous_format)
    assert fingerprint(net) == before
    net.to(memory_format=torch.channels_last)
    assert fingerprint(net) == before
    assert fingerprint(copy.deepcopy(net).double()) != before


def test_a_broken_certificate_does_not_pass_an_audit():
    net = behind_bottom(PeepHole)
    with pytest.raises(BrokenWall, match=r"unseen cell \(9, 4\)"):
        audit(net, photos(1)[0], ["gradcam"])
    with pytest.raises(BrokenWall, match=r"unseen cell \(9, 4\)"):
        audit(net, photos(1)[0], ["gradcam"], certificate=certify(net))


# What is on disk is a record, never believed


@pytest.fixture(scope="module")
def sound():
    return certify(tiny(), seeds=1)


def loaded(tmp_path, raw: dict) -> Certificate:
    (tmp_path / "certificate.json").write_text(json.dumps(raw))
    return Certificate.load(tmp_path / "certificate.json")


def test_a_certificate_comes_back_from_json(tmp_path):
    net = behind_bottom(PeepHole)
    certificate = certify(net)
    certificate.save(tmp_path / "certificate.json")
    back = Certificate.load(tmp_path / "certificate.json")
    assert back.fingerprint == certificate.fingerprint
    assert back.checks == certificate.checks
    assert np.array_equal(back.unseen_pixels, net.regions.unseen)
    assert np.array_equal(back.unseen_cells, net.wall.unseen)
    assert back.raise_if_other(net) is back
    assert not back.holds
    assert [path.name for path in tmp_path.iterdir()] == ["certificate.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fingerprint": "a", "unseen_pixels": ["01"]}'])
def test_a_damaged_certificate_is_refused(tmp_path, text):
    (tmp_path / "certificate.json").write_text(text)
    with pytest.raises(ValueError, match=r"certificate\.json is no whole certificate .*write it again"):
        Certificate.load(tmp_path / "certificate.json")


def test_a_certificate_that_is_not_there_is_refused_in_one_line(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ValueError, match=r"is no whole certificate .*write it again"):
            Certificate.load(path)


def test_a_certificate_without_its_proofs_does_not_hold(tmp_path, sound):
    for kept in range(len(DEMANDED)):
        raw = sound.to_dict()
        with pytest.raises(BrokenWall, match=rf"{DEMANDED[kept][0]} \(eval\): not proved"):
            loaded(tmp_path, raw | {"checks": raw["checks"][:kept]}).raise_if_broken()


def test_passed_is_true_or_false_and_nothing_that_python_takes_for_it(tmp_path, sound):
    raw = sound.to_dict()
    raw["checks"][1]["passed"] = "false"
    with pytest.raises(ValueError, match="`passed` is true or false"):
        loaded(tmp_path, raw)
    with pytest.raises(ValueError, match=r"`fingerprint`, .*are text"):
        loaded(tmp_path, sound.to_dict() | {"fingerprint": None})
    raw["checks"][1] |= {"passed": True, "name": ["proof"]}
    with pytest.raises(ValueError, match="`name`, `mode` and `detail` are text"):
        loaded(tmp_path, raw)


def test_a_forged_certificate_does_not_open_an_audit(tmp_path, sound):
    """All checks passed, the right fingerprint: the audit proves the net itself."""
    leaking = behind_bottom(PeepHole)
    forged = loaded(tmp_path, sound.to_dict() | {"fingerprint": fingerprint(leaking)})
    assert forged.holds
    with pytest.raises(BrokenWall, match=r"unseen cell \(9, 4\)"):
        audit(leaking, photos(1)[0], ["hirescam"], certificate=forged)


@pytest.mark.parametrize("which", ["unseen_pixels", "unseen_cells"])
def test_masks_that_are_not_the_nets_are_refused(tmp_path, sound, which):
    raw = sound.to_dict()
    raw[which] = ["".join("10"[int(letter)] for letter in row) for row in raw[which]]
    with pytest.raises(BrokenWall, match="unseen pixels or cells are not those of the net"):
        audit(tiny(), photos(1)[0], ["hirescam"], certificate=loaded(tmp_path, raw))


def test_the_summary_reads_as_a_list(sound):
    lines = sound.summary().splitlines()
    assert lines[0].startswith("264 of 576 pixels unseen, graph ")
    assert lines[1].split(maxsplit=3)[:3] == ["pass", "graph", "eval"]
    assert lines[2].split(maxsplit=3) == ["pass", "proof", "eval", "no path from 264 pixels to a logit"]
    assert len(lines) == 1 + len(sound.checks) and {name for name, _ in DEMANDED} < {
        check.name for check in sound.checks
    }

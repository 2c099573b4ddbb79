"""Other libraries' explainers: equal to ours where the formula is, and nothing of theirs stays behind."""

import copy
import importlib
import random

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from tests.graph.nets import Classifier, drawn
from tests.nets import photos, tiny, trained_tiny
from wallcheck import adapters
from wallcheck.adapters._stand_in import stand_in
from wallcheck.auditing import audit
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.graph import _tidy
from wallcheck.models import blind
from wallcheck.numerics import unit_range

for library in adapters.LIBRARIES:
    importlib.import_module(library)


@pytest.fixture(scope="module")
def evidence():
    return Evidence(trained_tiny(), photos(3, seed=5)[0])


def shown(maps, size=None):
    """A raw map as the libraries show it: rectified, stretched and, for pytorch-grad-cam, enlarged and stretched again."""
    maps = unit_range(maps.clamp(min=0))
    return maps if size is None else unit_range(interpolate(maps[:, None], size, mode="bilinear")[:, 0])


EQUAL_SHOWN = ("gradcam", "xgradcam", "hirescam", "layercam", "scorecam", "ablationcam", "segeigencam", "fem")


@pytest.mark.parametrize("name", EQUAL_SHOWN)
def test_grad_cam_shows_our_map(name, evidence):
    (theirs, *_) = adapters.counterparts(name)
    assert theirs.name.startswith("pytorch_grad_cam.") and theirs.grid == "pixels"
    torch.testing.assert_close(
        theirs(evidence), shown(METHODS[name](evidence), evidence.net.image_size), rtol=0, atol=2e-3
    )


@pytest.mark.parametrize("name", ["eigencam", "eigengradcam", "kpcacam"])
def test_grad_cam_shows_our_direction_with_either_sign(name, evidence):
    """It leaves the sign of a singular vector to LAPACK; we do not."""
    (theirs,) = adapters.counterparts(name)
    ours = METHODS[name](evidence)
    positive, negative = (shown(sign * ours, evidence.net.image_size) for sign in (1, -1))
    for map_, *either in zip(theirs(evidence), positive, negative, strict=True):
        assert min((map_ - one).abs().max() for one in either) < 2e-3


@pytest.mark.parametrize("name", ["gradcam", "xgradcam", "layercam", "scorecam_torchcam"])
def test_torchcam_shows_our_map(name, evidence):
    (theirs,) = [m for m in adapters.counterparts(name) if m.name.startswith("torchcam.")]
    torch.testing.assert_close(theirs(evidence), shown(METHODS[name](evidence)), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["gradcam", "hirescam", "gradient", "inputxgradient", "integrated_gradients", "guidedbp"]
)
def test_captum_gives_our_raw_map(name, evidence):
    (theirs,) = [m for m in adapters.counterparts(name) if m.name.startswith("captum.")]
    ours = METHODS[name](evidence)
    torch.testing.assert_close(theirs(evidence), ours, rtol=1e-4, atol=1e-5 * float(ours.abs().max()))


def test_captum_deeplift_is_ours_without_max_pools():
    net = tiny(plan=(6, 8), wall={"side": "bottom", "cells": 14})
    ev = Evidence(net, photos(3, seed=5)[0])
    ours = METHODS["deeplift"](ev)
    torch.testing.assert_close(adapters.captum("DeepLift")(ev), ours, rtol=1e-3, atol=1e-5 * float(ours.abs().max()))


def test_guided_gradcam_is_captums_up_to_its_nearest_neighbours(evidence):
    """captum enlarges by nearest neighbour, we as the paper; where the coarse map is flat they agree."""
    theirs, ours = adapters.captum("GuidedGradCam")(evidence), METHODS["guidedgradcam"](evidence)
    alike = torch.nn.functional.cosine_similarity(theirs.flatten(1), ours.flatten(1))
    assert alike.min() > 0.9


@pytest.mark.parametrize("name", sorted(adapters.CAPTUM))
def test_verdicts_of_what_only_captum_has(name, evidence):
    method = adapters.CAPTUM[name]
    unseen = method(evidence)[:, torch.from_numpy(evidence.regions.unseen.copy())]
    assert (torch.count_nonzero(unseen) == 0) == (method.verdict == "zero")


def test_methods_are_ours_and_captums():
    assert set(adapters.methods()) == set(METHODS) | set(adapters.CAPTUM)
    assert set(METHODS).isdisjoint(adapters.CAPTUM)
    assert set(adapters.COUNTERPARTS) <= set(METHODS)


PEERS = [
    adapters.pytorch_grad_cam("ScoreCAM", batch_size=4),
    adapters.pytorch_grad_cam("AblationCAM"),
    adapters.pytorch_grad_cam("RandomCAM"),
    adapters.torchcam("SSCAM", num_samples=2),
    adapters.captum("DeepLift"),
    adapters.CAPTUM["gradientshap"],
]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peers_leave_nothing_behind(peer, capfd):
    net = tiny().train()
    before, flags = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    states = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first = peer(Evidence(net, photos(1)[0]))
    torch.testing.assert_close(peer(Evidence(net, photos(1)[0])), first)  # the evidence's seed decides
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert [m.training for m in net.modules()] == flags
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert (states[1], states[2]) == (np.random.get_state()[1].tolist(), random.getstate())
    assert capfd.readouterr() == ("", "")


def test_stand_in_shares_memory_with_the_net_and_agrees_with_it():
    net, images = tiny(), photos(2)[0]
    ordinary = stand_in(net)
    assert torch.equal(ordinary(images), net(images))
    theirs = {parameter.data_ptr() for parameter in ordinary.parameters()}
    assert theirs == {parameter.data_ptr() for parameter in net.parameters()}
    assert not {id(p) for p in ordinary.parameters()} & {id(p) for p in net.parameters()}
    assert stand_in(net) is not ordinary  # each call has its own: what one library leaves on it, no other meets


def test_a_net_has_an_ordinary_model_and_its_target_layer_for_any_library():
    net, images = tiny(), photos(2)[0]
    seen = []
    with net.target_layer.register_forward_hook(lambda module, given, out: seen.append(out)):
        assert torch.equal(net.model(images), net(images))
    assert torch.equal(seen[0], net.activations(images))
    assert net.model is net.model and net.target_layer in net.model.modules()
    net.head[-1].bias.data += 1
    assert torch.equal(net.model(images), net(images))


class Biased(torch.nn.Module):
    """Each channel's bias is a linear layer's answer to a constant, as the position biases of Swin v2 are."""

    def __init__(self):
        super().__init__()
        self.conv, self.mlp = torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.Linear(2, 6)
        self.register_buffer("place", torch.tensor([[0.5, -1.0]]))

    def forward(self, x):
        return self.conv(x).relu() + self.mlp(self.place).relu()[..., None, None]


def test_modules_on_constants_are_modules_too(monkeypatch):
    """Constants are folded where they can be; Swin v2's cannot."""
    monkeypatch.setattr(_tidy, "_fold", lambda run: None)
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    net = blind(drawn(Classifier(Biased())), 8, None, "bottom:1/2")
    assert torch.equal(net.model(images), net(images))


def test_unknown_explainers_are_answered_with_those_there_are(evidence):
    with pytest.raises(ValueError, match=r"no explainer 'GradKAM'; it has .*GradCAM"):
        adapters.pytorch_grad_cam("GradKAM")(evidence)


def test_a_missing_library_says_how_to_get_it(evidence, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(ImportError, match=r"pip install 'wallcheck\[peers\]'"):
        adapters.captum("Saliency")(evidence)


def test_an_explainer_built_on_the_ordinary_module_goes_on_after_an_audit():
    """Each audit makes and proves the graph anew; as long as it is the same function, the module stays the same one."""
    net = tiny()
    before, layer = net.model, net.target_layer
    audit(net, photos(2)[0], ["gradcam"], metrics=["leak_mass"])
    assert net.model is before and net.target_layer is layer
    net.head[1].weight.data += 1
    audit(net, photos(2)[0], ["gradcam"], metrics=["leak_mass"])
    assert torch.equal(net.model(photos(2)[0]), net(photos(2)[0]))

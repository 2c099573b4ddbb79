"""Walled models on disk: the file tells what rebuilds them, and what comes back is the same graph."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import wallcheck as wc
from tests.models.opening import Own
from wallcheck import models

OWN = "tests.models.opening:own"
SIZE = 12


def walled(name=OWN, kind="head", wall="bottom:1/2", **more):
    model = models.opened(name)
    with torch.no_grad():
        for number, value in enumerate(model.state_dict().values()):
            if value.is_floating_point():  # another net than the constructor draws
                value += torch.rand(value.shape, generator=torch.Generator().manual_seed(number))
    return wc.blind(model, SIZE, wall=wall, kind=kind, **more)


@pytest.mark.parametrize("kind", ["head", "trunk"])
@pytest.mark.parametrize("name", [OWN, "tests.models.opening:weighted"])
def test_the_loaded_net_is_the_same_graph(tmp_path, kind, name):
    net = walled(name, kind, description={"classes": ["ant", "bee", "cow"]})
    again = models.load(models.save(net, tmp_path / "net.safetensors"), own_code=True)
    assert again.graph.fingerprint == net.graph.fingerprint
    images = torch.randn(2, 3, SIZE, SIZE)
    assert torch.equal(again(images), net(images))
    told = dict(builder="blind", model=name, options={}, image_size=[SIZE, SIZE], layer="conv_3", wall="bottom:1/2", kind=kind, colours=3, classes=["ant", "bee", "cow"])  # fmt: skip
    assert again.description == net.description == told
    assert json.loads((tmp_path / "net.json").read_text()) == {"format": 1, **told}
    assert set(load_file(tmp_path / "net.safetensors")) == set(models.opened(name).state_dict())


def test_a_wall_of_any_shape_comes_back(tmp_path):
    wall = wc.Wall(np.eye(SIZE, dtype=bool)[::-1].copy())
    net = walled(wall=wall)
    again = models.load(models.save(net, tmp_path / "net.safetensors"), own_code=True)
    assert again.wall == wall and again.graph.fingerprint == net.graph.fingerprint


def test_a_member_of_a_family_needs_no_permission(tmp_path):
    net = wc.blind(models.opened("small:vgg_bn", num_classes=3), 96, kind="trunk")
    assert models.load(models.save(net, tmp_path / "net.safetensors")).graph.fingerprint == net.graph.fingerprint


def test_code_of_ones_own_is_not_run_unasked(tmp_path):
    path = models.save(walled(), tmp_path / "net.safetensors")
    with pytest.raises(
        ValueError, match=r"loading this net runs tests.models.opening:own; if you trust the file, .*own_code=True"
    ):
        models.load(path)


def test_a_net_that_nobody_opened_is_refused_with_what_to_do(tmp_path):
    for described in (None, {"classes": ["ant"]}):
        net = wc.blind(Own().eval(), SIZE, description=described)
        with pytest.raises(
            ValueError, match=r"no description, .*wallcheck.models.opened\('package.module:function'\) before blind"
        ):
            models.save(net, tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


def test_what_was_changed_since_is_refused(tmp_path):
    model = models.opened(OWN)
    model.fc = nn.Linear(6, 2)
    with pytest.raises(ValueError, match=r"changed after it was built.*fc.weight is \(2, 6\), the model has \(3, 6\)"):
        models.save(wc.blind(model, SIZE), tmp_path / "net.safetensors")
    hooked = models.opened(OWN)
    hooked.conv_3.register_forward_hook(lambda module, inputs, value: value.clamp(max=0.25))
    with pytest.raises(ValueError, match=r"changed after it was built.*another graph comes of its description"):
        models.save(wc.blind(hooked, SIZE), tmp_path / "net.safetensors")
    net = walled()
    next(each for name, each in net.named_buffers() if "fc" in name).mul_(2)  # the model's own values change with it
    assert (
        models.load(models.save(net, tmp_path / "net.safetensors"), own_code=True).graph.fingerprint
        == net.graph.fingerprint
    )


@pytest.mark.parametrize(
    "changes",
    [dict(model="small:nothing"), dict(model=3), dict(options={"num_classes": 4}), dict(options=3), dict(options={"weights": "DEFAULT"}), dict(layer="nowhere"), dict(wall="below"), dict(wall=["01"]), dict(kind="roof"), dict(image_size="x")],
    ids=str,
)  # fmt: skip
def test_a_damaged_description_is_a_line(tmp_path, changes):
    net = wc.blind(models.opened("small:vgg_bn", num_classes=3), 96)
    path = tmp_path / "net.safetensors"
    save_file(net._origin, path, metadata={"wallcheck": json.dumps({"format": 1, **net.description, **changes})})
    with pytest.raises(ValueError, match=r"^(?!.*\n)") as raised:
        models.load(path)
    assert len(str(raised.value)) < 600


def test_keys_that_look_alike_without_dots_are_tensors_of_their_own():
    model = Own().eval()
    with torch.no_grad():
        model.conv_3.weight.mul_(3)
    images = torch.randn(2, 3, SIZE, SIZE)
    assert torch.equal(
        wc.blind(model, SIZE, wall="bottom:1").graph.features(images), model.conv_3(model.conv(images).relu())
    )

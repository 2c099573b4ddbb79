"""The command line on models by name: where to cut, certificates, audits; and one line for what cannot be."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import wallcheck as wc
from tests.models.opening import Own
from tests.sets import write_photographs
from wallcheck import models
from wallcheck.certificate import Certificate
from wallcheck.results import merge

OWN = "tests.models.opening:own"


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(7)
    save_file(Own(5).state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_layers_are_those_of_the_library(wallcheck):
    status, printed, errors = wallcheck("layers", OWN, "--image_size", 12, "--wall", "bottom:3", "--json")
    assert (status, errors) == (0, "")
    found = json.loads(printed)
    expected = wc.layers(Own().eval(), 12, "bottom:3")
    assert [(one["name"], one["shape"], one["head"], one["trunk"]) for one in found] == [
        (one.name, list(one.shape), one.head, one.trunk) for one in expected
    ]
    status, printed, _ = wallcheck("layers", OWN, "--image_size", 12)
    assert status == 0 and "conv_3" in printed and "6 x 12 x 12" in printed and "72 (50%)" in printed


def test_where_no_wall_hides_anything_it_is_loud(wallcheck, monkeypatch):
    none = models.WhereToCut("mean", (), (4, 2, 2), 0, 0, None, 144)
    monkeypatch.setattr(models, "layers", lambda *_: [none])
    status, printed, errors = wallcheck("layers", OWN, "--image_size", 12)
    assert status == 2 and "NONE" in printed and "cannot stand" in printed
    assert errors.startswith("wallcheck layers: NO WALL bottom:1/2 HIDES A PIXEL at any of 1 layers")


def test_certify_a_model_by_name(wallcheck, weights, tmp_path):
    arguments = ("certify", OWN, "--weights", weights, "--model_args", '{"classes": 5}', "--image_size", "12x16")
    status, printed, errors = wallcheck(
        *arguments, "--kind", "trunk", "--wall", "left:1/2", "--out", tmp_path / "c.json"
    )
    assert status == 0 and "FAIL" not in printed
    assert errors == "wallcheck: wall left: 8 rows or columns of pixels, the nearest to 1/2 that the strides allow\n"
    net = wc.blind(models.opened(OWN, weights, classes=5), (12, 16), wall="left:1/2", kind="trunk")
    Certificate.load(tmp_path / "c.json").raise_if_broken().raise_if_other(net)


def test_a_wall_that_hides_nothing_ends_with_status_1(wallcheck):
    status, printed, errors = wallcheck("certify", OWN, "--image_size", 12, "--wall", "bottom:1", "--layer", "conv_3")
    assert status == 1 and "0 of 144 pixels unseen" in printed
    assert "wallcheck certify: the wall is broken: " in errors and "no pixel is unseen" in errors


def test_audit_a_model_by_name(wallcheck, weights, tmp_path):
    folder, out = write_photographs(tmp_path / "photos", 6), tmp_path / "run"
    arguments = (
        "audit",
        OWN,
        "--weights",
        weights,
        "--model_args",
        '{"classes": 5}',
        "--image_size",
        12,
        "--kind",
        "trunk",
    )
    status, printed, _ = wallcheck(*arguments, "--images", folder, "--out", out, "--methods", "gradcam", "hirescam")
    assert status == 0 and "own on photos" in printed
    rows = merge(out)
    assert set(rows["net"]) == {"own"} and rows["image"].nunique() == 6
    of = rows[(rows["view"] == "rectified") & (rows["on"] == "grid") & (rows["metric"] == "leak_any")]
    assert np.nansum(of.loc[of["method"] == "hirescam", "value"]) == 0


def test_a_saved_walled_model_is_taken_as_a_file(wallcheck, tmp_path):
    path = models.save(wc.blind(models.opened(OWN), 12, kind="trunk"), tmp_path / "net.safetensors")
    status, _, errors = wallcheck("certify", path)
    assert status == 2 and "loading this net runs tests.models.opening:own" in errors
    assert wallcheck("certify", path, "--own_code")[0] == 0
    status, _, errors = wallcheck("certify", path, "--kind", "trunk")
    assert status == 2 and "--kind is for models by name" in errors
    status, _, errors = wallcheck("layers", path)
    assert status == 2 and "is cut already; layers are of models by name" in errors


@pytest.mark.parametrize(
    "arguments, told",
    [
        (("layers", "torchvision:resnet5"), "torchvision has no model 'resnet5'; nearest: resnet50"),
        (("layers", "nowhere.nets:make"), "nowhere.nets cannot be imported"),
        (("layers", OWN, "--model_args", "{classes: 5}"), "model_args is no JSON"),
        (("layers", OWN, "--model_args", "[5]"), "model_args is [5], expected names with values"),
        (("layers", OWN, "--model_args", '{"wide": 5}'), "is not built with {'wide': 5}"),
        (("layers", OWN, "--image_size", "big"), "image_size is 'big'; write a side in pixels"),
        (("layers", OWN, "--image_size", "0"), "image_size is '0'"),
        (("certify", OWN, "--image_size", "12", "--layer", "conv_4"), "there is no layer 'conv_4'; nearest: conv_3"),
        (("certify", OWN, "--image_size", "12", "--wall", "below"), "'below' is no wall"),
        (("certify", OWN, "--image_size", "12", "--kind", "roof"), "kind is 'roof'; choose 'head' or 'trunk'"),
        (("certify", OWN, "--weights", "nowhere.pt"), "no weights at nowhere.pt"),
    ],
)
def test_errors_are_one_line_and_status_2(wallcheck, arguments, told):
    status, _, errors = wallcheck(*arguments)
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.startswith(f"wallcheck {arguments[0]}: ") and told in errors

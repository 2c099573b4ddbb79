"""A checkpoint in the layout of the paper's masked VGG16, made here at a smaller scale: read, or refused with what is wrong."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wallcheck import models
from wallcheck.certificate import certify
from wallcheck.models import published
from wallcheck.models._vgg import VGG16_PLAN, wall_from

SCALE = dict(plan=(3, 4, "M", 5, "M", 6, 2), image_size=32, hidden=(7, 7), wall={"side": "bottom", "cells": 5})
CELLS, SEEN = 8, 3  # 32 px / 4


class Masked(nn.Module):
    """torchvision's VGG as the paper changed it: no last pool, a mask on the first linear layer's weights."""

    def __init__(self, classes=4, masked=True):
        super().__init__()
        layers, channels = [], 3
        for step in SCALE["plan"]:
            layers += [nn.MaxPool2d(2, 2)] if step == "M" else [nn.Conv2d(channels, step, 3, padding=1), nn.ReLU(True)]
            channels = channels if step == "M" else step
        self.features = nn.Sequential(*layers)
        flat = channels * CELLS * CELLS
        self.classifier = nn.Sequential(nn.Linear(flat, 7), nn.ReLU(True), nn.Dropout(), nn.Linear(7, 7), nn.ReLU(True), nn.Dropout(), nn.Linear(7, classes))  # fmt: skip
        draw = torch.Generator().manual_seed(0)
        for value in self.parameters():  # whole numbers, so that sums in any order are equal to the bit
            value.data = torch.randint(-1, 2, value.shape, generator=draw).float()
        if masked:
            self.classifier[0].weight.data.view(7, channels, CELLS, CELLS)[:, :, SEEN:] = 0

    def forward(self, images):
        return self.classifier(self.features(images).flatten(1))


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_its_logits_are_equal_to_the_bit(tmp_path, suffix):
    theirs, path = Masked().eval(), tmp_path / f"vgg.{suffix}"
    save_file(theirs.state_dict(), path) if suffix == "safetensors" else torch.save(theirs.state_dict(), path)
    net = published(path, **SCALE)
    images = torch.randint(-1, 2, (5, 3, 32, 32), generator=torch.Generator().manual_seed(1)).float()
    assert theirs(images).unique().numel() > 10
    assert torch.equal(net(images), theirs(images))
    assert int(net.wall.seen.sum()) == SEEN * CELLS
    assert certify(net).holds


def test_it_is_saved_as_any_other_net(tmp_path):
    torch.save({"state_dict": {f"module.{k}": v for k, v in Masked().state_dict().items()}}, tmp_path / "vgg.pth")
    net = published(tmp_path / "vgg.pth", **SCALE)
    again = models.load(models.save(net, tmp_path / "net.safetensors"))
    assert again.graph.fingerprint == net.graph.fingerprint


def test_the_papers_own_scale_is_the_default(tmp_path):
    torch.save(Masked().state_dict(), tmp_path / "small.pt")
    with pytest.raises(
        ValueError, match=r"features.0.weight is \(3, 3, 3, 3\), expected \(64, 3, 3, 3\); give the plain state dict"
    ):
        published(tmp_path / "small.pt", plan=VGG16_PLAN, image_size=32, hidden=(8, 8), wall=None)
    papers = published.__kwdefaults__
    assert papers == dict(plan=VGG16_PLAN, image_size=224, hidden=(4096, 4096), wall={"side": "bottom", "cells": 9})
    assert wall_from("bottom:54/224", VGG16_PLAN, 224) == papers["wall"]  # vgg16_walls' own


def test_a_checkpoint_without_mask_is_refused_and_read_as_what_it_is(tmp_path):
    theirs = Masked(masked=False).eval()
    torch.save(theirs.state_dict(), tmp_path / "vgg.pt")
    with pytest.raises(ValueError, match=r"is not masked: classifier.0.weight has weights up to 1 for unseen cell \(3, 0\) and for 40 of 40 unseen cells, expected exactly 0"):  # fmt: skip
        published(tmp_path / "vgg.pt", **SCALE)
    net = published(tmp_path / "vgg.pt", **SCALE | {"wall": None})
    images = torch.ones(2, 3, 32, 32)
    assert torch.equal(net(images), theirs(images))


def test_one_weight_behind_the_wall_is_found(tmp_path):
    theirs = Masked()
    theirs.classifier[0].weight.data.view(7, 2, CELLS, CELLS)[3, 1, 6, 2] = 1e-30
    torch.save(theirs.state_dict(), tmp_path / "vgg.pt")
    with pytest.raises(ValueError, match=r"up to 1e-30 for unseen cell \(6, 2\) and for 1 of 40"):
        published(tmp_path / "vgg.pt", **SCALE)


@pytest.mark.parametrize(
    "name, value, told",
    [
        ("features.0.weight", None, r"features.0.weight is missing, expected \(3, 3, 3, 3\)"),
        ("classifier.0.weight", torch.zeros(7, 90), r"classifier.0.weight is \(7, 90\), expected \(7, 128\)"),
        ("classifier.3.bias", None, r"classifier.3.bias is missing, expected \(7,\)"),
        ("features.1.weight", torch.zeros(3), r"features.1.weight is \(3,\), expected no such tensor"),
    ],
)
def test_other_shapes_are_refused(tmp_path, name, value, told):
    state = Masked().state_dict() | ({name: value} if value is not None else {})
    if value is None:
        state.pop(name)
    torch.save(dict(state), tmp_path / "vgg.pt")
    with pytest.raises(ValueError, match=told):
        published(tmp_path / "vgg.pt", **SCALE)

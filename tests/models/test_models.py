"""Blind networks: construction, twins and presets."""

import copy

import pytest
import torch
from torch import nn

from tests.nets import same_weights, tiny, trained_tiny
from wallcheck import models
from wallcheck.geometry import Wall
from wallcheck.graph._nodes import op_of
from wallcheck.models import PRESETS, BlindNet, in_mode

# Twins and presets


@pytest.mark.parametrize("walled", [True, False])
def test_vgg_small_has_its_shape(walled):
    net = PRESETS["vgg_small"](walled=walled)
    assert net.image_size == (96, 96)
    assert net.activations(torch.zeros(1, 3, 96, 96)).shape == (1, 64, 12, 12)
    assert net(torch.zeros(2, 3, 96, 96)).shape == (2, 10)
    assert net.wall.seen.sum() == (4 * 12 if walled else 12 * 12)
    assert net.visible == ((slice(0, 48) if walled else slice(0, 96)), slice(0, 96))


def test_twins_differ_in_nothing_but_the_wall():
    walled, unwalled = (PRESETS["vgg_small"](walled=walled, seed=5) for walled in (True, False))
    differing = {k for k in walled.description if walled.description[k] != unwalled.description[k]}
    assert differing == {"wall"}
    assert same_weights(walled.features, unwalled.features)
    assert [type(m) for m in walled.head] == [type(m) for m in unwalled.head]
    pairs = zip(walled.head.named_parameters(), unwalled.head.named_parameters(), strict=True)
    unlike = {name: (tuple(a.shape), tuple(b.shape)) for (name, a), (_, b) in pairs if not torch.equal(a, b)}
    assert unlike == {"1.weight": ((128, 64 * 4 * 12), (128, 64 * 12 * 12))}  # by the cells it is handed
    assert [op_of(node) for node in walled.graph.quick.line.nodes] == [
        op_of(node) for node in unwalled.graph.quick.line.nodes
    ]


def test_a_preset_takes_another_size_and_wall(tmp_path):
    net = PRESETS["vgg_small"](image_size=128, wall="left:1/2", num_classes=3)
    assert net.image_size == (128, 128)
    assert net.description["wall"] == {
        "side": "left",
        "cells": 10,
    }  # of 16; the last seen column looks 24 px past itself
    assert net.regions.unseen.all(0).nonzero()[0].tolist() == list(range(64))
    loaded = models.load(models.save(net, tmp_path / "net.safetensors"))
    assert loaded.wall == net.wall
    assert same_weights(loaded, net)
    assert PRESETS["vgg_small"](image_size=64, wall="none").wall.is_open
    assert PRESETS["vgg_small_pooled"](image_size=64, wall="top:3").description["wall"] == {"side": "top", "cells": 3}


def test_presets_keep_their_walls_in_pixels_at_other_sizes():
    for size in (64, 96, 128, 192):
        assert PRESETS["vgg_small"](image_size=size).regions.unseen.all(1).sum() == size // 2
    assert PRESETS["vgg_small"]().description["wall"] == {"side": "bottom", "cells": 8}
    with torch.device("meta"):
        assert PRESETS["vgg16_walls"]().description["wall"] == {"side": "bottom", "cells": 9}
        wide = PRESETS["vgg16_walls"](image_size=448).regions.unseen.all(1).mean()
    assert wide == pytest.approx(54 / 224, abs=1 / 56)  # to the nearest of walls 16 px apart


def test_files_that_know_no_classes_and_files_that_do_load_alike(tmp_path):
    net = tiny()
    net.description["classes"] = ["ant", "bee", "cow", "dog"]
    path = models.save(net, tmp_path / "net.safetensors")
    assert models.load(path).description["classes"] == ["ant", "bee", "cow", "dog"]
    assert same_weights(models.untrained(models.load(path), 5), models.untrained(tiny(), 5))


def test_presets_repeat_by_seed_alone():
    torch.manual_seed(1)
    one, state = PRESETS["vgg_small"](seed=7), torch.get_rng_state()
    torch.manual_seed(2)
    assert same_weights(one, PRESETS["vgg_small"](seed=7))
    assert not same_weights(one, PRESETS["vgg_small"](seed=8))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


def test_untrained_is_the_same_net_with_other_weights():
    net = models.untrained(trained_tiny(), seed=3)
    assert net.description == trained_tiny().description
    assert net.wall == trained_tiny().wall
    assert not same_weights(net, trained_tiny())


def test_initialisation_is_torchvisions():
    net = PRESETS["vgg_small"](seed=0)
    conv = net.features[-2].weight
    assert conv.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert net.head[1].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not any(parameter.any() for name, parameter in net.named_parameters() if "bias" in name)


def test_unknown_preset_is_answered_with_the_nearest():
    with pytest.raises(LookupError, match=r"no preset named 'vgg_smal'; nearest: vgg_small"):
        PRESETS["vgg_smal"]
    with pytest.raises(ValueError, match="registered already"):
        PRESETS["vgg_small"] = models.vgg_small


# Construction


def test_the_wall_hands_over_seen_cells_only():
    cells = torch.arange(16.0).view(1, 1, 4, 4)
    corners = Wall(torch.tensor([[1, 0, 0, 1], [0] * 4, [0] * 4, [1, 0, 0, 1]]).bool().numpy())
    for wall, handed in (
        (Wall.behind("bottom", (4, 4), 3), [[0, 1, 2, 3]]),
        (Wall.behind("left", (4, 4), 3), [[3], [7], [11], [15]]),
        (corners, [[0, 3, 12, 15]]),
    ):
        net = BlindNet(nn.Sequential(nn.Conv2d(3, 1, 1)), nn.Flatten(), wall, (4, 4))
        assert net.graph.hand(cells)[0, 0].tolist() == handed
        assert net.logits_from(cells)[0].tolist() == [cell for row in handed for cell in row]


def test_in_mode_gives_everything_back_when_the_block_fails():
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Dropout()).train()
    net[2].eval()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ZeroDivisionError), in_mode(net, training=True):
        net(torch.randn(4, 3, 5, 5))
        assert net[2].training
        raise ZeroDivisionError
    assert [module.training for module in net] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 1, 24, 24), r"images have shape \(1, 1, 24, 24\), this net takes \(B, 3, 24, 24\)"),
        (torch.zeros(1, 4, 24, 24), r"shape \(1, 4, 24, 24\)"),
        (torch.zeros(3, 24, 24), r"shape \(3, 24, 24\)"),
        (torch.zeros(1, 3, 24, 25), "resize and convert them"),
        (torch.zeros(1, 3, 24, 24, dtype=torch.uint8), r"torch\.uint8, expected floating point"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, message):
    for door in (tiny(), tiny().activations):
        with pytest.raises(ValueError, match=message):
            door(images)


def test_activations_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"activations have \(5, 12\) cells, the wall covers \(12, 12\)"):
        tiny().logits_from(torch.zeros(1, 8, 5, 12))

"""Blind networks: construction, twins, and what is kept on disk."""

import copy
import json
import pickle
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.nets import photos, tiny, trained_tiny
from wallcheck import models
from wallcheck.auditing import audit
from wallcheck.certificate import certify, fingerprint
from wallcheck.geometry import Wall
from wallcheck.graph._nodes import op_of
from wallcheck.models import PRESETS, BlindNet, in_mode


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return one.state_dict().keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in one.state_dict().items()
    )


# On disk


@pytest.mark.parametrize(
    "net",
    [tiny(), tiny(wall=None), tiny(wall={"side": "centre", "cells": 3}), tiny(pooled=True, hidden=()), tiny(dropout=0.5)],
    ids=["walled", "open", "centre", "pooled", "dropout"],
)  # fmt: skip
def test_a_net_comes_back_bit_by_bit(net, tmp_path):
    images = photos(3)[0]
    loaded = models.load(models.save(net, tmp_path / "new" / "net.safetensors"))
    assert fingerprint(loaded) == fingerprint(net)
    assert loaded.wall == net.wall
    assert loaded.description == net.description
    assert torch.equal(loaded(images), net(images))
    assert torch.equal(loaded.activations(images), net.activations(images))
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["net.json", "net.safetensors"]


def test_a_loaded_net_can_be_trained_on(tmp_path):
    net = models.load(models.save(tiny(), tmp_path / "net.safetensors"))
    net.train()(photos(2)[0]).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_saving_again_replaces_and_a_failed_save_keeps_the_old(tmp_path, monkeypatch):
    path = models.save(tiny(seed=1), tmp_path / "net.safetensors")
    models.save(tiny(seed=2), path)
    assert same_weights(models.load(path), tiny(seed=2))

    def fails(weights, file, **_):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("wallcheck.models._files.save_file", fails)
    with pytest.raises(OSError, match="disk full"):
        models.save(tiny(seed=3), path)
    assert same_weights(models.load(path), tiny(seed=2))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.json", "net.safetensors"]


@pytest.fixture
def saved(tmp_path):
    return models.save(tiny(), tmp_path / "net.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 400, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved, keep):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(
        ValueError, match=r"net\.safetensors is truncated or no safetensors file .*copy or train it again"
    ):
        models.load(saved)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model at .*; take one that comes with wallcheck .*, or train one"):
        models.load(tmp_path / "net.safetensors")


def test_pickles_are_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    for name in ("net.pt", "net.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        with pytest.raises(ValueError, match=r"no pickles|no safetensors file"):
            models.load(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 1, "builder"', r"net\.json is no JSON"),
        ("[]", "another format than 1"),
        ('{"format": 99}', "another format than 1; update wallcheck"),
        ('{"format": 1, "builder": "vit"}', r"net\.json describes another net than net\.safetensors itself"),
    ],
)
def test_a_damaged_description_is_refused(saved, text, message):
    saved.with_suffix(".json").write_text(text)
    with pytest.raises(ValueError, match=message):
        models.load(saved)


def test_weights_of_another_net_are_refused(saved):
    description = json.loads(saved.with_suffix(".json").read_text())
    saved.with_suffix(".json").write_text(json.dumps({**description, "hidden": [17]}))
    with pytest.raises(ValueError, match=r"net\.json describes another net .*; remove net\.json, or copy both again"):
        models.load(saved)
    save_file(load_file(saved), saved)
    with pytest.raises(
        ValueError, match=r"does not fit its description: head\.1\.weight is \(16, 480\), .* \(17, 480\)"
    ):
        models.load(saved)


def test_nan_weights_load_and_the_certificate_names_them(tmp_path):
    net = tiny()
    net.head[1].weight.data[0, 0] = float("nan")
    certificate = certify(models.load(models.save(net, tmp_path / "net.safetensors")))
    assert [(c.name, c.detail) for c in certificate.checks if not c.passed] == [
        ("finite_weights", "head.1.weight holds NaN or infinity; train or load it again")
    ]


def test_a_net_without_description_cannot_be_saved(tmp_path):
    net = copy.deepcopy(tiny())
    net.description = None
    with pytest.raises(ValueError, match="no description"):
        models.save(net, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="no description"):
        models.untrained(net)
    assert list(tmp_path.iterdir()) == []


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


class Backwards(nn.Sequential):
    """A Sequential that runs in an order of its own."""

    def forward(self, images):
        for module in reversed(self):
            images = module(images)
        return images


POINTWISE = [
    nn.ReLU6,
    nn.Hardswish,
    nn.ELU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
    nn.PReLU,
    nn.Mish,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
]


def built(features, channels=3, size=32):
    """A net of these features, the bottom half of the cells unseen."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        features = features() if not isinstance(features, nn.Module) else features
        _, width, rows, columns = features.eval()(torch.zeros(1, channels, size, size)).shape
        wall = Wall.behind("bottom", (rows, columns), rows // 2)
        head = nn.Sequential(nn.Flatten(), nn.Linear(width * int(wall.seen.sum()), 4))
    return BlindNet(features, head, wall, (size, size)).eval()


@pytest.mark.parametrize("kind", [*POINTWISE, nn.LeakyReLU, nn.Dropout2d], ids=lambda kind: kind.__name__)
def test_activations_of_every_kind_are_certified_behind_batch_norms(kind):
    """So are depthwise convolutions; only training mode, in which norms take the batch's statistics, opens the wall."""
    net = built(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), kind(), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 6, 1),
            nn.BatchNorm2d(6), nn.ReLU(),
        )
    )  # fmt: skip
    certificate = certify(net, seeds=1, images=1).raise_if_broken()
    assert {check.mode for check in certificate.checks if not check.passed} == {"train"}
    # 8 rows of cells are seen; cell row 7 reads rows 6..8 of the layer before, which read 2 * 6 - 1 .. 2 * 8 + 1
    assert np.array_equal(np.flatnonzero(certificate.unseen_pixels.all(1)), np.arange(18, 32))


@pytest.mark.parametrize(
    "features",
    [
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, padding="same"), nn.MaxPool2d(2)),
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True)),
        lambda: nn.Sequential(nn.Conv2d(3, 6, 1), nn.AdaptiveAvgPool2d(8)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.AvgPool2d(2)),
        lambda: Backwards(nn.ReLU(), nn.Conv2d(3, 6, 3, padding=1)),
    ],
    ids=["same", "ceil_mode", "adaptive pool", "bottleneck", "an order of its own"],
)
def test_layers_whose_reach_the_graph_knows_are_certified(features):
    net = built(features)
    assert certify(net, seeds=1).raise_if_broken().unseen_pixels.any()
    assert torch.equal(net.logits_from(net.activations(photos(2, size=32)[0])), net(photos(2, size=32)[0]))


@pytest.mark.parametrize(
    ("features", "operation"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.InstanceNorm2d(6)), "instance_norm|batch_norm"),
        (lambda: nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.GroupNorm(2, 6)), "group_norm"),
        (lambda: nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular"), "conv2d"),
    ],
    ids=["instance norm", "group norm", "circular padding"],
)
def test_layers_that_read_the_whole_map_are_refused_by_operation(features, operation):
    problems = certify(built(features), seeds=1, images=1).problems
    assert re.search(f"reaches logit 0; it first spreads at .*({operation})", problems[0])


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_colours_than_three_are_read_off_the_first_convolution(channels):
    net = built(lambda: nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)), channels)
    assert certify(net, seeds=1).holds and net.colours == channels
    images = torch.randn(2, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    assert set(audit(net, images, ["gradcam"])["image"]) == {0, 1}
    with pytest.raises(ValueError, match=rf"this net takes \(B, {channels}, 32, 32\)"):
        net(torch.zeros(1, 3, 32, 32))


def test_unknown_preset_is_answered_with_the_nearest():
    with pytest.raises(LookupError, match=r"no preset named 'vgg_smal'; nearest: vgg_small"):
        PRESETS["vgg_smal"]
    with pytest.raises(ValueError, match="registered already"):
        PRESETS["vgg_small"] = models.vgg_small

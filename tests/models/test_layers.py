"""Layers of every kind below the wall: certified where their reach is known, refused by name where they read the whole map."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.nets import photos
from wallcheck.auditing import audit
from wallcheck.certificate import certify
from wallcheck.geometry import Wall
from wallcheck.models import BlindNet


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


class Blurred(nn.Conv2d):
    """A kernel that is one for all channels, as torchvision's gaussian_blur has it."""

    def forward(self, x):
        kernel = torch.full((3, 3), 1 / 9).expand(3, 1, 3, 3)
        return super().forward(functional.conv2d(x, kernel, padding=1, groups=3))


def test_constants_that_lie_in_one_place_for_all_channels_are_given_back_as_they_are():
    certificate = certify(built(lambda: nn.Sequential(Blurred(3, 6, 3, padding=1), nn.MaxPool2d(2))), seeds=1)
    assert certificate.raise_if_broken().unseen_pixels.any()


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_colours_than_three_are_read_off_the_first_convolution(channels):
    net = built(lambda: nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)), channels)
    assert certify(net, seeds=1).holds and net.colours == channels
    images = torch.randn(2, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    assert set(audit(net, images, ["gradcam"])["image"]) == {0, 1}
    with pytest.raises(ValueError, match=rf"this net takes \(B, {channels}, 32, 32\)"):
        net(torch.zeros(1, 3, 32, 32))

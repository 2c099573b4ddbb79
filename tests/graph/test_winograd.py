"""Wide convolutions by Winograd's way: the plain result to float32 rounding, within the memory spared for it."""

import pytest
import torch
from torch.nn.functional import conv2d

from tests.nets import photos
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.graph import lean, winograd
from wallcheck.models import vgg


@pytest.mark.parametrize("height, width", [(1, 1), (2, 3), (5, 4), (8, 8), (9, 14)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_convolution_in_double_precision_too(height, width, bias):
    draw = torch.Generator().manual_seed(height * width)
    maps = torch.randn(2, 6, height, width, generator=draw).double().to(memory_format=torch.channels_last)
    weight, offset = torch.randn(5, 6, 3, 3, generator=draw).double(), torch.randn(5, generator=draw).double()
    exact = conv2d(maps, weight, offset if bias else None, padding=1)
    transformed = torch.einsum("ab,oibc,dc->adio", winograd.G.double(), weight, winograd.G.double()).flatten(0, 1)
    for rows in {1, (height + 1) // 2, height}:
        found = winograd.convolved(maps, transformed, offset if bias else None, rows, width)
        torch.testing.assert_close(found, exact[:, :, :rows], rtol=1e-12, atol=1e-12)


def test_weights_are_transformed_as_in_the_paper():
    g = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    whole = winograd.transformed(g)
    assert whole.shape == (16, 3, 4)
    torch.testing.assert_close(whole[0].T, g[:, :, 0, 0])  # the corners of G g G^T are those of g
    torch.testing.assert_close(whole[15].T, g[:, :, 2, 2])
    torch.testing.assert_close(whole[5].T, g.sum((2, 3)) / 4)


def test_only_wide_plain_convolutions_of_float32_go_this_way():
    wide = dict(weight=torch.zeros(256, 256, 3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    assert winograd.pays(**wide)
    others = (dict(weight=torch.zeros(256, 128, 3, 3)), dict(stride=(2, 2)), dict(groups=2), dict(dilation=(2, 2)),
              dict(padding=(0, 0)), dict(weight=torch.zeros(256, 256, 3, 3).double()),
              dict(weight=torch.zeros(256, 256, 1, 1)))  # fmt: skip
    assert not any(winograd.pays(**wide | other) for other in others)


@pytest.fixture
def wide_net(monkeypatch):
    monkeypatch.setattr(winograd, "WIDE", 8)
    return vgg((8, 8, "M", 12, 8), 24, 4, hidden=(16,), wall={"side": "bottom", "cells": 5}).eval()


@pytest.mark.parametrize("side", ["bottom", "right", "top", "left"])
def test_seen_cells_are_the_same_to_rounding_and_to_the_bit_without_memory(side, wide_net):
    net = vgg((8, 8, "M", 12, 8), 24, 4, wall={"side": side, "cells": 5}).eval()
    parts = photos(2)[0][(..., *net.visible)]
    with torch.no_grad():
        (plain,) = net.graph.seen(parts)
        other = lean.cells(net.graph.quick.line, spare_mb=1)(parts)
        assert torch.equal(lean.cells(net.graph.quick.line)(parts), plain)
    assert not torch.equal(other, plain)  # it did go another way
    torch.testing.assert_close(other, plain, rtol=0, atol=5e-6 * float(plain.abs().max()))


def test_no_more_memory_is_taken_than_is_spared(wide_net, monkeypatch):
    taken = []
    plain = winograd.transformed
    monkeypatch.setattr(winograd, "transformed", lambda weight: taken.append(plain(weight)) or taken[-1])
    for spare in (0, 0.005, 0.012, 1):
        taken.clear()
        list(lean._steps(wide_net.graph.quick.line, narrow=True, spare_mb=spare))
        assert sum(u.numel() * 4 for u in taken) <= spare * 2**20
    assert len(taken) == 3  # all but the first, which has three channels


def test_score_cam_through_wide_convolutions_is_score_cam(wide_net, monkeypatch):
    images = photos(2, seed=3)[0]
    fast = METHODS["scorecam"](Evidence(wide_net, images))
    monkeypatch.setattr(winograd, "WIDE", 1000)
    slow = METHODS["scorecam"](Evidence(wide_net, images))
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-5 * float(slow.abs().max()))

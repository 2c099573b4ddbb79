"""The proof against brute force: every pixel of small images perturbed, on a dozen families; and leaks found where they are."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.graph.nets import FAMILIES, Block, Classifier, SqueezeExcite, conv, drawn
from wallcheck.geometry import Wall, regions
from wallcheck.models import blind, vgg

SIZE = 16
VALUES = (1e3, -1e3, 3.0, -0.5)


def brute(net, seeds: int = 3) -> np.ndarray:
    """(H, W): pixels that change no logit, whatever is put there in any colour; one image per pixel, all in one batch. Run
    in float64: where a change would round away it is no less a change."""
    model, unseen = net.model.double(), np.ones(net.image_size, dtype=bool)
    count = SIZE * SIZE
    for seed in range(seeds):
        base = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for value in VALUES:
            images = base.repeat(count, 1, 1, 1)
            images.flatten(2)[torch.arange(count), :, torch.arange(count)] += value * (1 + torch.arange(3))
            with torch.no_grad():
                changed = (model(images) != model(base.repeat(count, 1, 1, 1))).any(1)
            unseen &= ~changed.view(SIZE, SIZE).numpy()
    return unseen


LAYER = {"vit": "patches", "vit, mean of tokens": "patches"}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("wall", ["bottom:3/4", "left:1"])
def test_what_is_proved_unseen_behind_a_head_wall_is_what_no_pixel_changes(name, wall):
    net = blind(drawn(FAMILIES[name]()), SIZE, LAYER.get(name), wall)
    assert np.array_equal(net.regions.unseen, brute(net))
    assert net.regions.unseen.any() or wall == "left:1"


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_proved_unseen_behind_a_trunk_wall_is_one_side_exactly(name):
    net = blind(drawn(FAMILIES[name]()), SIZE, None, "bottom:1/2", "trunk")
    unseen = net.regions.unseen
    assert net.graph.problems == [] and np.array_equal(unseen, brute(net))
    walled = net.graph.walled
    if walled.sides:
        start, stop = walled.sides[1]
        assert (start, stop) == (stop - len(unseen[start:]), SIZE) and unseen[start:].all()
    else:
        assert unseen[SIZE // 2 :].all() and not unseen[: SIZE // 2].any()


CHAINS = {
    "padding": ((nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)), [(3, 1, 1, 1), (2, 2, 0, 1)]),
    "strides": ((nn.Conv2d(3, 4, 5, 2, 1), nn.AvgPool2d(3, 2, 1)), [(5, 2, 1, 1), (3, 2, 1, 1)]),
    "holes": ((nn.Conv2d(3, 4, 2, 1, 0, 3), nn.MaxPool2d(2, 2)), [(2, 1, 0, 3), (2, 2, 0, 1)]),
    "wide holes": ((nn.Conv2d(3, 4, 2, 2, 3, 5),), [(2, 2, 3, 5)]),
}


def spelt_out(cells: set[int], windows: list[tuple[int, int, int, int]], length: int) -> set[int]:
    """Pixels along an axis that cells read, by the definition of a window: size, stride, padding, dilation."""
    for size, stride, around, dilation in reversed(windows):
        cells = {cell * stride - around + k * dilation for cell in cells for k in range(size)}
    return {pixel for pixel in cells if 0 <= pixel < length}


@pytest.mark.parametrize("name", CHAINS)
def test_on_chains_the_arithmetic_of_windows_says_the_same(name):
    """Holes of a dilation count as unseen where no other tap falls into them."""
    layers, windows = CHAINS[name]
    net = blind(drawn(Classifier(*layers, channels=4)), SIZE, "features", "bottom:1/2")
    rows, columns = ([int(i) for i in np.flatnonzero(net.wall.seen.any(axis))] for axis in (1, 0))
    heard = [spelt_out(set(cells), _clipped(windows), SIZE) for cells in (rows, columns)]
    wanted = np.array([[y not in heard[0] or x not in heard[1] for x in range(SIZE)] for y in range(SIZE)])
    assert np.array_equal(net.regions.unseen, wanted)
    if (line := net.graph.quick.line) and "holes" not in name:
        assert np.array_equal(regions(net.wall, line.layers, (SIZE, SIZE)).unseen, wanted)


def _clipped(windows):
    return windows


# -- leaks, each found by module and operation ------------------------------------------------------


class Tail(nn.Module):
    """Its own features, with something late that ought not to be there."""

    def __init__(self, late: nn.Module):
        super().__init__()
        self.early, self.late = nn.Sequential(conv(3, 6, 3, 2), conv(6, 6)), late

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.early(x))


class GlobalMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1e-30 * x.mean((2, 3), keepdim=True)


class BatchStatistics(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, training=True)


class Attended(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])


class Across(nn.Module):
    """One weight of 1e-30 that carries the last row to the first."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :, :1] + 1e-30 * x[:, :, -1:], x[:, :, 1:]], 2)


LEAKS = {
    "a global mean": (GlobalMean(), "features.0.late: mean"),
    "squeeze and excite": (SqueezeExcite(6), "features.0.late.avgpool: adaptive_avg_pool2d"),
    "group norm": (nn.GroupNorm(2, 6), "features.0.late: group_norm"),
    "instance norm": (nn.InstanceNorm2d(6), "features.0.late: instance_norm"),
    "a dilation that jumps": (nn.Conv2d(6, 6, 3, padding=7, dilation=7), "features.0.late: conv2d"),
    "attention": (Attended(), "features.0.late.block: scaled_dot_product_attention"),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_found_by_module_and_operation(name):
    late, at = LEAKS[name]
    net = blind(drawn(Classifier(Tail(late))), SIZE, "features", "bottom:1/2")
    assert net.graph.proof.leak.at == at
    if name != "a dilation that jumps":  # windows that leave pixels between them unseen hide what they hide
        assert not net.regions.unseen.any()
        assert at in net.graph.problems[0] and "use a trunk wall" in net.graph.problems[0]


def test_a_weight_of_1e_30_across_the_wall_is_a_way_like_any_other():
    net = blind(drawn(Classifier(Tail(Across()))), SIZE, "features", "bottom:1/2")
    assert not net.regions.unseen[-2:].any(), "the last row of cells is heard"
    assert net.graph.proof.islands and "pixel" in net.graph.problems[0]
    assert net.graph.proof.leak.at.startswith("features.0.late: ")


def test_norms_over_the_batch_let_images_meet_and_are_named():
    with pytest.raises(ValueError, match=r"images of a batch meet at features\.0\.late: batch_norm"):
        blind(drawn(Classifier(Tail(BatchStatistics()))), SIZE, "features", "bottom:1/2")


class Done(nn.Module):
    """What is done to a map."""

    def __init__(self, does: Callable):
        super().__init__()
        self.does = does

    def forward(self, x: Tensor) -> Tensor:
        return self.does(x)


MEETING = {
    "flip": lambda x: x + x.flip(0),
    "slice": lambda x: x + x[:1],  # all look at the first, which looks at itself
    "index": lambda x: x + 1e-9 * x[:1].mean(1, keepdim=True),
}


@pytest.mark.parametrize("name", MEETING)
def test_an_image_that_looks_at_another_of_the_batch_is_found(name):
    with pytest.raises(ValueError, match=r"images of a batch meet at features\.0\.late: "):
        blind(drawn(Classifier(Tail(Done(MEETING[name])))), SIZE, "features", "bottom:1/2")


def test_an_operation_of_several_values_without_a_rule_is_named():
    late = Done(lambda x: torch.linalg.qr(x)[0])
    with pytest.raises(ValueError, match=r"meet at features\.0\.late: linalg_qr \(without a rule"):
        blind(drawn(Classifier(Tail(late))), SIZE, "features", "bottom:1/2")


def test_a_wall_is_proved_for_an_image_at_every_place_of_a_batch():
    """The first image keeps to the wall; those after it look at 1e-30 of their own last row."""
    net = blind(
        drawn(Classifier(Tail(Done(lambda x: torch.cat([x[:1], x[1:] + 1e-30 * x[1:].flip(2)]))))),
        SIZE,
        "features",
        "bottom:1/2",
    )
    assert not net.regions.unseen[-2:].any()


@pytest.mark.parametrize("late", [SqueezeExcite(6), Attended(), nn.GroupNorm(2, 6)], ids=lambda m: type(m).__name__)
def test_a_trunk_wall_holds_where_positions_meet(late):
    net = blind(drawn(Classifier(Tail(late))), SIZE, "features", "bottom:1/2", "trunk")
    assert net.graph.problems == [] and np.array_equal(net.regions.unseen, brute(net))


def test_a_wall_of_any_shape_is_proved():
    seen = np.zeros((4, 4), dtype=bool)
    seen[0, 1] = seen[1, :3] = seen[3, 3] = True
    net = blind(drawn(FAMILIES["vgg"]()), SIZE, "features", Wall(seen))
    assert np.array_equal(net.regions.unseen, brute(net))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_proof_does_not_depend_on_the_callers_mode(mode):
    """Without gradients a transpose taken by autograd would hand nothing back, and everything would seem unseen."""
    net = vgg((6, "M", 8), 24, 4, hidden=(16,), wall={"side": "bottom", "cells": 7}, seed=1)
    wanted = net.exported().proof
    with mode():
        found = net.exported().proof
    assert np.array_equal(found.unseen_pixels, wanted.unseen_pixels) and 0 < wanted.unseen_pixels.sum() < 24 * 24
    assert np.array_equal(found.heard_cells, wanted.heard_cells)

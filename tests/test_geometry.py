"""Receptive fields, regions and crops in integers, against networks that are run."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from tests.windows import layers_of
from wallcheck.geometry import (
    Layer,
    Regions,
    Sight,
    Span,
    Wall,
    Window,
    crop,
    footprint,
    lengths,
    reach,
    read_wall,
    regions,
    seen_by,
    taps,
)
from wallcheck.metrics.leakage import leak_l2
from wallcheck.models import BlindNet
from wallcheck.models._vgg import SMALL_PLAN, VGG16_PLAN, grid, wall_of
from wallcheck.wall_words import in_words

SEEDS = range(60)


def drawn_features(seed: int) -> tuple[nn.Sequential, tuple[int, int]]:
    """One to four convolutions and pools with uneven kernels, strides, paddings and dilations, on an uneven image.

    Weights are 1: a lit pixel then lights exactly the cells that can see it.
    """
    draw = np.random.default_rng(seed)
    pair = lambda low, high: tuple(draw.integers(low, high + 1, 2).tolist())  # noqa: E731
    for _ in range(100):
        modules, size = [], pair(12, 21)
        for _ in range(draw.integers(1, 5)):
            if draw.random() < 0.6:
                kernel, dilation = pair(1, 4), pair(1, 2)
                modules.append(nn.Conv2d(1, 1, kernel, pair(1, 2), pair(0, 2), dilation, bias=False))
                nn.init.ones_(modules[-1].weight)
            else:
                kernel = pair(2, 3)
                pad = tuple(draw.integers(0, k // 2 + 1) for k in kernel)
                kind = draw.integers(3)
                if kind == 0:
                    modules.append(nn.AvgPool2d(kernel, pair(1, 3), pad, count_include_pad=bool(draw.integers(2))))
                else:
                    modules.append(nn.MaxPool2d(kernel, pair(1, 3), pad, dilation=pair(1, 2)))
        features = nn.Sequential(*modules).double()
        try:
            if min(cells_of(layers_of(features), size)) >= 2:
                return features, size
        except ValueError:  # nothing is left of the image
            continue
    raise AssertionError("no stack in 100 draws")


def cells_of(layers, size):
    return tuple(lengths([layer[axis] for layer in layers], size[axis])[-1] for axis in (0, 1))


def drawn_wall(shape: tuple[int, int], seed: int) -> Wall:
    """Walls on all sides, a centre where there is room, and irregular ones."""
    draw = np.random.default_rng(seed)
    kind = ("bottom", "top", "left", "right", "centre", "irregular")[seed % 6]
    if kind == "centre" and min(shape) >= 3:
        return Wall.centre(shape, int(draw.integers(1, (min(shape) + 1) // 2)))
    if kind in ("centre", "irregular"):
        seen = draw.random(shape) < 0.3
        seen[tuple(draw.integers(0, shape))] = True
        return Wall(seen)
    across = shape[0] if kind in ("bottom", "top") else shape[1]
    return Wall.behind(kind, shape, int(draw.integers(1, across)))


def lit_by(features: nn.Module, size: tuple[int, int]) -> np.ndarray:
    """(pixels, h, w) Boolean by running the network on one lit pixel at a time."""
    pixels = torch.eye(size[0] * size[1], dtype=torch.float64).view(-1, 1, *size)
    with torch.no_grad():
        return (features(pixels)[:, 0] > 0).numpy()


@pytest.mark.parametrize("seed", SEEDS)
def test_regions_are_what_lit_pixels_show(seed):
    features, size = drawn_features(seed)
    layers = layers_of(features)
    wall = drawn_wall(cells_of(layers, size), seed)
    found = regions(wall, layers, size)
    reached = lit_by(features, size)[:, wall.seen].any(1).reshape(size)
    over_seen = footprint(wall.seen, size)
    assert np.array_equal(found.unseen, ~reached)
    assert np.array_equal(found.halo, reached & ~over_seen)
    assert np.array_equal(found.seen, reached & over_seen)
    assert np.array_equal(found.seen.astype(int) + found.halo + found.unseen, np.ones(size))


@pytest.mark.parametrize("seed", SEEDS)
def test_reach_along_each_axis_is_what_lit_pixels_show(seed):
    features, size = drawn_features(seed)
    rows, columns = (tuple(axis) for axis in zip(*layers_of(features), strict=True))
    down, across = reach(rows, size[0]), reach(columns, size[1])
    product = np.einsum("iy,jx->yxij", down, across).reshape(-1, len(down), len(across))
    assert np.array_equal(product, lit_by(features, size))


@pytest.mark.parametrize("seed", SEEDS)
def test_seen_by_holds_all_that_reach_finds_and_is_tight_where_no_layer_has_holes(seed):
    features, size = drawn_features(seed)
    windows = [layer.rows for layer in layers_of(features)]
    for one, other in pairwise(np.random.default_rng(seed).integers(0, lengths(windows, size[0])[-1] + 1, 9).tolist()):
        if (cells := Span(min(one, other), max(one, other))).start == cells.stop:
            continue
        read = np.flatnonzero(reach(windows, size[0])[slice(*cells)].any(0))
        start, stop = seen_by(cells, windows, size[0])
        if len(read):
            assert start <= read[0]
            assert read[-1] < stop
        if all(w.dilation == 1 and w.stride <= w.size and w.pad < w.size for w in windows):
            assert (start, stop) == (read[0], read[-1] + 1)


@cache
def whole_numbered(seed: int) -> tuple[BlindNet, torch.Tensor]:
    """A net with weights, biases and images that are small integers: sums are exact, so equal means equal."""
    shapes, size = drawn_features(seed)
    draw = torch.Generator().manual_seed(seed)
    modules, channels = [], 3
    for module in shapes:
        if isinstance(module, nn.Conv2d):
            settings = module.kernel_size, module.stride, module.padding, module.dilation
            modules += [nn.Conv2d(channels, 4, *settings), nn.ReLU()]
            channels = 4
        elif isinstance(module, nn.AvgPool2d):  # a mean is no integer; the windows are the same
            modules.append(nn.MaxPool2d(module.kernel_size, module.stride, module.padding))
        else:
            modules.append(module)
    features = nn.Sequential(*modules)
    wall = drawn_wall(cells_of(layers_of(features), size), seed)
    head = nn.Sequential(nn.Flatten(), nn.Linear(channels * int(wall.seen.sum()), 5))
    net = BlindNet(features, head, wall, size).double()
    for parameter in net.parameters():
        parameter.data = torch.randint(-2, 3, parameter.shape, generator=draw).double()
    return net, torch.randint(-3, 4, (2, 3, *size), generator=draw).double()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_visible_part_decides_every_logit(seed):
    net, images = whole_numbered(seed)
    with torch.no_grad():
        assert torch.equal(net(images), net.logits_from(net.activations(images)))


def test_crops_are_smaller_than_images_somewhere():
    """Otherwise the test above would compare a thing with itself."""
    smaller = 0
    for seed in SEEDS:
        net, images = whole_numbered(seed)
        smaller += images[(..., *net.visible)].numel() < images.numel()
    assert smaller > len(SEEDS) // 3


def test_a_crop_starts_on_the_grid_of_the_cells():
    layers = [Layer.square(3, pad=1), Layer.square(2, stride=2), Layer.square(2, stride=2)]
    rows, columns, first = crop(Wall.behind("top", (4, 4), 2), layers, (16, 16))
    # cell row 2 is pixels 8..11 and reads one more on each side: 7..16; 7 is moved up to 4, where cell 1 starts
    assert (rows, columns, first) == (Span(4, 16), Span(0, 16), (1, 0))


@pytest.mark.parametrize(
    ("plan", "size", "cells", "unseen_rows", "halo_rows"),
    [(VGG16_PLAN, 224, 9, range(170, 224), range(80, 170)), (SMALL_PLAN, 96, 8, range(48, 96), range(32, 48))],
    ids=["vgg16_walls", "vgg_small"],
)
def test_rows_of_the_presets(plan, size, cells, unseen_rows, halo_rows):
    found = preset_regions(plan, size, cells)
    for region, rows in ((found.unseen, unseen_rows), (found.halo, halo_rows)):
        expected = np.zeros((size, size), dtype=bool)
        expected[list(rows)] = True
        assert np.array_equal(region, expected)


def preset_regions(plan, size, cells) -> Regions:
    """Without building the net, whose head would fill a gigabyte."""
    layers = [Layer.square(2, stride=2) if step == "M" else Layer.square(3, pad=1) for step in plan]
    return regions(wall_of({"side": "bottom", "cells": cells}, grid(plan, size)), layers, (size, size))


def test_a_constant_map_scores_0_491_on_the_papers_geometry():
    unseen = torch.from_numpy(preset_regions(VGG16_PLAN, 224, 9).unseen.copy())
    score = leak_l2(torch.ones(1, 224, 224), unseen, torch.ones_like(unseen))
    assert score.item() == pytest.approx((54 / 224) ** 0.5, rel=1e-6)
    assert f"{score.item():.3f}" == "0.491"


def test_taps_by_hand():
    assert taps(Window(3, stride=2, pad=1, dilation=2), 6).astype(int).tolist() == [
        [0, 1, 0, 1, 0, 0],  # reads -1, 1, 3
        [0, 1, 0, 1, 0, 1],  # reads 1, 3, 5
    ]


def test_walls_by_hand():
    assert Wall.behind("left", (1, 4), 3).seen.tolist() == [[False, False, False, True]]
    assert Wall.behind("right", (1, 4), 3).seen.tolist() == [[True, False, False, False]]
    assert Wall.behind("top", (3, 1), 1).seen.tolist() == [[False], [True], [True]]
    assert Wall.centre((3, 3), 1).unseen.tolist() == [[False] * 3, [False, True, False], [False] * 3]
    corner = Wall(np.array([[True, False], [True, True]]))
    assert (corner.box, corner.is_box, corner.is_open) == ((Span(0, 2), Span(0, 2)), False, False)
    assert Wall.none((2, 3)).is_open
    assert Wall.none((2, 3)) == Wall(np.ones((2, 3), dtype=bool)) != corner


def test_a_wall_cannot_be_altered():
    given = np.ones((2, 2), dtype=bool)
    wall = Wall(given)
    given[0, 0] = False
    assert wall.is_open
    with pytest.raises(ValueError, match="read-only"):
        wall.seen[0, 0] = False


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Wall(np.ones((2, 2))), r"Boolean mask \(h, w\), got float64 \(2, 2\)"),
        (lambda: Wall(np.zeros((2, 2), dtype=bool)), "hides every cell"),
        (lambda: Wall.behind("under", (4, 4), 1), "no side named 'under'"),
        (lambda: Wall.behind("bottom", (4, 4), 4), r"cannot hide 4 of 4 cells at the bottom; use 1 \.\. 3"),
        (lambda: Wall.centre((4, 4), 2), r"margin 2 hides nothing in a map of \(4, 4\); use 1 \.\. 1"),
        (lambda: Window(0), "is no window"),
        (lambda: lengths([Window(2, stride=2)] * 4, 8), "leaves nothing of length 1; use a longer image side than 8"),
        (lambda: crop(Wall.behind("bottom", (6, 6), 5), [Layer.square(1, pad=1)], (4, 4)), "read padding alone"),
        (lambda: regions(Wall.none((3, 3)), [Layer.square(3, pad=1)], (4, 4)), r"the layers make \(4, 4\)"),
    ],
)
def test_errors_say_what_got_wanted_next(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# Walls as text


@pytest.mark.parametrize(
    ("text", "wall"),
    [
        ("bottom:3", Wall.behind("bottom", (6, 4), 3)),
        ("bottom:1/2", Wall.behind("bottom", (6, 4), 3)),
        (" top:2/3 ", Wall.behind("top", (6, 4), 4)),
        ("left:0.25", Wall.behind("left", (6, 4), 1)),
        ("right:3", Wall.behind("right", (6, 4), 3)),
        ("centre:1", Wall.centre((6, 4), 1)),
        ("none", Wall.none((6, 4))),
    ],
)
def test_a_text_names_a_wall(text, wall):
    assert Wall.parse(text, (6, 4)) == wall
    assert Wall.parse(text, (6, 4), nearest=True) == wall


@pytest.mark.parametrize("side", ["bottom", "top", "left", "right"])
def test_a_share_that_does_not_fit_is_refused_with_the_nearest_or_taken_to_it(side):
    with pytest.raises(ValueError, match=f"no wall hides 1/3 of the image at the {side}; the nearest is {side}:5/14"):
        Wall.parse(f"{side}:1/3", (14, 14))
    assert Wall.parse(f"{side}:1/3", (14, 14), nearest=True) == Wall.parse(f"{side}:5/14", (14, 14))
    assert Wall.parse(f"{side}:1/2", (7, 7), nearest=True) == Wall.behind(side, (7, 7), 3)  # a tie hides less
    assert Wall.parse(f"{side}:0.99", (7, 7), nearest=True) == Wall.behind(side, (7, 7), 6)
    assert Wall.parse(f"{side}:0.001", (7, 7), nearest=True) == Wall.behind(side, (7, 7), 1)


@pytest.mark.parametrize("text", ["bottom", "bottom:", "below:1/2", "1/2", "", "bottom:0", "bottom:12", "left:-1", "left:1.0", "left:5/4", "left:1/0", "left:0.0", "left:half", "left:1e9", "left:nan", "left:\u00b2", "centre:1/2", "none:1"])  # fmt: skip
def test_what_names_no_wall_is_refused(text):
    with pytest.raises(ValueError, match=r"write side:cells or side:share|cannot hide|use 1 \.\."):
        Wall.parse(text, (12, 12))


@pytest.mark.parametrize("side", ["bottom", "top", "left", "right"])
@pytest.mark.parametrize("seed", range(8))
def test_with_sight_the_share_of_unseen_pixels_is_nearest_among_all_walls(side, seed):
    draw = np.random.default_rng(seed)
    layers = [Layer.square(3, pad=1), Layer.square(2, stride=2), Layer.square(3, pad=1)][: draw.integers(1, 4)]
    size = int(draw.integers(16, 30))
    share = float(draw.uniform(0.05, 0.95))
    shape = (lengths([layer.rows for layer in layers], size)[-1],) * 2
    found = read_wall(f"{side}:{share}", shape, nearest=True, sight=Sight(layers, (size, size)))
    misses = {
        count: abs(regions(Wall.behind(side, shape, count), layers, (size, size)).unseen.mean() - share)
        for count in range(1, shape[0])
        if regions(Wall.behind(side, shape, count), layers, (size, size)).unseen.any()
    }
    assert found[0] == side
    assert misses[found[1]] == pytest.approx(min(misses.values()))


def test_a_side_where_no_wall_hides_a_pixel_is_refused():
    layers = [Layer.square(3, pad=1), Layer.square(2, stride=2), Layer.square(3, pad=1)]
    with pytest.raises(ValueError, match=r"no wall at the left of \(2, 2\) cells hides a pixel.*use larger images"):
        read_wall("left:1/2", (2, 2), nearest=True, sight=Sight(layers, (4, 4)))


@pytest.mark.parametrize(
    ("wall", "words"),
    [
        (Wall.none((4, 4)), "no wall: every cell is seen"),
        (Wall.behind("bottom", (4, 4), 3), "behind the wall: rows 1..3 of 4 of cells; unseen: rows 3..7 of 8 of pixels (62.5 %)"),
        (Wall.behind("right", (4, 4), 3), "behind the wall: columns 1..3 of 4 of cells; unseen: columns 3..7 of 8 of pixels (62.5 %)"),
        (Wall.centre((4, 4), 1), "behind the wall: 4 of 16 of cells; unseen: 4 of 64 of pixels (6.2 %)"),
    ],
)  # fmt: skip
def test_a_wall_in_words(wall, words):
    layers = [Layer.square(2, stride=2), Layer(Window(1), Window(1))]
    layers = [Layer.square(3, pad=1), *layers]
    assert in_words(wall, regions(wall, layers, (8, 8))) == words


def test_a_wall_that_hides_no_pixel_is_said_to_hide_none():
    wall, layers = Wall.behind("bottom", (2, 2), 1), [Layer.square(5, pad=2)]
    assert in_words(wall, regions(wall, layers, (2, 2))).endswith("unseen: NO PIXEL")

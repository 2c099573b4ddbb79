"""Walls put into graphs: what the head is handed, NaN that cannot pass, sides apart, shares and exact numbers of cells."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.graph.dependence import Does
from tests.graph.nets import CLASSES, FAMILIES, Block, Classifier, Transformer, conv, drawn
from wallcheck.geometry import Wall
from wallcheck.models import blind

SIZE = 16


class Flat(nn.Module):
    """A head that reads places, as VGG's."""

    def __init__(self):
        super().__init__()
        self.features, self.fc = nn.Sequential(conv(3, 4, stride=4)), nn.Linear(4 * 16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).flatten(1))


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(count))


def corners() -> Wall:
    seen = np.zeros((4, 4), dtype=bool)
    seen[0, 0] = seen[0, 3] = seen[2, 1] = True
    return Wall(seen)


@pytest.mark.parametrize("wall", ["bottom:1/2", "top:1", "left:3", "right:1/4", corners()], ids=str)
def test_a_head_that_pools_is_handed_a_smaller_map_the_mean_of_seen_cells(wall):
    model = drawn(Classifier(conv(3, 6, stride=4)))
    net = blind(model, SIZE, "features", wall)
    cells = model.features(images())[:, :, torch.from_numpy(net.wall.seen.copy())]  # (B, K, n)
    torch.testing.assert_close(net(images()), model.fc(cells.mean(2)))
    assert net.graph.hand(net.activations(images())).numel() == cells.numel()


@pytest.mark.parametrize("wall", ["bottom:1/2", "top:1", "left:3", "right:1/4", corners()], ids=str)
def test_a_head_that_reads_places_is_handed_zeros_for_unseen_cells(wall):
    model = drawn(Flat())
    net = blind(model, SIZE, "features", wall)
    kept = model.features(images()) * torch.from_numpy(net.wall.seen.copy())
    torch.testing.assert_close(net(images()), model.fc(kept.flatten(1)))


class Viewed(Classifier):
    """A head that pools by a view, which torch makes of a whole map and of no part of its columns."""

    def forward(self, x: Tensor) -> Tensor:
        cells = self.features(x)
        return self.fc(cells.view(len(x), 6, -1).mean(2))


@pytest.mark.parametrize("wall", ["bottom:1/2", "right:1/4", corners()], ids=str)
def test_a_head_that_views_its_map_reads_the_part_that_it_is_handed(wall):
    model = drawn(Viewed(conv(3, 6, stride=4)))
    net = blind(model, SIZE, "features", wall)
    cells = model.features(images())[:, :, torch.from_numpy(net.wall.seen.copy())]  # (B, K, n)
    for found in (net(images()), net.shortcut(images())):
        torch.testing.assert_close(found, model.fc(cells.mean(2)))


@pytest.mark.parametrize("make", [lambda: Classifier(conv(3, 6, stride=4)), Flat], ids=["smaller", "emptied"])
@pytest.mark.parametrize("wall", ["bottom:1/2", corners()], ids=str)
def test_not_even_nan_passes_from_an_unseen_cell(make, wall):
    net = blind(drawn(make()), SIZE, "features", wall)
    cells = net.activations(images())
    for odd in (torch.nan, torch.inf, 1e30):
        changed = cells.clone()
        changed[:, :, torch.from_numpy(net.wall.unseen.copy())] = odd
        assert torch.equal(net.logits_from(changed), net.logits_from(cells))


def test_tokens_behind_a_head_wall_are_left_out():
    model = drawn(Transformer(tokens="mean"))
    net = blind(model, SIZE, "blocks", "top:1/4")
    tokens = model.blocks(model.patches(images()).flatten(2).transpose(1, 2))
    torch.testing.assert_close(net(images()), model.fc(model.norm(tokens[:, 4:]).mean(1)))


def test_a_wall_of_another_grid_is_refused_with_both():
    with pytest.raises(ValueError, match=r"the wall covers \(4, 4\) cells, features has \(8, 8\)"):
        blind(drawn(Classifier(conv(3, 6, stride=2))), SIZE, "features", corners())


# -- trunk walls ----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["bottom", "top", "left", "right"])
def test_behind_a_trunk_wall_the_seen_side_is_an_image_of_its_own(side):
    model = drawn(FAMILIES["resnet"]())
    net = blind(model, SIZE, "features", f"{side}:1/2", "trunk")
    own = {"bottom": np.s_[..., :8, :], "top": np.s_[..., 8:, :], "left": np.s_[..., 8:], "right": np.s_[..., :8]}[side]
    torch.testing.assert_close(net(images()), model(images()[own]))
    unseen = np.ones((SIZE, SIZE), dtype=bool)
    unseen[own] = False
    assert np.array_equal(net.regions.unseen, unseen)


def test_both_sides_are_on_the_map_each_made_alone():
    model = drawn(FAMILIES["resnet"]())
    net = blind(model, SIZE, "features", "bottom:1/2", "trunk")
    above, below = (model.features(part) for part in images().split(8, 2))
    torch.testing.assert_close(net.activations(images()), torch.cat([above, below], 2))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision_is_parted_as_any_other(kind):
    model = drawn(FAMILIES["resnet"]())
    wanted = blind(model, SIZE, "features", "bottom:1/2", "trunk")
    net = blind(model.to(kind), SIZE, "features", "bottom:1/2", "trunk")
    assert np.array_equal(net.regions.unseen, wanted.regions.unseen)
    torch.testing.assert_close(net(images()), wanted(images()), rtol=0.1, atol=0.1)


def test_a_share_goes_to_the_nearest_border_that_the_strides_allow_and_is_said():
    net = blind(drawn(FAMILIES["resnet"]()), SIZE, "features", "bottom:1/3", "trunk")
    assert int(net.regions.unseen.sum()) == 4 * SIZE  # strides of 4: 4 rows are nearer to 5.3 than 8
    assert net.note == "bottom: 4 rows or columns of pixels, the nearest to 1/3 that the strides allow"


def test_a_number_of_cells_is_exact_or_refused():
    model = drawn(FAMILIES["resnet"]())
    net = blind(model, SIZE, "features", "left:3", "trunk")
    assert int(net.wall.unseen.sum()) == 3 * 4 and not net.wall.unseen[:, 3:].any()
    with pytest.raises(ValueError, match=r"no trunk wall bottom:9 at features"):
        blind(model, SIZE, "features", "bottom:9", "trunk")
    with pytest.raises(ValueError, match=r"cannot hide 4 of 4 cells at the bottom; use 1 \.\. 3"):
        blind(model, SIZE, "features", "bottom:4", "head")


class Squares(nn.Module):
    """Tokens laid out as squares of 4 x 4: of half of them, two images would make one."""

    def __init__(self):
        super().__init__()
        self.features, self.fc = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.features(x).flatten(2).transpose(1, 2)
        return self.fc(tokens.reshape(-1, 4, 4, 6).mean((1, 2)))


def test_a_head_that_would_make_one_image_of_two_is_handed_zeros():
    net = blind(drawn(Squares()), SIZE, "features", "bottom:1/2")
    assert net.graph.problems == [] and net(images(4)).shape == (4, 3)
    zeros = net.graph.walled.handed
    assert zeros.target is torch.ops.aten.where.ScalarOther


class Twice(nn.Module):
    """One layer, run twice."""

    def __init__(self):
        super().__init__()
        self.first, self.again, self.fc = conv(3, 6), conv(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.again(self.again(self.first(x))).mean((2, 3)))


def test_a_layer_that_is_run_twice_is_parted_after_its_last_call():
    model = drawn(Twice())
    net = blind(model, SIZE, "again", "bottom:1/2", "trunk")
    above, below = (model.again(model.again(model.first(part))) for part in images().split(8, 2))
    torch.testing.assert_close(net.activations(images()), torch.cat([above, below], 2))


class Named(nn.Module):
    """A backbone that gives a dictionary, as torchvision's for segmentation do."""

    def __init__(self):
        super().__init__()
        self.deep = nn.Sequential(conv(3, 6), conv(6, 6))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.deep(x)}


def test_a_backbone_that_gives_a_dictionary_is_parted():
    backbone = Named()
    head = Does(lambda found: found["out"].mean((2, 3)))
    net = blind(drawn(nn.Sequential(backbone, head, nn.Linear(6, 3))), SIZE, "0.deep", "bottom:1/2", "trunk")
    above, below = (backbone.deep(part) for part in images().split(8, 2))
    torch.testing.assert_close(net.activations(images()), torch.cat([above, below], 2))


def test_features_that_turn_rows_into_columns_have_no_sides():
    turned = nn.Sequential(conv(3, 6), Does(lambda x: x.transpose(2, 3)), conv(6, 6))
    model = drawn(nn.Sequential(turned, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)))
    with pytest.raises(ValueError, match=r"16 x 16 cells of the whole image, 16 x 8 of a part of it.*a head wall"):
        blind(model, SIZE, "0", "bottom:1/2", "trunk")


class Explicit(Block):
    """Attention written out: softmax of products."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
        return x + self.out((weights @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("block", [Block, Explicit])
@pytest.mark.parametrize("side, hidden", [("bottom", np.s_[8:]), ("left", np.s_[:, :8])])
def test_no_token_attends_across_the_wall_and_the_class_token_is_on_the_seen_side(block, side, hidden):
    model = Transformer()
    model.blocks = nn.Sequential(block(8), block(8))
    net = blind(drawn(model), SIZE, None, f"{side}:1/2", "trunk")
    unseen = np.zeros((SIZE, SIZE), dtype=bool)
    unseen[hidden] = True
    assert net.graph.problems == [] and np.array_equal(net.regions.unseen, unseen)
    other = torch.where(torch.from_numpy(unseen), 1e3 * images(), images())
    assert torch.equal(net(other), net(images()))
    leaf = images().requires_grad_()
    net(leaf).sum().backward()
    assert not leaf.grad[:, :, torch.from_numpy(unseen)].any() and leaf.grad.any()


class Mixed(nn.Module):
    """Tokens that meet by a linear layer over positions, as in an MLP-Mixer."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(x.transpose(1, 2)).transpose(1, 2)


def test_tokens_that_meet_by_other_ways_are_refused_with_what_would_do():
    model = Transformer(tokens="mean")
    model.blocks = nn.Sequential(Mixed())
    with pytest.raises(ValueError, match=r"use .*a head wall"):
        blind(drawn(model), SIZE, None, "bottom:1/2", "trunk")

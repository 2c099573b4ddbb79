"""SESS, SISE, ViT-CX, TIS, IBA, FG-CAM, SMOE and their kin: what their docstrings say, exactly."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.nets import photos, pooled_sibling, tiny, trained_tiny
from wallcheck.cams import METHODS
from wallcheck.cams._blur import reflected
from wallcheck.cams.layered import squashed
from wallcheck.cams.rescoring import blocks, clusters
from wallcheck.cams.rescoring.masks import extremes, stretched
from wallcheck.cams.subspace.entropy import smoe_scale
from wallcheck.cams.windows import needs_squares, places, windows_of
from wallcheck.evidence import Evidence

close = torch.testing.assert_close


@pytest.fixture(params=[tiny, trained_tiny], ids=["untrained", "trained"])
def ev(request):
    return Evidence(copy.deepcopy(request.param()).double(), photos(3, seed=5)[0].double())


def unseen_share(ev, maps):
    hidden = torch.from_numpy(ev.regions.unseen.copy())
    positive = maps.clamp(min=0)
    return positive[:, hidden].sum(1) / positive.flatten(1).sum(1)


# -- windows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("side, count", [(224, 122), (24, 129), (64, 122)])
def test_there_are_so_many_windows(side, count):
    assert sum(len(starts) ** 2 for _, starts in places(side)) == count
    assert all(start + side <= size for size, starts in places(side) for start in starts)


def test_the_first_window_is_the_image(ev):
    ((place,), (first,)), *others = windows_of(ev, 24)
    assert torch.equal(first, ev.images) and torch.equal(place(first[:, 0]), ev.images[:, 0])
    assert all(windows.shape == (len(placed), *ev.images.shape) for placed, windows in others)
    assert max(len(placed) for placed, _ in others) > 1


def test_windows_tell_a_blind_method_what_is_behind_the_wall(ev):
    assert torch.count_nonzero(METHODS["hirescam"](ev)[:, ev.unseen]) == 0
    assert (unseen_share(ev, METHODS["sess_hirescam"](ev)) > 0.1).all()


def test_sess_is_not_defined_where_windows_do_not_fit():
    assert needs_squares(tiny()) is None
    assert "24 x 32" in needs_squares(SimpleNamespace(image_size=(24, 32)))


def test_a_reflected_blur_keeps_constants_whatever_the_size():
    for size in (1, 2, 3, 24):
        rows = reflected(size, 5, 5.0)
        close(rows.sum(1), torch.ones(size, dtype=torch.float64))
        close(rows, rows.flip(0, 1))


# -- chosen channels and clusters -----------------------------------------------------------------


def test_faster_scorecam_of_few_channels_that_reach_0_is_the_authors_scorecam():
    net = copy.deepcopy(tiny()).double()
    conv = [module for module in net.features if isinstance(module, nn.Conv2d)][-1]
    conv.bias.data -= 1  # sparse channels
    sparse, dense = (Evidence(each, photos(3, seed=5)[0].double()) for each in (net, copy.deepcopy(tiny()).double()))
    low, _ = extremes(sparse.activations, (24, 24))
    assert (low == 0).all() and sparse.activations.shape[1] <= 10
    close(METHODS["faster_scorecam"](sparse), METHODS["scorecam_authors"](sparse))
    assert (METHODS["faster_scorecam"](dense) - METHODS["scorecam_authors"](dense)).abs().max() > 1e-3


def test_otsu_cuts_between_two_heaps_and_not_within_one():
    heaps = torch.tensor([0.9, 0.1, 1.0, 0.2, 0.15])
    assert blocks.otsu(heaps) == 0.2
    assert blocks.otsu(torch.ones(5)) is None and blocks.otsu(torch.ones(1)) is None
    assert torch.equal(blocks.brighter_part(torch.ones(1, 2, 2)), torch.zeros(1, 2, 2, dtype=torch.bool))


def test_ada_sise_takes_some_of_the_channels_of_sise():
    slopes = torch.tensor([[3.0, -1.0, 0.1, 0.2, 2.8], [-1.0, -2.0, -1.0, -3.0, -1.0], [2.0, 2.0, 2.0, -1.0, 0.0]])
    assert blocks.positive(slopes).sum(1).tolist() == [4, 0, 3]
    assert blocks.outstanding(slopes)[0].tolist() == [True, False, False, False, True]
    assert blocks.outstanding(slopes).sum(1).tolist() == [2, 0, 3]


@pytest.mark.parametrize("name", ["sise", "adasise"])
def test_sise_is_empty_where_no_channel_speaks_for_the_class(name):
    """A layer without masks has no bright part: the last weights are negative throughout, those below positive."""
    net = copy.deepcopy(tiny())
    linears = [module for module in net.head if isinstance(module, nn.Linear)]
    linears[0].weight.data.abs_()
    nn.init.constant_(linears[-1].weight, -0.3)
    ev = Evidence(net, photos(2)[0], targets=[1, 2])
    assert (ev.gradient <= 0).all()
    assert torch.count_nonzero(METHODS[name](ev)) == 0


def test_channels_that_are_alike_are_one_mask():
    maps = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cells = stretched(torch.cat([maps, 2 * maps[:1] + 1, maps[1:2] + 1e-3 * maps[:1]]), (24, 24))
    owner = clusters.alike(cells, (24, 24))
    assert owner[0] == owner[3] and owner[1] == owner[4] and len(set(owner.tolist())) == 3


def test_subsets_hold_half_of_the_cells_the_largest(ev):
    order = torch.arange(ev.cells)
    subsets = clusters.chosen_cells(ev.activations[0].flatten(1), order)
    assert torch.equal(subsets.sum(1), torch.full((len(subsets),), ev.cells // 2, dtype=torch.float64))
    living = ev.activations[0].flatten(1)[ev.activations[0].flatten(1).any(1)]
    for subset in subsets.bool():
        assert any(channel[subset].min() >= channel[~subset].max() for channel in living)


# -- the bottleneck, relevance, entropy, paths ----------------------------------------------------


def test_iba_lets_some_nats_through_everywhere(ev):
    maps = METHODS["iba"](ev)
    assert (maps > 0).all()


def test_iba_leaves_channels_of_one_value_out(ev):
    """With all channels constant nothing carries information."""
    net = copy.deepcopy(ev.net)
    conv = [module for module in net.features if isinstance(module, nn.Conv2d)][-1]
    conv.weight.data.zero_()
    conv.bias.data.fill_(1.0)
    flat = Evidence(net, ev.images)
    assert torch.equal(flat.activations, torch.ones_like(flat.activations))
    assert torch.count_nonzero(METHODS["iba"](flat)) == 0


def test_relevance_is_handed_down_whole(ev):
    """z+ and z^B conserve: the pixels hold what Grad-CAM's map does, and unseen cells hand theirs to unseen pixels."""
    maps, cells = METHODS["fgcam"](ev), METHODS["gradcam"](ev)
    close(maps.sum((1, 2)), cells.sum((1, 2)))
    close(maps[:, -4:].sum((1, 2)) != 0, torch.ones(len(maps), dtype=torch.bool))


def test_smoe_is_0_where_channels_agree_and_grows_where_few_hold_all():
    fibres = torch.tensor([[1.0, 1, 1, 1], [2, 1, 1, 0], [4, 0, 0, 0], [0, 0, 0, 0]]).double()
    even, some, one, none = smoe_scale(fibres.T[None, :, :, None]).flatten().tolist()
    assert abs(even) < 1e-12 and none == 0 and 0 < some < one
    assert one == pytest.approx((3 * 23.2535 - 2) / 4, rel=1e-5)  # log2 of 4 and, three times, of 1e-7; their mean is 1


def test_a_map_of_one_value_is_squashed_to_one_half():
    assert torch.equal(squashed(torch.full((1, 3, 3), 7.0)), torch.full((1, 3, 3), 0.5))


def test_a_linear_net_has_no_variance_of_gradients_and_squares_of_one_gradient():
    net = copy.deepcopy(tiny())
    net.features = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 8, 1))
    net.head = nn.Sequential(nn.Flatten(), nn.Linear(480, 4))
    ev = Evidence(net, photos(2)[0])
    assert torch.count_nonzero(METHODS["vargrad"](ev)) == 0
    leaf = ev.images.clone().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(ev.explained(ev.logits_of(leaf)).sum(), leaf)
    close(METHODS["squaregrad"](ev), slope.double().square().sum(1))


def test_iia_of_a_linear_head_weighs_what_each_cell_gains(ev):
    ev = Evidence(copy.deepcopy(pooled_sibling(tiny())).double(), ev.images)
    start = ev.at(torch.zeros_like(ev.images)).activations
    shares = torch.arange(1, 11, dtype=torch.float64) / 10
    gains = sum((ev.at(t * ev.images).activations - start).clamp(min=0) for t in shares) / 10 * shares.mean()
    close(METHODS["iia"](ev), (ev.gradient * gains).sum(1))

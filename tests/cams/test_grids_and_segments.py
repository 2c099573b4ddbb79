"""Methods that hide cells of one grid, and the one that goes by segments: what is exact about them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests.nets import photos, tiny, trained_tiny
from wallcheck.cams import METHODS
from wallcheck.cams.pixel import grids, segments
from wallcheck.evidence import Evidence
from wallcheck.models import BlindNet

GRID = ("sobol", "hsic", "lime", "kernelshap")


@pytest.fixture(params=[tiny, trained_tiny], ids=["untrained", "trained"])
def ev(request):
    return Evidence(request.param(), photos(3, seed=5)[0])


def linear_evidence():
    """Every mask moves the logit by the sum of what its cells hold: no ReLU, one linear layer, float64."""
    net = tiny()
    convolutions = [copy.deepcopy(module) for module in net.features if not isinstance(module, nn.ReLU)]
    features = nn.Sequential(*[nn.AvgPool2d(2) if isinstance(m, nn.MaxPool2d) else m for m in convolutions])
    torch.manual_seed(0)
    head = nn.Sequential(nn.Flatten(), nn.Linear(8 * int(net.wall.seen.sum()), 4))
    linear = BlindNet(features, head, net.wall, net.image_size).double().eval()
    return Evidence(linear, photos(2)[0].double())


def per_cell(ev, maps):
    """(B, 49): one value of each cell; all its pixels have the same."""
    rows, columns = grids.cells_of_pixels(ev)
    number = rows[:, None] * grids.CELLS + columns
    found = torch.stack([maps[:, number == cell] for cell in range(grids.CELLS**2)][:1]), []
    for cell in range(grids.CELLS**2):
        values = maps[:, number == cell]
        assert torch.equal(values, values[:, :1].expand_as(values))
        found[1].append(values[:, 0])
    return torch.stack(found[1], 1)


def wholly_unseen(ev):
    return ~grids.heard_cells(ev).flatten()


@pytest.mark.parametrize("name", GRID)
def test_a_cell_has_one_value(name, ev):
    assert per_cell(ev, METHODS[name](ev)).shape == (3, 49)


def test_sobol_is_exactly_0_on_cells_wholly_unseen_and_hsic_is_not(ev):
    hidden = wholly_unseen(ev)
    assert hidden.any() and not hidden.all()
    assert torch.count_nonzero(per_cell(ev, METHODS["sobol"](ev))[:, hidden]) == 0
    assert (per_cell(ev, METHODS["hsic"](ev))[:, hidden] > 0).all()
    for name in ("lime", "kernelshap"):  # sampling noise of either sign
        values = per_cell(ev, METHODS[name](ev))[:, hidden]
        assert (values > 0).any() and (values < 0).any()


def test_kernelshap_of_a_sum_is_its_summands():
    ev = linear_evidence()
    rows, columns = grids.cells_of_pixels(ev)
    number, products = rows[:, None] * grids.CELLS + columns, METHODS["inputxgradient"](ev)
    summands = torch.stack([products[:, number == cell].sum(1) for cell in range(grids.CELLS**2)], 1)
    torch.testing.assert_close(per_cell(ev, METHODS["kernelshap"](ev)), summands, rtol=1e-9, atol=1e-10)


def test_kernelshap_sums_to_what_the_image_adds(ev):
    black = ev.at(torch.zeros_like(ev.images))
    values = per_cell(ev, METHODS["kernelshap"](ev))
    torch.testing.assert_close(values.sum(1), ev.score - black.score, rtol=1e-4, atol=1e-4)


def test_coalitions_come_with_their_complements_and_are_never_all_or_nothing(ev):
    joined = grids.coalitions(ev)
    assert torch.equal(joined[::2] + joined[1::2], torch.ones_like(joined[::2]))
    assert joined.sum(1).min() >= 1 and joined.sum(1).max() <= 48


def test_two_methods_share_their_masks_and_answers(ev, monkeypatch):
    METHODS["hsic"](ev)
    monkeypatch.setattr(grids, "logits_behind", None)
    METHODS["lime"](ev)


@pytest.mark.parametrize("name", ["sobol", "hsic", "lime", "kernelshap"])
def test_a_score_that_no_mask_moves_has_an_empty_map(name):
    net = copy.deepcopy(tiny())
    nn.init.zeros_(net.head[-1].weight)
    maps = METHODS[name](Evidence(net, photos(2)[0], targets=[1, 2]))
    assert maps.abs().max() < (1e-12 if name in ("hsic", "lime") else torch.finfo().tiny)  # the two centre sums


# -- segments -------------------------------------------------------------------------------------


def test_components_are_joined_as_the_paper_joins_them():
    """A chain 0 -.1- 1 -.3- 2 -.2- 3: {0, 1} and {2, 3} first; 0.3 is within the longest edge of each + 1 / 2."""
    edges = [(0.1, 0, 1), (0.2, 2, 3), (0.3, 1, 2)]
    assert segments.felzenszwalb(edges, 4, scale=1.0, smallest=0).tolist() == [0, 0, 0, 0]
    assert segments.felzenszwalb(edges, 4, scale=0.25, smallest=0).tolist() == [0, 0, 2, 2]
    assert segments.felzenszwalb(edges, 4, scale=0.01, smallest=0).tolist() == [0, 1, 2, 3]
    assert segments.felzenszwalb(edges, 4, scale=0.01, smallest=2).tolist() == [0, 0, 2, 2]


def test_every_segmentation_covers_the_image_and_flat_images_are_one_segment():
    image = photos(1)[0][0].double().numpy()
    assert sum(segments.segments_of(image)).min() >= len(segments.SCALES)
    assert all(mask.all() for mask in segments.segments_of(np.zeros((3, 24, 24))))


def test_segments_share_out_what_they_were_given(ev):
    """Means over disjoint regions: the map sums to the attribution."""
    maps = METHODS["xrai"](ev).double()
    given = torch.stack([segments.paths_from(ev, extreme) for extreme in (ev.images.amin, ev.images.amax)])
    torch.testing.assert_close(maps.sum((1, 2)), given.mean(0).amax(1).double().sum((1, 2)), rtol=1e-4, atol=1e-5)


def test_a_segment_wholly_behind_the_wall_is_exactly_0(ev):
    maps = METHODS["xrai"](ev)
    assert torch.count_nonzero(maps[:, -4:]) == 0  # five rows and more from the wall, and segments of a pixel or three

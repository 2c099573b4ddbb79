"""Ablation and the head split at its first layer, on heads of many kinds; Recipro-CAM and the wall; FD-CAM's groups."""

import copy
import importlib

import pytest
import torch
from torch import nn

from tests.heads import CHANNELS, COLUMNS, HEADS, ROWS, class_scores, evidence_of, with_head
from tests.nets import CLASSES, tiny, trained_tiny
from wallcheck.cams import METHODS, _rules
from wallcheck.cams.ablation.channels import ablation_drops, similar_channels
from wallcheck.cams.ablation.reciprocam import empty_probability
from wallcheck.evidence import Evidence
from wallcheck.geometry import Wall
from wallcheck.models import BlindNet

# -- the head split at its first linear layer ---------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("budget_mb", [256, 1e-3], ids=["whole", "in chunks"])
def test_channels_are_rescored_as_the_whole_head_would(name, budget_mb):
    ev = evidence_of(with_head(name), budget_mb=budget_mb)
    presence = torch.rand(3, 5, CHANNELS, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    for m, scores in enumerate(ev.rescore_channels(presence).T):
        plain = class_scores(ev, ev.activations * presence[:, m, :, None, None])
        torch.testing.assert_close(scores, plain, rtol=1e-12, atol=1e-12)


def test_head_is_split_where_channels_add_up_and_nowhere_else():
    known = [name for name in HEADS if evidence_of(with_head(name)).split]
    assert known == ["flat", "two layers", "in place, dropout, no bias", "pooled", "smooth", "ends in softmax"]


def test_contributions_add_up_to_the_first_layer():
    ev = evidence_of(with_head("two layers"))
    first = ev.net.head[1]
    whole = first(ev.handed(ev.activations).flatten(1))
    torch.testing.assert_close(ev.contributions.sum(1) + first.bias, whole, rtol=1e-12, atol=1e-12)


def test_a_wall_of_any_shape_is_split_alike():
    seen = torch.rand(12, 12, generator=torch.Generator().manual_seed(2)) > 0.6
    head = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * int(seen.sum()), 9), nn.ReLU(), nn.Linear(9, CLASSES))
    net = BlindNet(tiny().features, head, Wall(seen.numpy()), (24, 24)).double().eval()
    ev = evidence_of(net)
    one = torch.stack([class_scores(ev, without(ev.activations, k)) for k in range(CHANNELS)], 1)
    torch.testing.assert_close(ev.score[:, None] - one, ablation_drops(ev), rtol=1e-10, atol=1e-12)
    assert torch.count_nonzero(_rules.deeplift(ev)[:, :, ~seen]) == 0


def without(activations, k):
    changed = activations.clone()
    changed[:, k] = 0
    return changed


def test_another_target_is_explained_by_the_same_methods():
    """A margin instead of a logit: ablation's weights are the margin's drops, LIFT's sum to its rise."""
    plain = evidence_of(with_head("two layers"))
    ev = plain.explaining(lambda logits: logits[:, 0] - logits[:, 1])
    margin = lambda activations: (lambda y: y[:, 0] - y[:, 1])(ev.rescore(activations))  # noqa: E731
    drops = torch.stack([margin(ev.activations) - margin(without(ev.activations, k)) for k in range(CHANNELS)], 1)
    torch.testing.assert_close(ablation_drops(ev), drops, rtol=1e-10, atol=1e-12)
    rise = margin(ev.activations) - margin(torch.zeros_like(ev.activations))
    torch.testing.assert_close(_rules.deeplift(ev).sum((1, 2, 3)), rise, rtol=1e-10, atol=1e-12)


def test_division_by_the_logit_only_rescales():
    ev = evidence_of(trained_tiny(), targets=[0, 1, 2])
    plain, published = METHODS["ablationcam"](ev), METHODS["ablationcam_published"](ev)
    assert (ev.score < 0).any(), "the test wants a map that is turned upside down"
    torch.testing.assert_close(published * ev.score[:, None, None], plain)


def test_published_ablation_is_grad_cams():
    grad_cam = importlib.import_module("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net = copy.deepcopy(trained_tiny())
    ev = evidence_of(net)

    cam = grad_cam.AblationCAM(model=net.model, target_layers=[net.target_layer])
    theirs = cam(ev.images, targets=[ClassifierOutputTarget(c) for c in ev.targets.tolist()])
    ours = METHODS["ablationcam_published"](ev).clamp(min=0)
    for _ in range(2):  # grad-cam stretches before and after resizing
        ours = ours - ours.amin((1, 2), keepdim=True)
        ours = ours / (1e-7 + ours.amax((1, 2), keepdim=True))
        if ours.shape[-1] != 24:
            ours = torch.nn.functional.interpolate(ours[:, None], (24, 24), mode="bilinear")[:, 0]
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-3, atol=1e-3)


# -- Recipro-CAM ------------------------------------------------------------------------------------


def shifted_unseen(ev, rows):
    """The same evidence with other activations on these rows."""
    other = Evidence(ev.net, ev.images, ev.targets)
    other.activations[:, :, rows] += 1
    return other


@pytest.mark.parametrize("budget_mb", [256, 1e-3])
def test_unseen_cells_have_the_empty_maps_probability_to_the_bit(budget_mb):
    ev = evidence_of(trained_tiny(), budget_mb=budget_mb)
    empty = empty_probability(ev)[:, None]
    assert torch.equal(METHODS["reciprocam"](ev)[:, ev.unseen], empty.expand(-1, int(ev.unseen.sum())))
    assert torch.equal(METHODS["reciprocam_spread"](ev)[:, ROWS + 1 :].flatten(1), empty.expand(-1, 6 * COLUMNS))
    assert torch.count_nonzero(METHODS["reciprocam_subtracted"](ev)[:, ev.unseen]) == 0


def test_spreading_carries_unseen_activations_through_the_wall():
    ev = evidence_of(trained_tiny())
    rim, far = shifted_unseen(ev, slice(ROWS, ROWS + 1)), shifted_unseen(ev, slice(ROWS + 1, None))
    assert torch.equal(METHODS["reciprocam"](rim), METHODS["reciprocam"](ev))
    spread = METHODS["reciprocam_spread"]
    assert torch.equal(spread(far), spread(ev))
    moved = spread(rim) != spread(ev)
    assert moved[:, ROWS].all() and moved.sum() == moved[:, ROWS].sum()


# -- FD-CAM ------------------------------------------------------------------------------------------


def test_groups_hold_the_channels_that_point_the_same_way():
    """40 channels around 4 directions; the dead one stands alone, in nobody's group and with an empty one."""
    draw = torch.Generator().manual_seed(0)
    directions = torch.rand(4, 6, 6, generator=draw)
    A = directions.repeat(10, 1, 1) * (1 + torch.arange(40)[:, None, None]) + 1e-3 * torch.rand(
        40, 6, 6, generator=draw
    )
    A[7] = 0
    group = similar_channels(A[None], quantile=0.8)[0]
    assert not group[7].any() and not group[:, 7].any()
    for k in range(40):
        if k != 7:
            assert group[k, k] and (group[k].nonzero()[:, 0] % 4 == k % 4).all() and group[k].sum() == 8

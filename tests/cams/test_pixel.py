"""Pixel methods: what they sum to, what they are equal to, and that they stop at the wall to the pixel."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from tests.nets import photos, tiny, trained_tiny
from wallcheck.cams import METHODS
from wallcheck.cams.pixel import rules
from wallcheck.cams.pixel.gradients import integrated_gradients_with, smoothgrad_with
from wallcheck.cams.pixel.masks import (
    all_squares,
    extremal_with,
    occlusion_with,
    random_masks,
    ranked,
    rise_centred_with,
    rise_with,
    smooth,
    trials_with,
)
from wallcheck.evidence import Evidence
from wallcheck.geometry import Wall
from wallcheck.graph.rules import alpha_beta, damped
from wallcheck.models import BlindNet, vgg_small

PIXEL = [name for name, method in METHODS.items() if method.family == "pixel"]
BLIND = [name for name in PIXEL if METHODS[name].verdict == "zero"]
WALLS = {
    "top": {"side": "top", "cells": 4},
    "left": {"side": "left", "cells": 7},
    "centre": {"side": "centre", "cells": 2},
    "pooled": {"side": "bottom", "cells": 7},
}


@pytest.fixture(scope="module")
def evidence():
    return Evidence(copy.deepcopy(trained_tiny()).double(), photos(3, seed=5)[0].double())


def black(ev):
    return ev.of_target(ev.rescore(ev.net.activations(torch.zeros_like(ev.images)).detach()))


def unseen(ev):
    return torch.from_numpy(ev.regions.unseen.copy())


@cache
def walled_at(wall):
    return tiny(wall=WALLS[wall], pooled=wall == "pooled")


@pytest.mark.parametrize("wall", WALLS)
@pytest.mark.parametrize("name", BLIND)
def test_gated_methods_stop_at_any_wall(name, wall):
    ev = Evidence(walled_at(wall), photos(2, seed=1)[0])
    map_ = METHODS[name](ev)
    assert unseen(ev).any()
    assert torch.count_nonzero(map_[:, unseen(ev)]) == 0
    assert torch.count_nonzero(map_) > 0


def test_gated_methods_stop_at_row_48_of_vgg_small():
    ev = Evidence(vgg_small(), torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)))
    for name in ("gradient", "guidedbp", "deeplift", "lrp_alpha_beta", "excitationbp"):
        map_ = METHODS[name](ev)
        assert torch.count_nonzero(map_[:, 48:]) == 0
        assert torch.count_nonzero(map_[:, :48]) > 0


@pytest.mark.parametrize("name", BLIND)
def test_gated_methods_ignore_what_is_behind_the_wall(name, evidence):
    """All of them but those that set their noise by the range of the whole image."""
    other = evidence.images.clone()
    other[:, :, unseen(evidence)] = other[:, :, unseen(evidence)].clamp(-1, 1).flip(2)
    changed = METHODS[name](Evidence(evidence.net, other, evidence.targets))
    same = torch.allclose(changed, METHODS[name](evidence), rtol=1e-9, atol=1e-12)
    noisy = {"smoothgrad", "vargrad", "squaregrad"}
    assert same == (name not in noisy | {"guidedgradcam"})  # Grad-CAM's weights see every cell


# -- sums and identities --------------------------------------------------------------------------


def test_deeplift_is_complete(evidence):
    torch.testing.assert_close(METHODS["deeplift"](evidence).sum((1, 2)), evidence.score - black(evidence))


def test_integrated_gradients_become_complete(evidence):
    wanted = evidence.score - black(evidence)
    gaps = [
        float((integrated_gradients_with(steps)(evidence).sum((1, 2)) - wanted).abs().max()) for steps in (4, 16, 300)
    ]
    assert gaps[2] < 0.01 * float(wanted.abs().max())
    assert gaps[2] < gaps[0]


def test_lrp_without_epsilon_is_input_times_gradient(evidence):
    lrp0 = (evidence.images * rules.image_slope(evidence, damped(0.0))).sum(1)
    torch.testing.assert_close(lrp0, METHODS["inputxgradient"](evidence))
    assert not torch.allclose(METHODS["lrp_epsilon"](evidence), lrp0, rtol=1e-2)


def test_lrp_alpha_one_is_excitation_from_the_logit_without_biases():
    net = tiny().double()
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.bias.data.zero_()
    ev = Evidence(net, photos(2, seed=5)[0].double())
    alpha_one = (ev.images * rules.image_slope(ev, alpha_beta(1.0))).sum(1)
    torch.testing.assert_close(alpha_one, ev.score[:, None, None] * METHODS["excitationbp"](ev))


def test_excitation_is_a_probability(evidence):
    map_ = METHODS["excitationbp"](evidence)
    assert map_.min() >= 0
    torch.testing.assert_close(map_.sum((1, 2)), torch.ones(len(map_)).double())
    torch.testing.assert_close(
        METHODS["excitationbp_contrastive"](evidence).sum((1, 2)), torch.zeros(len(map_)).double()
    )


def test_lrp_gamma_keeps_the_score_where_biases_are_zero():
    net = tiny().double()
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.bias.data.zero_()
    ev = Evidence(net, photos(2, seed=5)[0].double())
    torch.testing.assert_close(METHODS["lrp_gamma"](ev).sum((1, 2)), ev.score)


def test_smoothgrad_without_noise_is_the_gradient(evidence):
    torch.testing.assert_close(smoothgrad_with(2, 0.0)(evidence), METHODS["gradient"](evidence))


def test_rules_refuse_modules_they_do_not_know():
    net = tiny()
    net.features[1] = nn.SiLU()
    with pytest.raises(ValueError, match="lrp_gamma is not defined on this net: there is no rule for silu"):
        METHODS["lrp_gamma"](Evidence(net, photos(1)[0]))
    net = tiny()
    net.head.append(nn.ReLU())
    with pytest.raises(ValueError, match="its head ends in relu"):
        METHODS["excitationbp"](Evidence(net, photos(1)[0]))


def test_rules_know_batch_norms_and_mean_pools():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2))
    net = BlindNet(
        features, nn.Sequential(nn.Flatten(), nn.Linear(4 * 4 * 12, 3)), Wall.behind("bottom", (12, 12), 8), (24, 24)
    )
    ev = Evidence(net.double().eval(), photos(2)[0].double())
    for name in BLIND:
        if METHODS[name].refuses(net):
            assert name.startswith("excitationbp") and "fold norms" in METHODS[name].refuses(net)
        else:
            map_ = METHODS[name](ev)
            assert map_.isfinite().all() and torch.count_nonzero(map_[:, unseen(ev)]) == 0, name
    difference = ev.score - ev.of_target(ev.net(torch.zeros_like(ev.images)).detach())
    torch.testing.assert_close(METHODS["deeplift"](ev).sum((1, 2)), difference)


def test_sixteen_steps_of_integrated_gradients_miss_little(evidence):
    exact = Evidence(copy.deepcopy(evidence.net).double(), evidence.images.double())
    difference = exact.score - exact.of_target(exact.net(torch.zeros_like(exact.images)).detach())
    missed = METHODS["integrated_gradients"](exact).sum((1, 2)) - difference
    assert (missed.abs() < 0.02 * difference.abs()).all()


# -- RISE -----------------------------------------------------------------------------------------


def test_rise_gives_unseen_pixels_the_mean_probability(evidence):
    """Their visibility is independent of p but for seen neighbours: far from the wall the map is flat at E[p]."""
    chances, _ = evidence.once(trials_with(2000, 7, 0.5))
    map_ = rise_with(2000)(evidence)
    torch.testing.assert_close(map_[:, -3:].mean((1, 2)), chances.mean(1), rtol=0.1, atol=0)


def test_centring_takes_rise_floor_away_but_not_its_noise(evidence):
    published, centred = rise_with(2000)(evidence), rise_centred_with(2000)(evidence)
    for floor, noise in zip(published, centred, strict=True):
        assert floor[-3:].mean() > 0.4 * floor.max()  # three rows far from the wall
        assert noise[-3:].abs().mean() < 0.2 * noise.abs().max()
        assert torch.count_nonzero(noise[-3:]) > 0


def test_rise_masks_are_kept_half_and_of_one_cell_size(evidence):
    masks = random_masks(evidence, 3000, 7, 0.5)
    assert masks.min() >= 0 and masks.max() <= 1
    assert (masks.mean(0) - 0.5).abs().max() < 0.05


def test_rise_and_its_repairs_share_their_forwards(evidence, monkeypatch):
    ev = Evidence(evidence.net, evidence.images)
    calls, original = [], Evidence.rescore_visible
    monkeypatch.setattr(Evidence, "rescore_visible", lambda *a, **k: calls.append(1) or original(*a, **k))
    for name in ("rise", "rise_centred", "sealed_rise"):
        METHODS[name](ev)
    assert len(calls) == len(ev.images)


# -- occlusion ------------------------------------------------------------------------------------


def test_occlusion_smears_by_less_than_a_square(evidence):
    """Squares across the wall leak their effect; beyond one square's width everything is exactly 0."""
    map_, wide = METHODS["occlusion"](evidence), round(24 / 6)
    first = int(np.flatnonzero(evidence.regions.unseen.all(1))[0])
    assert torch.count_nonzero(map_[:, first + wide - 1 :]) == 0
    assert torch.count_nonzero(map_[:, first]) > 0


def test_squares_cover_every_pixel(evidence):
    for patch, stride in ((1 / 6, 1 / 12), (0.3, 0.25), (0.01, 0.01)):
        assert all_squares(evidence, patch, stride).sum(0).min() >= 1


def test_occlusion_of_one_pixel_squares_finds_the_wall_exactly():
    """On a net whose weights reach everything, squares of two pixels tell the wall to the pixel but one."""
    ev = Evidence(copy.deepcopy(trained_tiny()).double(), photos(1, seed=5)[0].double())
    map_ = occlusion_with(2 / 24, 1 / 24)(ev)
    first = int(np.flatnonzero(ev.regions.unseen.all(1))[0])
    assert torch.count_nonzero(map_[:, first + 1 :]) == 0


# -- extremal perturbation ------------------------------------------------------------------------


def test_extremal_masks_have_about_the_area_asked_for(evidence):
    masks = extremal_with(400, area=0.2)(evidence)
    assert ((masks > 0.5).double().mean((1, 2)) - 0.2).abs().max() < 0.1


def test_extremal_masks_keep_what_the_class_needs(evidence):
    """The masked image scores higher than one that keeps an equal area elsewhere: the mask turned upside down."""
    masks = extremal_with(400, area=0.2)(evidence)
    kept = evidence.of_target(evidence.net(evidence.images * masks[:, None]))
    turned = evidence.of_target(evidence.net(evidence.images * masks.flip(2)[:, None]))
    assert (kept > turned).double().mean() > 0.5


def test_smooth_masks_keep_constants_nearly_and_range():
    values = torch.rand(2, 14, 14, generator=torch.Generator().manual_seed(0))
    out = smooth(values)
    assert out.min() >= 0 and out.max() <= 1
    assert smooth(torch.ones(1, 14, 14)).min() > 0.9


def test_ties_in_the_area_term_are_not_broken():
    assert torch.equal(ranked(torch.ones(1, 4, 4), 0.25), torch.full((1, 4, 4), 0.5))
    two = torch.cat([torch.zeros(1, 3, 4), torch.ones(1, 1, 4)], 1)
    assert torch.equal(ranked(two, 0.5), torch.cat([torch.full((1, 3, 4), 0.5), torch.ones(1, 1, 4)], 1))

"""Subspace methods, factorisations and repairs."""

import pytest
import torch
from threadpoolctl import threadpool_info

from tests.nets import photos, tiny, trained_tiny
from wallcheck.cams import METHODS
from wallcheck.cams._blur import blurred, gaussian
from wallcheck.cams.repairs import PROBES, declared_reach, gradient_reach, probes, reached, sealed
from wallcheck.cams.subspace.eigen import fibres_of
from wallcheck.cams.subspace.factors import decomcam_with, extreme_fibres, factors, principal_maps
from wallcheck.evidence import Evidence


@pytest.fixture(scope="module")
def evidence():
    return Evidence(trained_tiny(), photos(4, seed=5)[0])


def test_uncentred_direction_of_activations_is_never_negative(evidence):
    assert METHODS["eigencam_uncentred"](evidence).min() > -1e-5


def test_larger_extreme_is_positive(evidence):
    for name in ("eigencam", "eigengradcam", "eigengradcam_uncentred", "segeigencam", "kpcacam"):
        map_ = METHODS[name](evidence).flatten(1)
        assert (map_.amax(1) >= -map_.amin(1)).all()


def test_centring_moves_blind_cells_and_not_centring_does_not(evidence):
    centred, repaired = METHODS["eigengradcam"](evidence), METHODS["eigengradcam_uncentred"](evidence)
    assert torch.count_nonzero(centred[:, evidence.unseen]) > 0
    assert torch.count_nonzero(repaired[:, evidence.unseen]) == 0
    offset = centred[:, evidence.unseen][:, :1]
    assert torch.equal(centred[:, evidence.unseen], offset.expand(-1, int(evidence.unseen.sum())))
    assert (centred.mean((1, 2)).abs() < 1e-6 * centred.abs().amax((1, 2))).all()


def test_scale_of_the_activations_is_the_scale_of_the_map(evidence):
    """First directions are equivariant; the kernel's is not, tanh has a scale of its own."""
    doubled = Evidence(evidence.net, evidence.images)
    doubled.__dict__["activations"] = 2 * evidence.activations
    for name, equal in (("eigencam", True), ("fem", True), ("lafam", True), ("dff", True), ("kpcacam", False)):
        twice = torch.allclose(METHODS[name](doubled), 2 * METHODS[name](evidence), rtol=1e-3, atol=1e-4)
        assert twice == equal, name


# -- factorisation --------------------------------------------------------------------------------


def test_factors_are_not_negative_and_approach_the_activations(evidence):
    fibres, errors = fibres_of(evidence.activations), []
    for steps in (0, 20, 60):
        parts, profiles = factors(evidence.activations, steps=steps)
        assert parts.min() >= 0 and profiles.min() >= 0
        errors.append((fibres - parts @ profiles).flatten(1).norm(dim=1))
    assert (errors[1] <= errors[0]).all() and (errors[2] <= errors[1] + 1e-9).all()


def test_factors_of_an_exact_product_give_it_back():
    drawn = torch.Generator().manual_seed(0)
    parts = torch.rand(1, 36, 3, generator=drawn, dtype=torch.float64).round()  # parts that do not overlap everywhere
    profiles = torch.rand(1, 3, 8, generator=drawn, dtype=torch.float64)
    activations = (parts @ profiles).mT.view(1, 8, 6, 6)
    found = factors(activations, rank=3, steps=500)
    assert (found[0] @ found[1] - parts @ profiles).norm() < 0.01 * (parts @ profiles).norm()


def test_extreme_fibres_are_the_longest_of_what_is_left():
    fibres = torch.tensor([[[3.0, 0], [0, 1], [2, 0.5], [0, 0]]]).double()
    assert extreme_fibres(fibres, 3).tolist() == [[[3.0, 0], [0, 1], [0, 0]]]


def test_components_of_decomcam_are_orthogonal(evidence):
    maps = principal_maps(evidence, channels=6, components=4).flatten(2).double()
    gram = maps @ maps.mT
    norms = maps.norm(dim=2)
    cosines = gram / (norms[:, :, None] * norms[:, None]).clamp(min=1e-12)
    off = cosines - torch.diag_embed(torch.diagonal(cosines, dim1=1, dim2=2))
    assert off.abs().max() < 1e-3
    assert (norms.diff(dim=1) <= 1e-5).all()  # strongest first


def test_decomcam_adds_parts_that_raise_the_score(evidence):
    one, many = decomcam_with(8, 1)(evidence), decomcam_with(8, 8)(evidence)
    assert one.min() >= 0
    assert (many - one).min() >= -1e-4 * float(many.max())


def test_blur_keeps_constants_and_is_symmetric():
    torch.testing.assert_close(blurred(torch.full((3, 9, 7), 2.0)), torch.full((3, 9, 7), 2.0))
    weights = gaussian(9, 2.0)
    torch.testing.assert_close(weights, weights.flip(0, 1))


# -- repairs --------------------------------------------------------------------------------------

WALLS = [
    {"side": "bottom", "cells": 7},
    {"side": "left", "cells": 3},
    {"side": "centre", "cells": 2},
    None,
]


@pytest.mark.parametrize("wall", WALLS, ids=str)
def test_gradient_reach_finds_the_wall_without_being_told(wall):
    ev = Evidence(tiny(wall=wall), photos(2, seed=1)[0])
    for grid in ("cells", "pixels"):
        found = gradient_reach(ev, grid)
        assert torch.equal(found, declared_reach(ev, grid).expand_as(found)), grid


def test_probes_find_what_saturated_units_hide():
    """All hidden units of the head are off for this image and for small probes; large ones turn some on."""
    ev = saturated(2.0)
    assert torch.count_nonzero(ev.gradient) == 0
    assert not reached(ev, ev.images, ev.net).any()
    drawn = probes(ev, (PROBES, *ev.activations.shape[1:]), salt=51).abs()
    alone = [reached(ev, probe[None], ev.net.logits_from).any() for probe in drawn]
    assert not alone[0] and alone[-1]
    for grid in ("cells", "pixels"):
        assert torch.equal(gradient_reach(ev, grid)[0], declared_reach(ev, grid)), grid


def test_what_is_saturated_for_every_probe_is_sealed():
    """The limit of the probes: biases far beyond what the largest moves seal the whole map."""
    ev = saturated(100.0)
    for grid in ("cells", "pixels"):
        assert not gradient_reach(ev, grid).any(), grid


def saturated(share):
    """A photograph on a net whose hidden units are all off for it: biases lowered by share of the largest input."""
    net, images = tiny(), photos(1, seed=1)[0]
    with torch.no_grad():
        hidden = net.head[1](net.head[0](net.activations(images)[:, :, ~Evidence(net, images).unseen]))
        net.head[1].bias -= share * hidden.max()
    return Evidence(net, images)


@pytest.mark.parametrize("name", [name for name in METHODS if name.startswith("sealed_")])
def test_sealed_methods_change_nothing_in_front_of_the_wall(name, evidence):
    base = name.removeprefix("sealed_")
    hidden = evidence.unseen if METHODS[name].grid == "cells" else torch.from_numpy(evidence.regions.unseen.copy())
    sealed_map, map_ = METHODS[name](evidence), METHODS[base](evidence)
    assert torch.count_nonzero(sealed_map[:, hidden]) == 0
    assert torch.equal(sealed_map[:, ~hidden], map_[:, ~hidden])


def test_any_method_can_be_sealed_by_any_reach(evidence):
    for name in ("winsorcam", "lafam", "occlusion"):
        by_wall = sealed(METHODS[name], declared_reach)(evidence)
        torch.testing.assert_close(sealed(METHODS[name])(evidence), by_wall)


def test_sealing_a_net_without_wall_changes_nothing():
    ev = Evidence(tiny(wall=None), photos(2, seed=1)[0])
    assert torch.equal(METHODS["sealed_gradcam"](ev), METHODS["gradcam"](ev))


def test_threads_of_linear_algebra_are_handed_back(evidence):
    METHODS["eigencam"](evidence)  # loads what it needs
    before = [pool["num_threads"] for pool in threadpool_info()]
    METHODS["eigencam"](evidence)
    assert [pool["num_threads"] for pool in threadpool_info()] == before

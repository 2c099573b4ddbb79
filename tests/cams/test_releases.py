"""Held against the authors' code: what a method shares with its release, and what it does otherwise, from the formulas."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, pad

from experiments.disagreements import cases, releases, settling, transformers
from tests.nets import VITS, photos, tiny, trained_tiny
from tests.reference import TWINS
from tests.reference.layered import slow_cameras
from tests.reference.pooled import bilinear_between, turn_matrix
from wallcheck.cams import METHODS
from wallcheck.cams.layered import cameras_with
from wallcheck.cams.pixel.masks import mirrored, random_masks
from wallcheck.cams.pooled import augmented
from wallcheck.cams.rescoring.learnt import BLACK, Search, opticam_with
from wallcheck.cams.rescoring.masks import bilinear
from wallcheck.cams.targets import against_rivals, against_rivals_released
from wallcheck.data import normalise
from wallcheck.evidence import Evidence
from wallcheck.graph import following, rules
from wallcheck.graph._nodes import op_of, part
from wallcheck.models import vgg_small

close = torch.testing.assert_close


def double(net, images=None, **fields):
    return Evidence(
        copy.deepcopy(net).double(), (photos(3, seed=5)[0] if images is None else images).double(), **fields
    )


@pytest.fixture(params=[tiny, trained_tiny], ids=["untrained", "trained"])
def ev(request):
    return double(request.param())


# -- Shapley-CAM, RISE ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "_rest"])
def test_shapley_e_rectifies_each_product_and_hires_does_not(suffix):
    net = tiny()
    net.head[2] = nn.GELU()
    ev = double(net)
    e, h = (METHODS[f"shapleycam_{form}{suffix}"](ev) for form in ("e", "hires"))
    seen = ~ev.unseen
    assert (e >= 0).all() and (h[:, seen] < 0).any()
    assert (e >= h - 1e-12).all() and (e[:, seen] > h[:, seen]).any()
    assert torch.count_nonzero(e[:, ev.unseen]) == torch.count_nonzero(h[:, ev.unseen]) == 0


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_rise_masks_mirror_the_grid_without_repeating_its_edge(factor):
    grid = torch.rand(1, 1, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wide = interpolate(pad(grid, (1, 1, 1, 1), mode="reflect"), scale_factor=factor, mode="bilinear")
    lines = mirrored(7, 7 * factor)
    close(lines @ grid[0, 0] @ lines.T, wide[0, 0, factor:-factor, factor:-factor])


def test_only_the_outermost_half_cell_tells_mirroring_from_repeating(ev):
    change = (mirrored(7, 32) - bilinear(7, 32, aligned=False)).abs().sum(1)
    centre = 32 / 7 / 2
    inside = (torch.arange(32) + 0.5 >= centre) & (torch.arange(32) + 0.5 <= 32 - centre)
    assert torch.count_nonzero(change[inside]) == 0 and change.max() > 0.5
    masks = random_masks(ev, 200, 7, 0.5)
    assert masks.min() >= 0 and masks.max() <= 1


# -- Augmented Grad-CAM -----------------------------------------------------------------------------


def functional(h, M, g, size):
    """The authors': sum of squares, and per copy 0.002 TV (anisotropic) and 0.0001 ||h||^2."""
    image = h.view(size)
    variation = image.diff(dim=0).abs().sum() + image.diff(dim=1).abs().sum()
    return (M @ h - g).square().sum() + 8 * 0.002 * variation + 8 * 0.0001 * h.square().sum()


def split_minimum(M, g, size, variation=0.002, steps=4000, rho=0.02):
    """The minimum by another way: ADMM on d = K h, K the differences."""
    H, W = size
    places = torch.arange(H * W).view(H, W)
    eye = torch.eye(H * W, dtype=torch.float64)
    K = torch.cat([eye[places[1:].flatten()] - eye[places[:-1].flatten()],
                   eye[places[:, 1:].flatten()] - eye[places[:, :-1].flatten()]])  # fmt: skip
    inverse = torch.linalg.inv(2 * M.T @ M + 16 * 0.0001 * eye + rho * K.T @ K)
    d = u = torch.zeros(len(K), dtype=torch.float64)
    start, K, back = 2 * M.T @ g, K.to_sparse(), K.T.to_sparse()
    for _ in range(steps):
        h = inverse @ (start + rho * (back @ (d - u)))
        moved = K @ h + u
        d = moved.sign() * (moved.abs() - 8 * variation / rho).clamp(min=0)
        u = moved - d
    return h


def test_augmented_gradcam_is_the_optimum_of_the_authors_functional():
    ev = double(trained_tiny(), photos(1, seed=5)[0])
    (H, W), (h, w) = ev.net.image_size, ev.wall.seen.shape
    D = torch.kron(bilinear_between(H, h), bilinear_between(W, w))
    turns = augmented.motions(ev)
    M = torch.cat([D @ turn_matrix(*turn, H, W) for turn in turns])
    g = augmented.cells_of_copies(ev, [augmented.turned(ev, *turn) for turn in turns])[0]
    ours, best = METHODS["augmented_gradcam"](ev)[0].flatten(), split_minimum(M, g, (H, W))
    least = functional(best, M, g, (H, W))
    assert functional(ours, M, g, (H, W)) <= least * (1 + 1e-5)
    assert (ours - best).abs().max() < 0.01 * best.abs().max()
    twice = split_minimum(M, g, (H, W), variation=0.004)
    assert (twice - best).abs().max() > 0.1 * best.abs().max()


def test_two_hundred_small_steps_of_adam_stay_below_a_fifth():
    """What the release returns: no value can have moved by more than 200 x 0.001, and the functional is far from least."""
    ev = double(trained_tiny(), photos(2, seed=5)[0])
    released, ours = releases.adam_towards_superresolution(ev), METHODS["augmented_gradcam"](ev)
    assert released.abs().max() < 0.2 < ours.abs().max()


# -- Finer-CAM --------------------------------------------------------------------------------------


def sure_evidence(margin):
    """A net whose rivals' probability is about e^-margin."""
    ev = double(trained_tiny())
    first, second = ev.logits.topk(2, 1).values.unbind(1)
    return double(cases.scaled(ev.net, margin / float((first - second).median())))


def test_released_finer_target_is_the_papers_where_rivals_are_likely_and_fades_where_they_are_not():
    unsure = sure_evidence(3)
    close(METHODS["finercam_authors"](unsure), METHODS["finercam"](unsure), rtol=1e-5, atol=1e-6)
    sure = sure_evidence(25)
    paper, released = against_rivals(sure)(sure.logits), against_rivals_released(sure)(sure.logits)
    near = sure.logits.gather(1, (-(sure.logits - sure.score[:, None]).abs()).topk(4, 1).indices[:, 1:])
    mass = (near - sure.logits.logsumexp(1, keepdim=True)).exp().sum(1)
    close(released, paper * mass / (mass + 1e-9))
    assert (released < 0.9 * paper).any()


@pytest.mark.parametrize("name", ["finercam", "finer_layercam", "finer_hirescam"])
def test_released_finer_maps_of_a_sure_net_are_others(name):
    sure = sure_evidence(25)
    assert settling.gap(METHODS[name](sure), METHODS[f"{name}_authors"](sure)) > 0.5


# -- pooled gradients -------------------------------------------------------------------------------


def test_released_plusplus_weights_are_means_of_positive_gradients(ev):
    A, G = ev.activations, ev.gradient
    mass = A.sum((2, 3), keepdim=True)
    alpha = torch.where(G > 0, 1 / (2 + G.clamp(min=0) * mass), 0.0)
    total = alpha.sum((2, 3), keepdim=True)
    share = torch.where(total > 0, alpha / total, 0.0)
    close(METHODS["gradcampp_authors"](ev), ((share * G).sum((2, 3), keepdim=True) * A).sum(1))
    weights = (share * G).sum((2, 3))
    assert (weights <= G.clamp(min=0).amax((2, 3)) + 1e-15).all()


def test_released_integrated_gradcam_is_the_mean_gradcam_of_fading_images(ev):
    faded = [METHODS["gradcam"](ev.at(step / 50 * ev.images)).clamp(min=0) for step in range(50)]
    close(METHODS["integrated_gradcam_authors"](ev), torch.stack(faded).mean(0))


# -- Opti-CAM ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [tiny, trained_tiny])
def test_opti_cam_of_a_float32_net_is_the_float64_search(build):
    images = photos(2, seed=5)[0]
    ev = Evidence(build(), images)
    exact = copy.deepcopy(ev.net).double()
    for map_, image, target in zip(METHODS["opticam"](ev), images, ev.targets.tolist(), strict=True):
        slow = TWINS["opticam"](exact, image.double(), target, seed=0)
        close(map_.double(), slow, rtol=0, atol=2e-6 * float(slow.abs().max()))
    assert {p.dtype for p in ev.net.parameters()} == {torch.float32}


def test_opti_cam_searches_in_the_nets_own_precision_if_asked_to():
    """Then the map is float32's, near the float64 search on a trained net and no more than that."""
    ev = Evidence(trained_tiny(), photos(4, seed=5)[0])
    quick, exact = opticam_with(Search(), exact=False)(ev), METHODS["opticam"](ev)
    assert not torch.equal(quick, exact)
    assert settling.gap(quick, exact) < 0.1


def test_what_a_released_mask_hides_is_black():
    close(normalise(torch.zeros(1, 1, 1, 3, dtype=torch.uint8))[0, :, 0, 0], torch.tensor(BLACK))


def test_released_search_ends_where_the_score_fell_between_two_checks(ev):
    """A search that is checked after every step is the search of as many steps as the score did not fall."""
    images = ev.images[:1]
    one = Evidence(ev.net, images, ev.targets[:1])
    ended = opticam_with(Search(steps=30, check=1))(one)
    runs = torch.stack([opticam_with(Search(steps=steps))(one) for steps in range(31)])
    assert (runs - ended).abs().amax((1, 2, 3)).min() == 0


# -- several layers, pixels -------------------------------------------------------------------------


def test_cameras_at_the_released_sizes_is_its_twin():
    ev = double(tiny(), photos(1, seed=5)[0])
    scales = releases.CAMERAS_SCALES
    assert [round(224 * scale) for scale in scales] == list(range(224, 1000, 100))
    slow = slow_cameras(ev.net, ev.images[0], int(ev.targets[0]), 0, scales=scales, mode="bicubic")
    close(cameras_with(scales, "bicubic")(ev)[0], slow)


def test_zoom_of_every_relu_is_zoomcam_where_each_resolution_has_one(ev):
    close(releases.zoom_of_every_relu(ev), METHODS["zoomcam"](ev))


def test_a_floor_under_the_local_mean_is_not_met_where_layers_halve(ev):
    close(releases.polycam_with_floor(ev), METHODS["polycam_plus"](ev), rtol=1e-9, atol=1e-12)


def test_selective_normgrad_is_the_scaling_layers_positive_part(ev):
    product = ev.gradient * ev.activations
    parts = (product.clamp(min=0).square().sum(1) + product.clamp(max=0).square().sum(1)).sqrt()
    close(METHODS["normgrad_scaling"](ev), parts)
    assert (releases.normgrad_selective(ev) <= parts + 1e-15).all()


def test_a_bias_in_the_square_rule_keeps_relevance_from_the_pixels(ev):
    """Without it the pixels get all that reaches the first layer; with it b^2 / (sum w^2 + b^2) of each unit stays."""
    run, size = ev.net.graph.run, (2, 3, 6, 6)
    conv = next(node for node in run.graph.nodes if op_of(node) == "conv2d")
    first = part(run, [conv.args[0]], [conv])
    start, rows = torch.rand(2, 6, 6, 6, dtype=torch.float64), torch.ones(size, dtype=torch.float64)
    leaf = rows.requires_grad_()
    out = following.through(first, rules.squared_weights, leaf)
    (share,) = torch.autograd.grad(out, leaf, start / out.detach())
    close(share.sum((1, 2, 3)), start.sum((1, 2, 3)))
    assert settling.gap(METHODS["lrp_gamma"](ev), releases.lrp_gamma_with_bias(ev)) > 1e-3


def epsilon_shares(net, images):
    """Per weighted layer, its kind and the mean epsilon of `lrp_epsilon` over 0.25 rms(z)."""
    found = []

    def measured(step, *rows):
        out = step.apply(*rows)
        if step.op in following.WEIGHTED:
            mass = step.reweighted(torch.abs)(rows[0].abs())
            found.append((step.op, float(0.02 * mass.mean() / (0.25 * out.square().mean().sqrt()))))
        return out

    following.through(net.graph.quick.run, measured, images[(..., *net.visible)])
    return found


def test_epsilon_of_lrp_is_what_its_docstring_measured():
    small = cases.drawn(vgg_small())
    nets = [(tiny(), photos(4, seed=5)[0]), (trained_tiny(), photos(4, seed=5)[0]), (small, photos(4, size=96)[0])]
    for net, images in nets:
        with torch.no_grad():
            found = epsilon_shares(net, images)
        assert all(0.2 < share < 0.85 for kind, share in found if kind == "conv2d")
        assert 0.4 < next(share for kind, share in found if kind == "linear") < 3.4


def test_what_is_not_torchrays_does_not_bear_its_name():
    assert "extremal" not in METHODS
    assert METHODS["extremal_soft"].source.startswith("wallcheck: after Fong et al. 2019")


# -- the page ---------------------------------------------------------------------------------------


def test_every_release_is_measured_on_both_nets_and_variants_are_what_is_shown():
    evidence = cases.cases(cases.drawn(tiny()), photos(2, seed=5)[0])
    for release in releases.RELEASES:
        assert release.ours in METHODS and (release.variant is None or release.maps is METHODS[release.variant])
        for case in ("plain", "trained"):
            found = releases.distance(release, evidence[case])
            assert 0 <= found.difference <= 1 and found.ours_unseen == found.ours_unseen
            if METHODS[release.ours].verdict.startswith("zero"):
                assert found.ours_unseen == found.theirs_unseen == 0


def test_the_trained_net_is_sure():
    ev = cases.trained(tiny(), 8)
    left = 1 - ev.logits.double().softmax(1).amax(1)
    assert 1e-11 < left.median() < 1e-7


def test_releases_of_transformers_are_measured_and_keep_their_side_of_the_wall():
    evidence = transformers.evidence(2)
    for release in transformers.RELEASES:
        assert releases.distance(release, evidence["trained"]).difference > 1e-3
        for ev in evidence.values():
            assert 0 < releases.distance(release, ev).difference <= 1
            if METHODS[release.ours].verdict == "zero":
                assert torch.count_nonzero(release.maps(ev)[:, ev.unseen]) == 0
    assert set(transformers.RUN) <= set(METHODS)
    assert all(f"`{name}`" in transformers.run_page() for name in transformers.RUN)


def test_what_is_told_of_vit_explain_is_a_rollout_where_nothing_is_dropped(monkeypatch):
    monkeypatch.setattr(transformers, "DROPPED", 0.0)
    ev = Evidence(VITS["class token, trained"](), photos(2, seed=5)[0])
    close(transformers.rollout_of_vit_explain(ev), METHODS["rollout"](ev))


def test_a_cosine_moves_legrad_and_a_logits_scale_does_not():
    ev = Evidence(VITS["class token, trained"](), photos(2, seed=5)[0])
    assert settling.gap(METHODS["legrad"](ev), transformers.legrad_by_cosine(ev)) > 1e-2

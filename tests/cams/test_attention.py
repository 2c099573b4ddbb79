"""Methods of attention beside each other, beside torchcam, and methods of cells on a transformer's cuts."""

import copy

import pytest
import torch

import wallcheck as wc
from tests.nets import VITS, photos, tiny_vit
from wallcheck import models
from wallcheck.cams import METHODS
from wallcheck.cams.attention.layerwise import layerwise
from wallcheck.cams.attention.relevance import handed_to_attention
from wallcheck.evidence import Evidence
from wallcheck.models import blind
from wallcheck.numerics import unit_range

close = torch.testing.assert_close


@pytest.fixture(params=VITS)
def evidence(request):
    return Evidence(VITS[request.param](), photos(3, seed=5)[0])


@pytest.fixture(scope="module")
def torchvisions():
    """A transformer that wallcheck did not write, without a wall, and images."""
    model = models.SMALL["vit"](num_classes=5).eval()
    return model, torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))


# -- torchcam ---------------------------------------------------------------------------------------


def test_legrad_is_torchcams(torchvisions):
    from torchcam.methods import LeGrad

    model, images = torchvisions
    ours = METHODS["legrad"](Evidence(blind(model, 96, wall=wc.Wall.none((8, 8))), images, targets=[0, 2, 4]))
    with LeGrad(model, list(model.encoder.layers)) as extractor:
        (theirs,) = extractor([0, 2, 4], model(images))
    close(unit_range(ours), theirs, rtol=0, atol=1e-4)  # torchcam stretches to [0, 1], with an epsilon of 1e-8 below


# -- what the lemma says ------------------------------------------------------------------------------


def test_gradient_alone_leaks_and_times_attention_does_not(evidence):
    assert (METHODS["legrad_class"](evidence)[:, evidence.unseen] > 0).any()
    assert torch.count_nonzero(METHODS["legrad_times_attention"](evidence)[:, evidence.unseen]) == 0


def test_legrad_of_the_mean_of_all_tokens_leaks_even_times_attention(evidence):
    """Unseen queries are in that mean: the repair must be of the token that the head reads."""
    everything = layerwise(evidence, lambda t: t.mean(1, keepdim=True).expand_as(t), lambda block: block.probabilities)
    assert (everything[:, evidence.unseen] > 0).any()


def test_scores_leak_before_the_mask_and_not_after(evidence):
    raw, masked, halves = (METHODS[name](evidence) for name in ("agcam", "agcam_masked", "agcam_probabilities"))
    seen = ~evidence.unseen
    assert torch.equal(raw[:, seen], masked[:, seen])
    for map_ in (raw, halves):
        assert (map_[:, evidence.unseen] > 0).any()
    assert torch.count_nonzero(masked[:, evidence.unseen]) == 0


def test_without_a_wall_nothing_is_masked(torchvisions):
    model, images = torchvisions
    ev = Evidence(blind(model, 96, wall=wc.Wall.none((8, 8))), images)
    assert torch.equal(METHODS["agcam"](ev), METHODS["agcam_masked"](ev))


def test_softmaxed_gradeclip_adds_up_to_the_gradient_times_what_the_class_token_heard():
    ev = Evidence(VITS["class token, trained"](), photos(3, seed=5)[0])
    block, slope = ev.attention.blocks[-1], ev.attention.slopes[-1]
    whole = (slope.outputs[:, :, 0] * block.outputs[:, :, 0]).sum((1, 2))
    own = (block.probabilities[:, :, 0, 0] * (slope.outputs[:, :, 0] * block.values[:, :, 0]).sum(2)).sum(1)
    close(METHODS["gradeclip_softmaxed"](ev).sum((1, 2)) + own, whole)


def test_relevance_is_handed_from_the_class_to_attention_and_never_across_the_wall(evidence):
    hidden = torch.cat([torch.zeros(evidence.graph.form.prefix, dtype=torch.bool), evidence.unseen.flatten()])
    for handed in handed_to_attention(evidence):
        assert handed.isfinite().all() and torch.count_nonzero(handed) > 0
        assert torch.count_nonzero(handed[:, :, ~hidden][..., hidden]) == 0
        assert torch.count_nonzero(handed[:, :, hidden]) == 0


@pytest.mark.parametrize("name", ["attnlrp", "cplrp"])
def test_straightened_networks_keep_what_reaches_the_last_norm(name, evidence):
    """The map is not the gradient times the input, nor another multiple of it."""
    plain = METHODS["inputxgradient"](evidence)
    map_ = METHODS[name](evidence)
    alike = torch.nn.functional.cosine_similarity(map_.flatten(1), plain.flatten(1))
    assert (alike.abs() < 0.999).all()


def test_rollouts_rows_are_shares(evidence):
    """Of a rollout, prefix tokens' shares taken off, no more than 1 is left, and nothing is negative."""
    for name in ("rollout", "rollout_max", "rollout_min", "gmar_l1", "gmar_l2"):
        map_ = METHODS[name](evidence)
        assert (map_ >= 0).all()
        assert (map_.sum((1, 2)) <= 1 + 1e-5).all()
        if not evidence.graph.form.prefix:
            close(map_.sum((1, 2)), torch.ones(len(map_)))


def test_the_reciprocam_of_a_patch_that_nobody_sees_is_that_of_no_patch(evidence):
    far = METHODS["vit_reciprocam"](evidence)[:, -1]
    plain = METHODS["vit_reciprocam_subtracted"](evidence)
    assert torch.equal(far, far[:, :1].expand_as(far))
    assert torch.count_nonzero(plain[:, evidence.unseen]) == 0 and (far > 0).all()


# -- methods of cells on cuts of a transformer --------------------------------------------------------

ZERO = [
    name
    for name, method in METHODS.items()
    if method.verdict == "zero" and not method.body.__module__.startswith("wallcheck.cams.attention")
]
SIGNED = {
    "gradcam": "may_leak", "xgradcam": "may_leak", "ablationcam": "may_leak", "scorecam": "leaks", "eigencam": "class_free",
    "hirescam": "zero", "layercam": "zero", "gradcam_elementwise": "zero", "gradient": "zero", "inputxgradient": "zero",
}  # fmt: skip


@pytest.mark.parametrize("layer", ["blocks.0", "blocks.1"])
@pytest.mark.parametrize("pooled", [False, True], ids=["class token", "pooled"])
@pytest.mark.parametrize("name", SIGNED)
def test_methods_of_cells_keep_their_verdict_on_tokens(name, pooled, layer):
    method = METHODS[name]
    assert method.verdict == SIGNED[name]
    ev = Evidence(_cut(pooled, layer), photos(3, seed=5)[0])
    hidden = ev.unseen if method.grid == "cells" else torch.from_numpy(ev.regions.unseen.copy())
    maps = method(ev)
    if method.verdict == "zero":
        assert torch.count_nonzero(maps[:, hidden]) == 0 and torch.count_nonzero(maps) > 0
    else:  # "leaks" says "on every unseen cell" of activations that are not negative, which tokens may be
        assert (maps[:, hidden] > 0).any()


@pytest.mark.parametrize("name", ZERO)
def test_what_is_zero_for_all_weights_is_zero_on_tokens_or_not_defined(name):
    method, ev = METHODS[name], Evidence(_cut(False, "blocks.1"), photos(2, seed=5)[0])
    if reason := method.refuses(ev.net):
        assert reason
        return
    hidden = ev.unseen if method.grid == "cells" else torch.from_numpy(ev.regions.unseen.copy())
    assert torch.count_nonzero(method(ev)[:, hidden]) == 0


def _cut(pooled: bool, layer: str):
    key = pooled, layer
    if key not in _CUTS:
        options = dict(num_classes=4, image_size=24, patch=4, channels=16, depth=3, heads=2)
        model = models.opened("wallcheck:vit_small", seed=1, pooled=pooled, **options)
        _CUTS[key] = blind(model, 24, layer=layer, kind="trunk")
    return _CUTS[key]


_CUTS: dict = {}


def test_the_cut_does_not_move_a_map_of_attention():
    """Where the cells are taken is nothing to methods that take attention off the whole graph."""
    images = photos(2, seed=5)[0]
    for name in ("generic_attention", "legrad", "transformer_attribution"):
        one, two = (METHODS[name](Evidence(_cut(False, layer), images)) for layer in ("blocks.0", "blocks.1"))
        close(one, two)


def test_a_wall_at_another_side_is_as_shut():
    for wall in ("top:1/2", "left:1/3", "right:2"):
        net = tiny_vit(wall=wall)
        ev = Evidence(net, photos(2, seed=5)[0])
        for name in ("generic_attention", "transformer_attribution", "attcat", "bt_head", "gradeclip_softmaxed"):
            assert torch.count_nonzero(METHODS[name](ev)[:, ev.unseen]) == 0
        assert (METHODS["legrad"](ev)[:, ev.unseen] > 0).any()


# -- second derivatives -----------------------------------------------------------------------------


def test_shapley_cams_differentiate_attention_twice(evidence):
    """By the directional derivative of the gradient, in float64; torch's fused attention has none."""
    exact = Evidence(copy.deepcopy(evidence.net).double(), evidence.images.double(), evidence.targets)
    step = 1e-5
    slopes = [slope_at(exact, (1 + sign * step) * exact.activations) for sign in (1, -1)]
    weights = exact.gradient - (slopes[0] - slopes[1]) / (2 * step) / 2
    close(METHODS["shapleycam_hires"](exact), (weights * exact.activations).sum(1), rtol=1e-5, atol=1e-9)
    for name in ("shapleycam_hires", "shapleycam_e"):
        assert torch.count_nonzero(METHODS[name](evidence)[:, evidence.unseen]) == 0


def slope_at(ev: Evidence, cells: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        leaf = cells.detach().requires_grad_()
        (slope,) = torch.autograd.grad(ev.explained(ev.graph.logits(leaf, ev.beside)).sum(), leaf)
    return slope

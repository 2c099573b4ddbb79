"""Attribution through the head: completeness, identities, parity with captum and scikit-learn."""

import copy
import importlib

import pytest
import torch
from torch import nn

from tests.heads import CHAINS, CHANNELS, ROWS, class_scores, evidence_of, with_head
from tests.nets import CLASSES, VITS, photos, tiny, trained_tiny
from tests.windows import chain
from wallcheck.auditing import applicable
from wallcheck.cams import METHODS, _rules
from wallcheck.cams.ablation.attribution import exact_shap_weights, lasso, sampled_shapley
from wallcheck.cams.ablation.channels import ablation_drops
from wallcheck.evidence import Evidence
from wallcheck.models import vgg_small

# -- identities -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pooled", [False, True])
def test_linear_head_lift_is_exact_shap_is_ablation(pooled):
    ev = evidence_of(copy.deepcopy(tiny(hidden=(), pooled=pooled)).double())
    lift = _rules.deeplift(ev).sum((2, 3))
    for other in (
        ablation_drops(ev),
        exact_shap_weights(ev),
        sampled_shapley(ev, 2),
        (ev.gradient * ev.activations).sum((2, 3)),
    ):
        torch.testing.assert_close(lift, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", CHAINS)
def test_deeplift_is_complete_and_gated(name):
    ev = evidence_of(with_head(name))
    shares = _rules.deeplift(ev)
    rise = ev.score - class_scores(ev, torch.zeros_like(ev.activations))
    torch.testing.assert_close(shares.sum((1, 2, 3)), rise, rtol=1e-10, atol=1e-11)
    assert torch.count_nonzero(shares[:, :, ev.unseen]) == 0
    torch.testing.assert_close(METHODS["lift_elementwise"](ev).sum((1, 2)), rise, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", ["flat", "two layers", "pooled", "max-pooled"])
def test_zplus_loses_nothing_where_every_unit_is_reached(name):
    net = with_head(name)
    for parameter in net.head.parameters():
        parameter.data.abs_()
    ev = evidence_of(net)
    start = torch.tensor([[1.0, -0.25, -0.25, -0.25]]).double().expand(3, -1)
    torch.testing.assert_close(_rules.zplus(ev, start).sum((1, 2, 3)), start.sum(1))


def test_shapley_values_are_complete_and_sampling_finds_them():
    ev = evidence_of(copy.deepcopy(trained_tiny()).double())
    exact = exact_shap_weights(ev)
    rise = ev.score - class_scores(ev, torch.zeros_like(ev.activations))
    for weights in (exact, sampled_shapley(ev, 2), sampled_shapley(ev, 64)):
        torch.testing.assert_close(weights.sum(1), rise, rtol=1e-10, atol=1e-12)
    few, many = (float((sampled_shapley(ev, n) - exact).abs().max()) for n in (4, 128))
    assert many < few < float(exact.abs().max())
    assert many < 0.03 * float(exact.abs().max())


def test_a_permutation_and_its_reverse_are_exact_for_interactions_of_two_channels():
    """y = (sum of A)^2 - ... has only pairs: one permutation with its reverse gives the Shapley values."""

    class Pairs(nn.Module):
        def forward(self, cells):
            return cells.sum((1, 2, 3))[:, None].square() * torch.arange(1, CLASSES + 1)

    net = copy.deepcopy(tiny()).double()
    net.head = Pairs()
    ev = evidence_of(net)
    each = ev.handed(ev.activations).sum((2, 3))
    by_hand = (ev.targets + 1)[:, None] * each * each.sum(1, keepdim=True)
    for weights in (sampled_shapley(ev, 2), exact_shap_weights(ev)):
        torch.testing.assert_close(weights, by_hand, rtol=1e-9, atol=1e-9)


def test_channels_that_do_the_same_have_the_same_exact_shapley_value():
    """The exact sum is symmetric; a sample of permutations only nearly so."""
    ev = evidence_of(with_head("two layers"))
    by_channel = ev.net.head[1].weight.data.view(16, CHANNELS, -1)
    by_channel[:, 5] = by_channel[:, 2]
    ev.activations[:, 5] = ev.activations[:, 2]
    exact, sampled = exact_shap_weights(ev), sampled_shapley(ev, 64)
    torch.testing.assert_close(exact[:, 5], exact[:, 2], rtol=1e-12, atol=1e-14)
    assert ((sampled[:, 5] - sampled[:, 2]).abs() > 1e-3 * exact[:, 2].abs()).any()


def test_exact_shapley_values_stop_at_twelve_channels():
    method, net = METHODS["shapcam_exact"], tiny(plan=(6, "M", 13)).train()
    with pytest.raises(
        ValueError, match=r"shapcam_exact is not .*has 13 channels.*2\^13 head passes.*at 12 channels; use shapcam"
    ):
        method(evidence_of(net))
    assert net.training
    assert method.refuses(tiny(plan=(6, "M", 12))) is None


def test_exact_shapley_values_are_left_out_of_an_audit_of_all_methods():
    chosen = {method.name for method in applicable(vgg_small(), None)}
    assert "shapcam" in chosen and "shapcam_exact" not in chosen
    assert "shapcam_exact" in {method.name for method in applicable(tiny(), None)}


@pytest.mark.parametrize("name", ["ablationcam", "liftcam", "shapcam", "shapcam_exact", "lrpcam", "relevancecam"])
def test_a_channel_the_head_does_not_hear_has_weight_exactly_0(name):
    """Channel 3 lives on unseen cells only: whatever it shows there must not light up."""
    net = copy.deepcopy(tiny())
    ev = evidence_of(net)
    ev.activations[:, 3, :ROWS] = 0
    ev.activations[:, 3, ROWS:] = 1e6
    quiet = evidence_of(net)
    quiet.activations[:, 3] = 0
    assert torch.equal(METHODS[name](ev), METHODS[name](quiet))


@pytest.mark.parametrize("state", ["untrained", "trained"])
def test_relevance_goes_back_through_a_mean_of_tokens(state):
    """Of a transformer without a class token the weight of a channel is the share of the mean over seen tokens, over all cells."""
    net = VITS[f"pooled, {state}"]()
    ev = Evidence(net, photos(3, seed=5)[0])
    (weight,) = (p.detach().clamp(min=0) for p in net.parameters() if p.shape == (CLASSES, ev.activations.shape[1]))
    mean = ev.activations[:, :, ~ev.unseen].mean(2).clamp(min=0)
    start = torch.full((3, CLASSES), -1 / CLASSES)
    start[torch.arange(3), ev.targets] = 1
    shares = mean * ((start / (mean @ weight.T)) @ weight)
    wanted = torch.einsum("bk,bkhw->bhw", shares / ev.cells, ev.activations)
    torch.testing.assert_close(METHODS["relevancecam"](ev), wanted, rtol=1e-4, atol=1e-6)


# -- heads that shares cannot go back through -------------------------------------------------------


@pytest.mark.parametrize("name", ["liftcam", "lift_elementwise", "lrpcam", "relevancecam"])
def test_a_head_without_rules_is_refused_by_name(name):
    for head, operation in (("unknown", "square"), ("ends in softmax", "softmax")):
        with pytest.raises(ValueError, match=f"{name} is not defined on this net: there is no rule for .*{operation}"):
            METHODS[name](evidence_of(with_head(head)))


@pytest.mark.parametrize("name", ["ablationcam", "fdcam", "reciprocam", "shapcam", "shapcam_exact", "limecam"])
def test_any_head_can_be_asked(name):
    assert METHODS[name](evidence_of(with_head("unknown"))).isfinite().all()


# -- peers ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning:captum")
@pytest.mark.parametrize("name", CHAINS)
def test_deeplift_is_captums(name):
    attr = importlib.import_module("captum.attr")
    ev = evidence_of(with_head(name))
    cells = ev.handed(ev.activations).contiguous()
    head = nn.Sequential(*_unnested(ev.net.head))
    theirs = attr.DeepLift(head).attribute(cells, baselines=torch.zeros_like(cells), target=ev.targets)
    torch.testing.assert_close(ev.handed(_rules.deeplift(ev)), theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.filterwarnings("ignore::UserWarning:captum")
@pytest.mark.parametrize("name", ["flat", "two layers", "pooled", "max-pooled", "convolution"])
def test_gradient_times_activation_is_captums_lrp(name):
    attr = importlib.import_module("captum.attr")
    from captum.attr._utils.lrp_rules import EpsilonRule

    ev = evidence_of(with_head(name))
    head = nn.Sequential(*_unnested(ev.net.head))
    for module in head:
        if isinstance(module, nn.Flatten):
            module.rule = EpsilonRule()
    theirs = attr.LRP(head).attribute(ev.handed(ev.activations).contiguous(), target=ev.targets)
    torch.testing.assert_close(ev.handed(ev.gradient * ev.activations), theirs, rtol=1e-6, atol=1e-7)


def _unnested(head):
    """Fresh copies without in-place work, which captum cannot hook."""
    for module in chain(copy.deepcopy(head)):
        if hasattr(module, "inplace"):
            module.inplace = False
        yield module


def test_lasso_is_scikit_learns_and_optimal():
    linear_model = importlib.import_module("sklearn.linear_model")
    draw = torch.Generator().manual_seed(4)
    features = torch.randint(2, (12, 12), generator=draw)
    answers = torch.randn(3, 12, generator=draw, dtype=torch.float64)
    kernel = torch.rand(3, 12, generator=draw, dtype=torch.float64)
    ours = lasso(features, answers, kernel, alpha=0.01)
    for weights, y, pi in zip(ours, answers, kernel, strict=True):
        theirs = linear_model.Lasso(alpha=0.01, tol=1e-13, max_iter=10**6)
        theirs.fit(features.double().numpy(), y.numpy(), sample_weight=pi.numpy())
        torch.testing.assert_close(weights, torch.from_numpy(theirs.coef_), rtol=1e-6, atol=1e-8)
        X = features.double()
        left = y - X @ weights
        left = left - (pi * left).sum() / pi.sum()
        pull = (X.T @ (pi * left)) / pi.sum()
        chosen = weights != 0
        torch.testing.assert_close(pull[chosen], 0.01 * weights[chosen].sign(), rtol=0, atol=1e-9)
        assert (pull.abs() <= 0.01 + 1e-9).all()


def test_limecam_is_captums():
    importlib.import_module("sklearn")
    lime = importlib.import_module("captum.attr._core.lime")
    from captum._utils.models.linear_model import SkLearnLasso

    ev = evidence_of(copy.deepcopy(trained_tiny()).double())
    draws = torch.randint(2, (CHANNELS, CHANNELS), generator=ev.generator(salt=41))

    def drawn(_, **kwargs):
        yield from draws[:, None]

    ours = METHODS["limecam"](ev)
    for i, target in enumerate(ev.targets.tolist()):
        explainer = lime.LimeBase(
            lambda A, target=target: ev.net.logits_from(A)[:, target],
            SkLearnLasso(alpha=0.01, tol=1e-6),
            lime.get_exp_kernel_similarity_function(),
            drawn,
            True,
            lambda m, A, **kwargs: A * m[0, :, None, None],
            None,
        )
        with torch.no_grad():
            weights = explainer.attribute(ev.activations[i : i + 1], n_samples=CHANNELS).flatten().double()
        theirs = torch.einsum("k,khw->hw", weights, ev.activations[i])
        torch.testing.assert_close(ours[i], theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))

"""Ablation and attribution through the head: identities, parity with captum and grad-cam, heads of other kinds."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from tests.nets import CLASSES, photos, tiny, trained_tiny
from wallcheck.cams import METHODS, _rules
from wallcheck.cams.ablation import ablation_drops, similar_channels
from wallcheck.cams.attribution import exact_shap_weights, lasso, sampled_shapley
from wallcheck.cams.reciprocam import empty_probability
from wallcheck.evidence import Evidence
from wallcheck.geometry import Wall
from wallcheck.models import BlindNet

CHANNELS, ROWS, COLUMNS = 8, 5, 12  # what `tiny` hands to its head
FLAT = CHANNELS * ROWS * COLUMNS


class Squared(nn.Module):
    """A head nobody knows: no chain of modules, channels do not add up."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(FLAT, CLASSES)

    def forward(self, cells):
        return self.last(cells.flatten(1).square())


HEADS = {
    "flat": partial(nn.Sequential, nn.Flatten(), nn.Linear(FLAT, CLASSES)),
    "two layers": lambda: nn.Sequential(nn.Flatten(), nn.Linear(FLAT, 16), nn.ReLU(), nn.Linear(16, CLASSES)),
    "in place, dropout, no bias": lambda: nn.Sequential(
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Sequential(nn.Linear(FLAT, 16, bias=False), nn.ReLU(inplace=True), nn.Dropout(0.5)),
        nn.Linear(16, 12),
        nn.LeakyReLU(),
        nn.Linear(12, CLASSES, bias=False),
    ),
    "pooled": lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 6), nn.ReLU(), nn.Linear(6, CLASSES)
    ),
    "max-pooled": lambda: nn.Sequential(
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(CHANNELS * 12, 9), nn.ReLU(), nn.Linear(9, CLASSES)
    ),
    "convolution": lambda: nn.Sequential(
        nn.Conv2d(CHANNELS, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(25, CLASSES)
    ),
    "smooth": lambda: nn.Sequential(nn.Flatten(), nn.Linear(FLAT, 7), nn.Softplus(), nn.Linear(7, CLASSES)),
    "ends in softmax": lambda: nn.Sequential(nn.Flatten(), nn.Linear(FLAT, CLASSES), nn.Softmax(1)),
    "unknown": Squared,
}
CHAINS = [name for name in HEADS if name not in ("unknown", "ends in softmax")]


def with_head(name, seed=0):
    """`tiny` in float64 with another head, weights large enough for every unit to matter."""
    net = copy.deepcopy(tiny()).double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net.head = HEADS[name]().double()
        for parameter in net.head.parameters():
            nn.init.normal_(parameter, 0, 0.3)
    return net.eval()


def evidence_of(net, count=3, **options):
    return Evidence(net, photos(count, seed=9)[0].to(next(net.parameters()).dtype), **options)


def class_scores(ev, activations):
    return ev.of_target(ev.rescore(activations))


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
    torch.testing.assert_close(sampled_shapley(ev, 2), exact_shap_weights(ev), rtol=1e-9, atol=1e-9)


def test_exact_shapley_values_stop_at_twelve_channels():
    with pytest.raises(ValueError, match="shapcam"):
        exact_shap_weights(evidence_of(tiny(plan=(6, "M", 13))))


@pytest.mark.parametrize("name", ["ablationcam", "liftcam", "shapcam", "lrpcam", "relevancecam"])
def test_a_channel_the_head_does_not_hear_has_weight_exactly_0(name):
    """Channel 3 lives on unseen cells only: whatever it shows there must not light up."""
    net = copy.deepcopy(tiny())
    ev = evidence_of(net)
    ev.activations[:, 3, :ROWS] = 0
    ev.activations[:, 3, ROWS:] = 1e6
    quiet = evidence_of(net)
    quiet.activations[:, 3] = 0
    assert torch.equal(METHODS[name](ev), METHODS[name](quiet))


def test_division_by_the_logit_only_rescales():
    ev = evidence_of(trained_tiny(), targets=[0, 1, 2])
    plain, published = METHODS["ablationcam"](ev), METHODS["ablationcam_published"](ev)
    assert (ev.score < 0).any(), "the test wants a map that is turned upside down"
    torch.testing.assert_close(published * ev.score[:, None, None], plain)


# -- heads that shares cannot go back through -------------------------------------------------------


@pytest.mark.parametrize("name", ["liftcam", "lift_elementwise", "lrpcam", "relevancecam"])
def test_a_head_without_rules_is_refused_by_name(name):
    for head, module in (("unknown", "Squared"), ("ends in softmax", "Softmax")):
        with pytest.raises(ValueError, match=f"{name} is not defined on this net: .*{module}"):
            METHODS[name](evidence_of(with_head(head)))


@pytest.mark.parametrize("name", ["ablationcam", "fdcam", "reciprocam", "shapcam", "limecam"])
def test_any_head_can_be_asked(name):
    assert METHODS[name](evidence_of(with_head("unknown"))).isfinite().all()


# -- peers ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning:captum")
@pytest.mark.parametrize("name", CHAINS)
def test_deeplift_is_captums(name):
    attr = pytest.importorskip("captum.attr")
    ev = evidence_of(with_head(name))
    cells = ev.handed(ev.activations).contiguous()
    head = nn.Sequential(*_unnested(ev.net.head))
    theirs = attr.DeepLift(head).attribute(cells, baselines=torch.zeros_like(cells), target=ev.targets)
    torch.testing.assert_close(ev.handed(_rules.deeplift(ev)), theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.filterwarnings("ignore::UserWarning:captum")
@pytest.mark.parametrize("name", ["flat", "two layers", "pooled", "max-pooled", "convolution"])
def test_gradient_times_activation_is_captums_lrp(name):
    attr = pytest.importorskip("captum.attr")
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
    for module in _rules.chain(copy.deepcopy(head)):
        if hasattr(module, "inplace"):
            module.inplace = False
        yield module


def test_lasso_is_scikit_learns_and_optimal():
    linear_model = pytest.importorskip("sklearn.linear_model")
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
    pytest.importorskip("sklearn")
    lime = pytest.importorskip("captum.attr._core.lime")
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


def test_published_ablation_is_grad_cams():
    grad_cam = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net = copy.deepcopy(trained_tiny())
    ev = evidence_of(net)

    class Whole(nn.Module):
        """grad-cam hooks the target layer in a forward of the whole image; net.forward runs the seen part alone."""

        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            return self.net.logits_from(self.net.features(images))

    cam = grad_cam.AblationCAM(model=Whole(), target_layers=[net.features[-1]])
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

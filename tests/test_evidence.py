"""Evidence: what methods share is computed once and right, and its doors refuse what does not fit."""

import copy
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.nets import CLASSES, photos, tiny, trained_tiny
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence

WALLS = {"bottom": ("bottom", 7), "left": ("left", 5), "centre": ("centre", 3), "open": None}


@pytest.fixture
def evidence():
    return Evidence(trained_tiny(), photos(5, seed=1)[0])


@pytest.fixture
def exact():
    """In float64, so that chunks differ in nothing that a tolerance of 1e-12 would hide."""
    return Evidence(copy.deepcopy(trained_tiny()).double(), photos(5, seed=1)[0].double())


# What follows from net and images


def test_the_predicted_class_is_explained_by_default(evidence):
    assert torch.equal(evidence.targets, evidence.net(evidence.images).argmax(1))
    torch.testing.assert_close(evidence.score, evidence.net(evidence.images).amax(1))


def test_a_given_class_is_explained(evidence):
    given = Evidence(evidence.net, evidence.images, targets=[0, 1, 2, 3, 0])
    assert given.targets.tolist() == [0, 1, 2, 3, 0]
    torch.testing.assert_close(given.score, given.logits[torch.arange(5), given.targets])


def test_the_gradient_is_the_scores_by_differences(exact):
    step = 1e-6
    directions = torch.randn(3, *exact.activations.shape, generator=torch.Generator().manual_seed(0)).double()
    for direction in directions:
        up, down = (exact.of_target(exact.rescore(exact.activations + s * direction)) for s in (step, -step))
        slope = (exact.gradient * direction).sum((1, 2, 3))
        torch.testing.assert_close((up - down) / (2 * step), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("wall", WALLS)
def test_the_gradient_is_zero_on_unseen_cells_and_not_on_seen_ones(wall):
    side = WALLS[wall] and dict(zip(("side", "cells"), WALLS[wall], strict=True))
    evidence = Evidence(tiny(wall=side), photos(2)[0])
    assert torch.count_nonzero(evidence.gradient[:, :, evidence.unseen]) == 0
    assert (evidence.gradient[:, :, ~evidence.unseen] != 0).any(0).any(0).all()


def test_the_trace_ends_in_activations_and_their_gradient(exact):
    assert torch.equal(exact.trace[0].output, exact.images)
    torch.testing.assert_close(exact.trace[-1].output, exact.activations, rtol=1e-12, atol=0)
    torch.testing.assert_close(exact.trace[-1].gradient, exact.gradient, rtol=1e-10, atol=1e-14)
    unseen = torch.from_numpy(exact.regions.unseen.copy())
    assert torch.count_nonzero(exact.trace[0].gradient[:, :, unseen]) == 0


class Calls(TorchDispatchMode):
    """Counts what torch computes, by name."""

    def __init__(self):
        super().__init__()
        self.by_name = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.by_name[function.overloadpacket.__name__] += 1
        return function(*arguments, **(keywords or {}))


def test_one_forward_to_the_layer_and_one_backward_serve_all(evidence):
    assert Evidence(
        evidence.net, evidence.images[:1]
    ).activations.any()  # the graph has been compared with its lean way
    with Calls() as calls:
        for _ in range(2):
            evidence.activations, evidence.logits, evidence.targets, evidence.gradient, evidence.score  # noqa: B018
            for name in ("gradcam", "gradcampp", "hirescam", "layercam", "xgradcam"):
                METHODS[name](evidence)
    assert calls.by_name["convolution"] == 2  # the net has two convolutions
    assert calls.by_name["addmm"] == 2 * 2  # and two linear layers: once for the logits, once for the gradient


def test_a_contrast_takes_its_rivals_from_the_logits_that_its_gradient_needs(evidence):
    fresh, known = (Evidence(evidence.net, evidence.images) for _ in range(2))
    with Calls() as calls:
        lazy = METHODS["finercam"](fresh)
    assert (calls.by_name["convolution"], calls.by_name["addmm"]) == (2, 2)  # two of each in the net, each once
    _ = known.logits, known.activations
    with Calls() as calls:
        assert torch.equal(METHODS["finercam"](known), lazy)
    assert (calls.by_name["convolution"], calls.by_name["addmm"]) == (0, 2)
    assert torch.equal(fresh.logits, known.logits) and torch.equal(fresh.activations, known.activations)


@pytest.mark.parametrize("name", ["gradient", "inputxgradient", "guidedbp", "deeplift", "fullgrad"])
def test_a_method_that_runs_the_whole_net_finds_the_predicted_class_on_its_way(name):
    evidence = Evidence(trained_tiny(), photos(3, seed=1)[0])
    METHODS[name](evidence)
    assert "activations" not in vars(evidence)  # no pass of its own for the class
    assert torch.equal(evidence.targets, trained_tiny()(evidence.images).argmax(1))


@pytest.mark.parametrize("name", ["gradient", "inputxgradient", "guidedbp"])
def test_a_method_that_runs_the_net_in_parts_finds_the_predicted_classes_on_its_way(name):
    images = photos(5, seed=1)[0]
    whole, parts = Evidence(trained_tiny(), images), Evidence(trained_tiny(), images, budget_mb=1e-3)
    assert parts.chunk(parts.graph.kept) == 1
    torch.testing.assert_close(METHODS[name](parts), METHODS[name](whole))
    assert "activations" not in vars(parts)  # no pass of its own for the class
    assert torch.equal(parts.targets, whole.targets)


def test_a_net_in_training_mode_is_explained_in_eval_mode_and_handed_back():
    net = tiny(dropout=0.5).train()
    evidence = Evidence(net, photos(3)[0])
    first = evidence.logits
    assert torch.equal(first, Evidence(net, photos(3)[0]).logits)
    assert all(module.training for module in net.modules())


# The two doors back


@pytest.mark.parametrize("budget", [1e-4, 0.01, 0.1, 256])
def test_chunks_change_nothing(exact, budget):
    chunked = Evidence(exact.net, exact.images, budget_mb=budget)
    changed = exact.activations[:, None] * torch.rand(7, 1, 1, 1, dtype=torch.float64)
    masks = torch.rand(11, 3, *exact.net.image_size, dtype=torch.float64)
    for one, two in (
        (chunked.rescore(changed.flatten(0, 1)), exact.rescore(changed.flatten(0, 1))),
        (chunked.rescore_images(lambda piece: masks[piece], 11), exact.rescore_images(lambda piece: masks[piece], 11)),
        (chunked.rescore_channels(torch.eye(8)), exact.rescore_channels(torch.eye(8))),
    ):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("budget", [1e-4, 0.05, 256])
def test_chunks_stay_within_the_budget(evidence, budget):
    values = 1000
    items = Evidence(evidence.net, evidence.images, budget_mb=budget).chunk(values)
    assert items == 1 or 3 * 4 * values * items <= budget * 2**20


def test_no_more_images_are_built_at_once_than_asked_for(evidence):
    pieces = []
    evidence.rescore_images(
        lambda piece: pieces.append(piece) or torch.zeros(piece.stop - piece.start, 3, 24, 24), 1000
    )
    assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
    assert pieces[-1].stop == 1000
    assert max(piece.stop - piece.start for piece in pieces) <= evidence.portion


@pytest.mark.parametrize("wall", WALLS)
@pytest.mark.parametrize("pooled", [True, False])
def test_rescoring_is_running_the_net(wall, pooled):
    side = WALLS[wall] and dict(zip(("side", "cells"), WALLS[wall], strict=True))
    net = tiny(wall=side, pooled=pooled).double()
    images = photos(4)[0].double()
    evidence = Evidence(net, images)
    with torch.no_grad():
        whole = net.logits_from(net.activations(images))
        for logits in (evidence.rescore_images(lambda piece: images[piece], 4), evidence.rescore(evidence.activations)):
            torch.testing.assert_close(logits, whole, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "head", [dict(hidden=(16,)), dict(hidden=()), dict(pooled=True), dict(hidden=(9, 7), dropout=0.3)]
)
def test_channels_switched_off_are_channels_set_to_zero(head):
    evidence = Evidence(tiny(**head).double(), photos(3)[0].double())
    presence = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(0)).double()
    presence[:, 0] = 0
    direct = torch.stack(
        [evidence.of_target(evidence.rescore(evidence.activations * p[:, :, None, None])) for p in presence.unbind(1)],
        1,
    )
    torch.testing.assert_close(evidence.rescore_channels(presence), direct, rtol=1e-11, atol=1e-13)


# Chance


def test_generators_repeat_and_are_told_apart(evidence):
    def draw(seed, salt):
        return torch.rand(4, generator=Evidence(evidence.net, evidence.images, seed=seed).generator(salt=salt)).tolist()

    draws = {(seed, salt): draw(seed, salt) for seed in (0, 1, 2) for salt in (0, 1, 2)}
    assert len(set(map(tuple, draws.values()))) == 9  # (1, 0) is not (0, 1)
    assert all(draw(*key) == drawn for key, drawn in draws.items())


def test_generators_do_not_touch_the_global_state(evidence):
    state = torch.get_rng_state()
    torch.rand(3, generator=evidence.generator())
    assert torch.equal(state, torch.get_rng_state())


# What is refused


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, 1], r"torch\.int64 \(2,\), expected 5 class indices; pass None"),
        (torch.zeros(5), r"torch\.float32 \(5,\), expected 5 class indices"),
        (torch.zeros(5, 1, dtype=torch.long), r"\(5, 1\), expected 5"),
        ([0, 1, 2, 3, CLASSES], r"targets run from 0 to 4, the net has classes 0 \.\. 3"),
        ([-1, 0, 0, 0, 0], r"targets run from -1 to 0, the net has classes 0 \.\. 3"),
        (torch.ones(5, dtype=torch.bool), r"torch\.bool \(5,\), expected 5 class indices"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        Evidence(trained_tiny(), photos(5)[0], targets)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite_are_refused(value):
    images = photos(2)[0]
    images[1, 2, 3, 4] = value
    with pytest.raises(ValueError, match="images hold NaN or infinity; check how they were read"):
        Evidence(tiny(), images)


@pytest.mark.parametrize("asked", ["class", "function"])
def test_copies_of_a_batch_are_asked_one_after_the_other(exact, asked):
    ev = exact
    if asked == "function":
        ev = exact.explaining(
            lambda logits: logits[:, 0] - logits[:, 1:].logsumexp(1) * torch.arange(1, len(logits) + 1)
        )
    others = [0.5 * ev.images, ev.images.flip(3)]
    together, alone = ev.at(torch.cat(others)), [ev.at(images) for images in others]
    torch.testing.assert_close(together.score, torch.cat([one.score for one in alone]), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(together.gradient, torch.cat([one.gradient for one in alone]), rtol=1e-10, atol=1e-14)

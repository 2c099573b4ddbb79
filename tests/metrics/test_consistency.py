"""Consistency and combined metrics by hand, against captum, scipy and grad-cam, and through the one door to all metrics."""

import copy
import importlib
import math

import numpy as np
import pytest
import torch
from scipy import stats

from tests.nets import photos, tiny, trained_tiny
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.imputing import imputed
from wallcheck.maps import displayed
from wallcheck.masking import SQUARES, asked, brightest_first, chances, random_squares, square_by_square
from wallcheck.measuring import nearby, scores
from wallcheck.metrics import COMBINED, CONSISTENCY, FAITHFULNESS, KINDS, LOCALISATION, named
from wallcheck.models import BlindNet
from wallcheck.numerics import probabilities

NAN = math.nan


def one(rows) -> torch.Tensor:
    return torch.tensor([rows], dtype=torch.float64)


COHERENT = {
    "the same": ([[0.0, 1.0], [2.0, 5.0]], [[0.0, 1.0], [2.0, 5.0]], 1.0),
    "twice as bright on a pedestal": ([[0.0, 1.0], [2.0, 5.0]], [[1.0, 3.0], [5.0, 11.0]], 1.0),
    "upside down": ([[0.0, 1.0], [2.0, 5.0]], [[5.0, 4.0], [3.0, 0.0]], 0.0),
    "unrelated": ([[0.0, 0.0], [1.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]], 0.5),
    "the second is empty": ([[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]], 0.5),
    "the first is constant": ([[1.0, 1.0], [1.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]], NAN),
    "the first is empty": ([[0.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]], NAN),
}


@pytest.mark.parametrize("case", COHERENT)
def test_coherency_by_hand(case):
    first, second, wanted = COHERENT[case]
    found = CONSISTENCY["coherency"](one(first), one(second)).item()
    assert found == pytest.approx(wanted, rel=1e-12, abs=1e-15, nan_ok=True)


def test_coherency_is_scipys_correlation():
    draw = torch.Generator().manual_seed(0)
    maps, again = (torch.rand(5, 7, 6, generator=draw, dtype=torch.float64) for _ in range(2))
    wanted = [(1 + stats.pearsonr(a.flatten(), b.flatten())[0]) / 2 for a, b in zip(maps, again, strict=True)]
    np.testing.assert_allclose(CONSISTENCY["coherency"](maps, again), wanted, rtol=1e-12)
    scaled = CONSISTENCY["coherency"](maps * 2.0**-1000, again * 2.0**1000)
    assert torch.equal(scaled, CONSISTENCY["coherency"](maps, again))


@pytest.mark.parametrize(("rows", "wanted"), [([[1.0, 1.0]], 1.0), ([[0.5, 0.0]], 0.25), ([[0.0, 0.0]], NAN)])
def test_complexity_by_hand(rows, wanted):
    assert CONSISTENCY["complexity"](one(rows)).item() == pytest.approx(wanted, nan_ok=True)


def test_sensitivity_by_hand_at_any_scale():
    maps, moved = one([[3.0, -4.0]]), torch.tensor([[[[3.0, -4.0]], [[3.0, -6.0]], [[0.0, -4.0]]]], dtype=torch.float64)
    for power in (-1074, -600, 0, 900):
        found = CONSISTENCY["max_sensitivity"](maps * 2.0**power, moved * 2.0**power)
        assert found.item() == 3 / 5
    assert CONSISTENCY["max_sensitivity"](0 * maps, moved).isnan().all()


def test_adcc_by_hand():
    value = COMBINED["adcc"](*torch.tensor([[0.8], [0.5], [0.75]], dtype=torch.float64))
    assert value.item() == pytest.approx(3 / (1 / 0.8 + 1 / 0.5 + 1 / 0.25), rel=1e-12)
    for worst in ([0.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]):
        assert COMBINED["adcc"](*torch.tensor(worst)[:, None]).item() == 0
    assert COMBINED["adcc"](*torch.tensor([[NAN], [0.5], [0.5]])).isnan().all()


def test_what_does_not_fit_is_refused():
    maps = torch.ones(2, 3, 4)
    with pytest.raises(ValueError, match=r"coherency: maps are \(2, 3, 4\) and \[\(2, 3, 5\)\]; give .*measuring"):
        CONSISTENCY["coherency"](maps, torch.ones(2, 3, 5))
    with pytest.raises(ValueError, match=r"max_sensitivity: maps are .* and \[\(2, 3, 4\)\]; give"):
        CONSISTENCY["max_sensitivity"](maps, maps)
    with pytest.raises(ValueError, match=r"expected one \(B,\) each of coherency, complexity, average_drop"):
        COMBINED["adcc"](torch.ones(2), torch.ones(2))
    with pytest.raises(ValueError, match="complexity: maps hold NaN"):
        CONSISTENCY["complexity"](maps * NAN)


# -- imputing -------------------------------------------------------------------------------------


def test_a_lone_missing_pixel_is_the_mean_of_its_neighbours():
    image = torch.arange(18.0, dtype=torch.float64).view(2, 3, 3) ** 2
    gone = torch.zeros(3, 3, dtype=torch.bool)
    gone[1, 1] = True
    around = image.flatten(1)
    straight, slanted = around[:, [1, 3, 5, 7]].sum(1) / 6, around[:, [0, 2, 6, 8]].sum(1) / 12
    torch.testing.assert_close(imputed(image, gone)[:, 1, 1], straight + slanted)
    assert torch.equal(imputed(image, gone)[:, ~gone], image[:, ~gone])


def test_a_corner_has_three_neighbours_and_nothing_is_told_by_nothing():
    image = torch.tensor([[[9.0, 4.0], [8.0, 1.0]]])
    gone = torch.tensor([[True, False], [False, False]])
    weights = torch.tensor([1 / 6, 1 / 6, 1 / 12])
    wanted = (weights * torch.tensor([4.0, 8.0, 1.0])).sum() / weights.sum()
    torch.testing.assert_close(imputed(image, gone)[0, 0, 0], wanted)
    assert not imputed(image, torch.ones(2, 2, dtype=torch.bool)).any()
    assert torch.equal(imputed(image, torch.zeros(2, 2, dtype=torch.bool)), image)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_imputing_is_grad_cams(share):
    road = importlib.import_module("pytorch_grad_cam.metrics.road")
    draw = torch.Generator().manual_seed(1)
    image = torch.randn(3, 17, 13, generator=draw)
    gone = torch.rand(17, 13, generator=draw) < share
    theirs = road.NoisyLinearImputer(noise=0)(image, (~gone).float())
    torch.testing.assert_close(imputed(image, gone), theirs, rtol=1e-5, atol=1e-6)


@pytest.fixture
def evidence() -> Evidence:
    return Evidence(trained_tiny(), photos(3, seed=5)[0])


@pytest.fixture
def shown() -> torch.Tensor:
    """Maps without ties, from 0 to 1."""
    draw = torch.Generator().manual_seed(2)
    return torch.stack([torch.randperm(24 * 24, generator=draw).view(24, 24) / (24 * 24 - 1) for _ in range(3)])


def test_road_is_grad_cams(evidence, shown, monkeypatch):
    """Their percentiles cut between pixels where 576 tenths do: masks differ by a pixel, and so do answers; with our masks
    they are the same to rounding."""
    road = importlib.import_module("pytorch_grad_cam.metrics.road")
    monkeypatch.setattr("wallcheck.masking.NOISE", 0.0)
    answers = asked(evidence, shown, names=["brightest_imputed", "darkest_imputed"])
    before = evidence.of_target(probabilities(evidence.logits.double()))
    fill = road.NoisyLinearImputer(noise=0)
    for ask, name, order in (("brightest_imputed", "road_most", shown), ("darkest_imputed", "road_least", -shown)):
        gone = brightest_first(evidence, order, 10)[:, 1:10]
        theirs = []
        for i, target in enumerate(evidence.targets.tolist()):
            filled = torch.stack([fill(evidence.images[i], (~mask).float()) for mask in gone[i]])
            whole = evidence.net(filled).double().softmax(1)[:, target]
            theirs.append((whole - before[i]).mean().item())
        np.testing.assert_allclose(FAITHFULNESS[name](before, answers[ask]).tolist(), theirs, rtol=1e-3, atol=1e-5)


# -- captum ---------------------------------------------------------------------------------------


def test_infidelity_is_captums(shown):
    """Theirs is not a share, and its scale may be negative: ours is theirs over the mean square of what is lost."""
    captum = importlib.import_module("captum.metrics")
    evidence = Evidence(copy.deepcopy(trained_tiny()).double(), photos(3, seed=5)[0])
    squares = random_squares(evidence)
    said, lost = square_by_square(evidence, shown).unbind(1)
    place = iter(range(SQUARES))

    def hidden(images, **_):
        square = squares[next(place)].to(images)
        return square.expand_as(images), images * (1 - square)

    theirs = captum.infidelity(
        evidence.net,
        hidden,
        evidence.images,
        shown[:, None].expand(-1, 3, -1, -1).double() / 3,  # a pixel's attribution, over its colours
        target=evidence.targets,
        n_perturb_samples=SQUARES,
        max_examples_per_batch=3,
        normalize=True,
    )
    ours = FAITHFULNESS["infidelity"](torch.ones(3, dtype=torch.float64), torch.stack([said, lost], 1))
    upright = (said * lost).sum(1) > 0
    assert upright.any()
    torch.testing.assert_close((ours * lost.square().mean(1))[upright], theirs[upright], rtol=1e-4, atol=0)
    assert (ours[~upright] == 1).all()


def test_max_sensitivity_is_captums(evidence):
    captum = importlib.import_module("captum.metrics")
    method, moved = METHODS["gradcam"], list(nearby(evidence))

    def explained(images):
        """Every image as often as captum repeats it."""
        (images,) = images if isinstance(images, tuple) else (images,)
        targets = evidence.targets.repeat_interleave(len(images) // 3)
        return (method(Evidence(evidence.net, images, targets)).flatten(1),)

    theirs = captum.sensitivity_max(
        explained,
        evidence.images,
        perturb_func=lambda images: torch.stack(moved, 1).flatten(0, 1),
        n_perturb_samples=len(moved),
    )
    ours = scores(evidence, method, ["max_sensitivity"])["max_sensitivity"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert all(0 < (x - evidence.images).abs().max() <= 0.02 + 1e-6 for x in moved)


# -- the door -------------------------------------------------------------------------------------


@pytest.fixture
def inside() -> torch.Tensor:
    mask = torch.zeros(3, 24, 24, dtype=torch.bool)
    mask[:, 2:8, 5:11] = True
    return mask


def test_the_door_gives_what_each_metric_gives_by_itself(evidence, inside):
    method = METHODS["gradcam"]
    found = scores(evidence, method, inside=inside)
    every = [metric for registry in KINDS.values() for metric in registry.values()]
    assert set(found) == {m.name for m in every if m.asks != "contributions"}  # which this deep head does not tell
    shown = displayed(method(evidence), evidence.net.image_size)
    before, answers = chances(evidence, torch.ones_like(shown)[:, None])[:, 0], asked(evidence, shown)
    for name, metric in FAITHFULNESS.items():
        torch.testing.assert_close(found[name], metric(before, answers[metric.asks]).double(), rtol=1e-6, atol=1e-9)
    assert torch.equal(found["complexity"], shown.double().mean((1, 2)))
    again = displayed(method(evidence.at(evidence.images * shown[:, None])), evidence.net.image_size)
    assert torch.equal(found["coherency"], CONSISTENCY["coherency"](shown, again))
    parts = [found[name] for name in COMBINED["adcc"].of]
    assert torch.equal(found["adcc"], COMBINED["adcc"](*parts))


def test_only_what_is_asked_for_is_done(evidence, monkeypatch):
    seen = []
    monkeypatch.setattr(Evidence, "rescore_images", lambda *_: seen.append(1))
    assert list(scores(evidence, METHODS["gradcam"], ["leak_mass", "complexity"])) == ["leak_mass", "complexity"]
    assert not seen


def test_localisation_needs_an_object_and_names_are_known(evidence):
    assert not set(scores(evidence, METHODS["random"])) & set(LOCALISATION)
    with pytest.raises(ValueError, match="pointing needs to know where the object is"):
        scores(evidence, METHODS["random"], ["pointing"])
    with pytest.raises(LookupError, match="no metric named 'addc'; nearest: adcc"):
        scores(evidence, METHODS["random"], ["addc"])


def test_an_empty_map_is_empty_for_all_that_masks_by_it(evidence, inside):
    found = scores(evidence, METHODS["constant"], inside=inside)
    assert all(torch.isfinite(value).all() for name, value in found.items() if name not in ("coherency", "adcc"))
    nothing = asked(evidence, torch.zeros_like(evidence.images[:, 0]))
    assert all(answer.isnan().all() for answer in nothing.values())


def test_what_the_metrics_notice_of_a_wall(evidence):
    """Painting unseen pixels moves what goes by ranks, sums or brightness, and nothing that goes by probabilities alone."""
    shown = displayed(METHODS["hirescam"](evidence), evidence.net.image_size)
    loud = shown.masked_fill(torch.from_numpy(evidence.regions.unseen.copy()), 0.99)
    quiet, noisy = asked(evidence, shown), asked(evidence, loud)
    moved = {name for name in quiet if not torch.equal(quiet[name], noisy[name])}
    assert moved == {"deleted", "inserted", "brightest_imputed", "darkest_imputed", "squares"}
    assert (CONSISTENCY["complexity"](loud) > CONSISTENCY["complexity"](shown)).all()


# -- the table ------------------------------------------------------------------------------------


def test_every_metric_says_what_it_is():
    every = [metric for registry in KINDS.values() for metric in registry.values()]
    assert len({metric.name for metric in every}) == len(every)
    for metric in every:
        assert metric.what and metric.ends and metric.source and metric.cost, metric.name
        assert metric.better in ("low", "high")
        assert named(metric.name) is metric


def test_a_net_is_left_as_it_was():
    net: BlindNet = tiny().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    scores(Evidence(net, photos(2)[0]), METHODS["gradcam"])
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())

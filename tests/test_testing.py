"""Each check finds what it is there for, and nothing else; failures that are expected are named, and must happen."""

import pytest
import torch

from tests.nets import photos, tiny
from wallcheck import models
from wallcheck.testing import CHECKS, Wall, called, net_named, parametrize_with_checks

DRAWN = torch.Generator().manual_seed(3)


@pytest.fixture(scope="module")
def wall():
    net = tiny()
    return Wall(net, photos(6)[0])


def seen_only(model, images, targets):
    """Brightness of the part that the net sees: an honest map, as far as these checks go."""
    maps = images.abs().sum(1)
    maps[:, maps.shape[1] // 2 :] = 0
    return maps


def everywhere(model, images, targets):
    return images.abs().sum(1) + 1


def silent(model, images, targets):
    return torch.zeros(len(images), 24, 24)


def over_the_batch(model, images, targets):
    return seen_only(model, images, targets) / (1 + images.abs().amax() * len(images))


def by_its_own_dice(model, images, targets):
    return seen_only(model, images, targets) * torch.rand(len(images), 24, 24, generator=DRAWN)


def changes_weights(model, images, targets):
    next(model.parameters()).data.mul_(2)
    return seen_only(model, images, targets)


def leaves_a_hook(model, images, targets):
    model.register_forward_hook(lambda *_: None)
    return seen_only(model, images, targets)


def divides_by_its_range(model, images, targets):
    maps = images.sum(1)
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    maps = (maps - low) / (high - low)
    maps[:, 12:] = 0
    return maps


BROKEN = {
    everywhere: "zero_on_unseen",
    silent: "zero_on_unseen",
    over_the_batch: "batch_equals_singles",
    by_its_own_dice: "deterministic",
    changes_weights: "model_unchanged",
    leaves_a_hook: "nothing_left_behind",
    divides_by_its_range: "finite_on_degenerate_input",
}


def test_an_honest_method_passes_all(wall):
    for check in CHECKS.values():
        check(seen_only, wall)
    for check in CHECKS.values():
        check("hirescam", wall)


@pytest.mark.parametrize("explain", BROKEN, ids=called)
@pytest.mark.filterwarnings("ignore::wallcheck.adapters.LeftBehind")
def test_each_check_finds_its_own(wall, explain):
    with pytest.raises(AssertionError) as raised:
        CHECKS[BROKEN[explain]](explain, wall)
    told = str(raised.value)
    expected = {
        everywhere: "a constant map scores", silent: "an empty map is not clean", over_the_batch: "over the whole batch",
        by_its_own_dice: "same random state", changes_weights: "changed ", leaves_a_hook: "left behind",
        divides_by_its_range: "the map of a black image holds NaN",
    }  # fmt: skip
    assert expected[explain] in told


def test_a_failure_is_drawn_also_where_nothing_leaks(wall, tmp_path):
    drawn = Wall(wall.net, wall.pixels, pictures=tmp_path)
    for explain in (everywhere, silent):
        path = drawn.picture(drawn.leakage(explain))
        assert path.parent == tmp_path and path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_expected_failures_are_strict_and_named_by_explainer():
    mark = parametrize_with_checks(
        [everywhere, seen_only], expected_failures={"everywhere": {"zero_on_unseen": "why"}}
    ).mark
    names, cases = mark.args
    assert names == ("explain", "check") and len(cases) == 2 * len(CHECKS)
    marked = {case.id: case.marks[0] for case in cases if case.marks}
    assert list(marked) == ["everywhere-zero_on_unseen"]
    assert marked["everywhere-zero_on_unseen"].kwargs == {"reason": "why", "strict": True}


def test_expectations_of_what_there_is_not_are_refused():
    with pytest.raises(LookupError, match="failures of nobody are expected, but there are only silent"):
        parametrize_with_checks([silent], expected_failures={"nobody": {"deterministic": "x"}})
    with pytest.raises(LookupError, match="no check named 'determinist'; nearest: deterministic"):
        parametrize_with_checks([silent], expected_failures=lambda explain: {"determinist": "x"})


def test_nets_by_name(tmp_path):
    path = models.save(tiny(), tmp_path / "net.safetensors")
    assert net_named(str(path)).regions.unseen.any()
    assert not net_named("assets:pooled-unwalled").regions.unseen.any()
    assert net_named("tests.nets:tiny").image_size == (24, 24)
    with pytest.raises(
        ValueError, match=r"torchvision:resnet18 has no wall; give a function that returns wallcheck.blind"
    ):
        net_named("torchvision:resnet18")


def test_what_takes_one_image_at_a_time_is_held_to_the_checks_all_the_same(wall):
    def one_by_one(model, images, targets):
        assert len(images) == 1
        return torch.autograd.functional.jacobian(lambda x: model(x)[0, targets[0]], images)[0].abs().sum(0)

    for name in (
        "batch_equals_singles",
        "deterministic",
        "model_unchanged",
        "nothing_left_behind",
        "finite_on_degenerate_input",
    ):
        CHECKS[name](one_by_one, wall)

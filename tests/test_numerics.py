"""What is decided once: no result depends on the scale of a map, and one logit has a probability too."""

import math

import pytest
import torch

from tests.nets import tiny
from wallcheck.auditing import audit
from wallcheck.cams import METHODS, cam_method
from wallcheck.evidence import Evidence
from wallcheck.maps import VIEWS, displayed, rectify, stretched, upsample
from wallcheck.metrics import LEAKAGE, LOCALISATION
from wallcheck.models import BlindNet, vgg
from wallcheck.numerics import log_probabilities, probabilities, times_power, unit_range, unit_scale, weighted_sum
from wallcheck.registry import Registry

UNSEEN = torch.zeros(4, 6, dtype=torch.bool)
UNSEEN[2:] = True
SCALES = {torch.float32: [-149, -140, -127, -126, -64, 0, 63, 120], torch.float64: [-1074, -1060, -600, 0, 511, 1015]}
SCALES |= {torch.float16: [-24, -20, -14, 0, 8], torch.bfloat16: [-133, -126, 0, 120]}
EVERY = [(dtype, power) for dtype, powers in SCALES.items() for power in powers]
SIZE = (16, 24)


@pytest.fixture
def whole() -> torch.Tensor:
    """Small whole numbers of both signs, so that every power of two times them is exact, down to the last bit there is."""
    return torch.randint(-7, 8, (9, 4, 6), generator=torch.Generator().manual_seed(0)).double()


def scaled(maps: torch.Tensor, dtype: torch.dtype, power: int) -> torch.Tensor:
    exact = times_power(maps, torch.tensor(power))
    assert torch.equal(exact.to(dtype).double(), exact)
    return exact.to(dtype)


@pytest.mark.parametrize(("dtype", "power"), EVERY)
def test_leakage_does_not_depend_on_scale(whole, dtype, power):
    maps = scaled(whole, dtype, power)
    for name, metric in LEAKAGE.items():
        wanted = metric(whole, UNSEEN, torch.ones_like(UNSEEN))
        assert torch.equal(metric(maps, UNSEEN, torch.ones_like(UNSEEN)), wanted), name
        assert (wanted > 0).any() and not wanted.isnan().any(), name


@pytest.mark.parametrize(("dtype", "power"), EVERY)
def test_localisation_does_not_depend_on_scale(whole, dtype, power):
    inside = torch.zeros_like(whole, dtype=torch.bool)
    inside[:, 1:3, 2:5] = True
    for name, metric in LOCALISATION.items():
        wanted = metric(whole, inside)
        assert torch.equal(metric(scaled(whole, dtype, power), inside), wanted), name
        assert (wanted > 0).any() and not wanted.isnan().any(), name


@pytest.mark.parametrize(("dtype", "power"), EVERY)
def test_every_alteration_does_not_depend_on_scale(whole, dtype, power):
    maps, plain = scaled(whole, dtype, power), whole.to(dtype)
    for ranged in (unit_range, lambda m: displayed(m, SIZE), lambda m: stretched(m, SIZE)):
        assert torch.equal(ranged(maps), ranged(plain))
    assert torch.equal(rectify(maps), scaled(rectify(whole), dtype, power))
    wide = times_power(upsample(whole, SIZE), torch.tensor(power)).to(dtype)  # rounded once, at the end
    assert torch.equal(upsample(maps, SIZE), wide)


@pytest.mark.parametrize(("dtype", "power"), [(d, p) for d, p in EVERY if d in (torch.float32, torch.float64)])
def test_sums_do_not_lose_what_is_small_on_the_way(whole, dtype, power):
    """Weights of 1e-45 on activations of 1e20, and sums that no product may overflow."""
    cells = torch.randint(0, 2, (9, 4, 3, 5), generator=torch.Generator().manual_seed(1)).double()
    weights = whole[:, :, 0]
    sums = weighted_sum(weights, cells)
    assert torch.equal(weighted_sum(scaled(weights, dtype, power), cells.to(dtype)), scaled(sums, dtype, power))
    up = 60 if power < 0 else -60
    lifted = weighted_sum(scaled(weights, dtype, power), scaled(cells, dtype, up))
    assert torch.equal(lifted, scaled(sums, dtype, power + up))


def test_unit_scale_is_exact_and_says_by_how_much(whole):
    for dtype, power in EVERY:
        unit, exponent = unit_scale(scaled(whole, dtype, power))
        assert ((unit.abs().amax((1, 2)) >= 0.5) & (unit.abs().amax((1, 2)) < 1)).all()
        assert torch.equal(times_power(unit, exponent - power), whole)


def test_zeros_stay_zeros_and_nothing_else_becomes_one():
    """Doubles hold ratios of 1e-600; the square of what is left must be a number."""
    maps = torch.tensor([[[0.0, 0.0], [0.0, -0.0]], [[1e300, 0.0], [5e-324, -5e-324]]], dtype=torch.float64)
    unit, _ = unit_scale(maps)
    assert not unit[0].any()
    assert torch.equal(unit[1].sign(), maps[1].sign())
    below = torch.tensor([[False, False], [True, True]])
    for name in ("leak_l2", "leak_mass", "leak_peak", "leak_any"):
        assert LEAKAGE[name](maps[1:], below, torch.ones_like(below)).item() > 0, name


@pytest.mark.parametrize("registry", [LEAKAGE, LOCALISATION], ids=lambda r: r.kind)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_map_that_is_no_number_does_not_read_as_empty(registry, bad):
    maps, region = torch.ones(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool)
    maps[0, 0, 0] = bad
    for name, metric in registry.items():
        regions = [region] if registry is LOCALISATION else [region[0], region[0]]
        with pytest.raises(ValueError, match=f"{name}: maps hold NaN or infinity, which would read as empty"):
            metric(maps, *regions)


def test_scaling_a_method_changes_no_row():
    """All views and metrics, from the faintest map that a float can hold to the brightest."""
    net, mine = tiny(), Registry("method")
    draw = torch.Generator().manual_seed(3)
    images = torch.randn(2, 3, *net.image_size, generator=draw)
    whole = torch.randint(-7, 8, (2, *net.wall.seen.shape), generator=draw).double()
    own = [
        cam_method(family="local", source="", cost="", verdict="may_leak", name=f"own{power}", registry=mine)(
            lambda ev, power=power: scaled(whole, torch.float32, power)
        )
        for power in SCALES[torch.float32]
    ]
    rows = audit(net, images, own)
    for (*key, _), group in rows.groupby(["image", "view", "on", "metric"], observed=True)[["value"]]:
        assert group["value"].nunique(dropna=False) == 1, key
    assert set(rows["view"].unique()) == {view.name for view in VIEWS}


# -- one logit ------------------------------------------------------------------------------------


def test_one_logit_is_read_by_its_sigmoid():
    logits = torch.tensor([[0.0], [math.log(3)], [-800.0]], dtype=torch.float64)
    torch.testing.assert_close(probabilities(logits)[:2, 0], torch.tensor([0.5, 0.75], dtype=torch.float64))
    assert log_probabilities(logits)[2].item() == -800
    assert torch.equal(
        log_probabilities(torch.cat([logits, 0 * logits], 1)), torch.cat([logits, 0 * logits], 1).log_softmax(1)
    )


def two_logits(net: BlindNet) -> BlindNet:
    """The same net with a second logit that is always 0: its softmax is the sigmoid of the first."""
    other = vgg((6, "M", 8), 24, 2, wall={"side": "bottom", "cells": 8}, seed=4).eval().double()
    other.load_state_dict({k: v for k, v in net.state_dict().items() if "head" not in k}, strict=False)
    for ours, theirs in zip(other.head.parameters(), net.head.parameters(), strict=True):
        ours.data.zero_()
        ours.data[: len(theirs)] = theirs.data
    return other


BY_PROBABILITY = (
    "reciprocam", "reciprocam_spread", "reciprocam_subtracted", "groupcam", "groupcam_denoised", "polycam", "polycam_plus",
    "polycam_minus", "scorecam_authors", "rise", "rise_centred", "shapleycam_mean_rest",
)  # fmt: skip


@pytest.mark.parametrize("name", BY_PROBABILITY)
def test_one_logit_gives_the_map_of_two_of_which_one_is_zero(name):
    net = vgg((6, "M", 8), 24, 1, wall={"side": "bottom", "cells": 8}, seed=4).eval().double()
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, two = Evidence(net, images), Evidence(two_logits(net), images, [0, 0])
    maps = METHODS[name](one)
    torch.testing.assert_close(maps, METHODS[name](two), rtol=1e-9, atol=1e-12)
    assert not torch.equal(maps[0], maps[1])


def test_limecam_needs_logits_that_move_by_more_than_its_penalty_however_many_there_are():
    """captum's alpha, 0.01, is in units of the logit: on a new net all weights are 0, on a bold one they are not."""
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    for classes in (1, 2, 10):
        net = vgg((6, "M", 8), 24, classes, wall={"side": "bottom", "cells": 8}, seed=4).eval()
        with torch.no_grad():
            net.head[-1].weight.mul_(100)
        maps = METHODS["limecam"](Evidence(net, images))
        assert maps.flatten(1).any(1).all() and not torch.equal(maps[0], maps[1]), classes
        with torch.no_grad():
            net.head[-1].weight.mul_(1e-5)
        assert not METHODS["limecam"](Evidence(net, images)).any(), classes


@pytest.mark.parametrize("name", ["finercam_authors", "finer_layercam_authors", "finer_hirescam_authors"])
def test_a_sum_over_rivals_of_one_logit_is_refused_and_not_0(name):
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    one, two = (vgg((6, "M", 8), 24, classes, wall={"side": "bottom", "cells": 8}, seed=4) for classes in (1, 2))
    with pytest.raises(ValueError, match="this net has one logit; take finercam"):
        METHODS[name](Evidence(one, images))
    assert METHODS[name].refuses(two) is None and METHODS[name](Evidence(two, images)).any()

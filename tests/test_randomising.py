"""Similarity by hand and against scipy; layers drawn anew, and nothing else."""

import numpy as np
import pytest
import torch
from scipy import stats

from tests.nets import photos, tiny, trained_tiny
from wallcheck.cams import METHODS
from wallcheck.certificate import certify
from wallcheck.evidence import Evidence
from wallcheck.numerics import correlation, ranks
from wallcheck.randomising import MODES, drawn, layers, randomised, stages
from wallcheck.similarity import MEASURES, similarities, ssim

SIZE = (24, 24)


@pytest.fixture
def maps() -> torch.Tensor:
    return torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_ranks_are_scipys(maps):
    tied = (2 * maps).round().flatten(1)
    np.testing.assert_array_equal(ranks(tied), stats.rankdata(tied.numpy(), axis=1))


def test_correlations_are_scipys(maps):
    other = (3 * maps.flip(0)).round()
    found = similarities(maps, other, SIZE)
    for i, (one, two) in enumerate(zip(maps.flatten(1).numpy(), other.flatten(1).numpy(), strict=True)):
        assert found["spearman"][i].item() == pytest.approx(stats.spearmanr(one, two).statistic, rel=1e-12)
        wanted = stats.spearmanr(abs(one), abs(two)).statistic
        assert found["spearman_absolute"][i].item() == pytest.approx(wanted, rel=1e-12)
        assert found["pearson"][i].item() == pytest.approx(stats.pearsonr(one, two).statistic, rel=1e-12)


def test_the_ends_of_every_measure(maps):
    same, turned = similarities(maps, maps, SIZE), similarities(maps, -maps, SIZE)
    assert set(same) == set(MEASURES)
    for name, values in same.items():
        np.testing.assert_allclose(values, 1, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(turned["spearman"], -1, rtol=1e-12)
    np.testing.assert_allclose(turned["pearson"], -1, rtol=1e-12)
    np.testing.assert_allclose(turned["spearman_absolute"], 1, rtol=1e-12)
    assert (turned["ssim"] < 0.5).all()


def test_constant_maps(maps):
    flat = torch.ones_like(maps)
    assert all(values.isnan().all() for values in similarities(flat, maps, SIZE).values())
    lost = similarities(maps, flat, SIZE)
    assert all((lost[name] == 0).all() for name in MEASURES if name != "ssim")
    assert correlation(maps.flatten(1) * 2.0**-1000, maps.flatten(1) * 2.0**900).tolist() == pytest.approx([1.0] * 4)


def test_ssim_by_hand():
    """Constant pictures a and b: (2 a b + 0.01^2) / (a^2 + b^2 + 0.01^2), the rest of the formula is 1; one pixel more on the
    first, so that it varies, far from where the mean is taken."""
    one, other = torch.full((1, 64, 64), 0.5, dtype=torch.float64), torch.full((1, 64, 64), 0.25, dtype=torch.float64)
    one[0, 32, 32] = 0.5 + 1e-9
    assert ssim(one, other).item() == pytest.approx((2 * 0.125 + 1e-4) / (0.25 + 0.0625 + 1e-4), rel=1e-6)


# -- drawing anew ---------------------------------------------------------------------------------


def changed(net, other) -> set[str]:
    pairs = zip(net.named_parameters(), other.named_parameters(), strict=True)
    return {name.rpartition(".")[0] for (name, one), (_, two) in pairs if not torch.equal(one, two)}


def test_layers_are_told_from_the_logits_down():
    assert layers(tiny()) == ["head.3", "head.1", "features.3", "features.0"]


@pytest.mark.parametrize("mode", MODES)
def test_each_stage_draws_its_layers_and_no_others(mode):
    net = trained_tiny()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    names = layers(net)
    for number, (name, other) in enumerate(stages(net, mode, seed=3)):
        assert name == names[number]
        assert changed(net, other) == set(names[: number + 1] if mode == "cascading" else [name])
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_layer_is_drawn_alike_in_either_mode_and_anew_by_seed():
    net = tiny()
    alone = dict(stages(net, "independent", seed=1))["features.3"]
    together = dict(stages(net, "cascading", seed=1))["features.3"]
    other = dict(stages(net, "independent", seed=2))["features.3"]
    name = "features.3.weight"
    assert torch.equal(alone.get_parameter(name), together.get_parameter(name))
    assert not torch.equal(alone.get_parameter(name), other.get_parameter(name))
    assert not torch.equal(*(drawn(torch.zeros(4, 9), torch.Generator().manual_seed(s)) for s in (0, 1)))


def test_draws_have_hes_variance_and_leave_the_global_state_alone():
    state = torch.random.get_rng_state()
    weight = drawn(torch.zeros(400, 30, 3, 3), torch.Generator().manual_seed(0))
    assert weight.var().item() == pytest.approx(2 / 270, rel=0.02)
    randomised(tiny(), ["head.1"], seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_net_drawn_anew_is_as_blind_as_before():
    net = trained_tiny()
    for _, other in stages(net, "cascading"):
        assert certify(other).holds
    maps = METHODS["hirescam"](Evidence(other, photos(3)[0]))
    assert maps.any() and torch.count_nonzero(maps[:, torch.from_numpy(net.wall.unseen.copy())]) == 0


def test_what_does_not_exist_is_refused():
    with pytest.raises(LookupError, match=r"head\.9: no layer with weights; there are head\.3, head\.1"):
        randomised(tiny(), ["head.9"], seed=0)
    with pytest.raises(ValueError, match="'both' is no mode; choose cascading or independent"):
        next(stages(tiny(), "both"))

"""The budget bounds what goes through the net at once, whoever asks; precision is a choice; a batch is read from the device once."""

import pytest
import torch
from torch import Tensor

from tests.nets import photos, tiny, trained_tiny
from wallcheck import traced
from wallcheck.auditing import audit, measure
from wallcheck.cams import METHODS
from wallcheck.cams.conceptor import algebra
from wallcheck.checking import chosen_metrics
from wallcheck.evidence import Evidence
from wallcheck.graph import BlindGraph, following, plainly
from wallcheck.graph._precision import holder, multiplied
from wallcheck.memory import BUDGET_MB, budget_of, told_of
from wallcheck.numerics import in_double, leading, leading_by_squaring
from wallcheck.study import Study

PIXELS = (
    "gradient",
    "integrated_gradients",
    "smoothgrad",
    "guidedbp",
    "deeplift",
    "lrp_epsilon",
    "excitationbp",
    "fgcam",
)
LAYERS = ("layercam_fused", "layercam_fused_tanh", "zoomcam", "refinecam", "winsorcam", "fullgrad", "fastcam")


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


@pytest.fixture
def largest(monkeypatch):
    """Numbers of images that a graph was handed, to differentiate or for the maps of its layers."""
    seen: list[int] = []

    def counted(function):
        return lambda run, rule, rows, *rest, **told: seen.append(len(rows)) or function(run, rule, rows, *rest, **told)

    monkeypatch.setattr(following, "through", counted(following.through))
    slopes = traced._with_slopes
    for name in ("visible_logits", "stage_maps"):
        own = getattr(BlindGraph, name)
        monkeypatch.setattr(BlindGraph, name, lambda graph, x, own=own: seen.append(len(x)) or own(graph, x))
    monkeypatch.setattr(traced, "_with_slopes", lambda ways, x, *rest: seen.append(len(x)) or slopes(ways, x, *rest))
    return seen


@pytest.mark.parametrize("name", [*PIXELS, *LAYERS])
def test_pixel_methods_and_traces_keep_to_the_budget(name, largest):
    """One image at a time where the budget holds no more, all of them where it holds all; the same maps."""
    images = photos(4, seed=3)[0]
    whole = METHODS[name](Evidence(trained_tiny(), images))
    assert max(largest) in (4, 5)  # a reference may go along
    largest.clear()
    pieces = METHODS[name](Evidence(trained_tiny(), images, budget_mb=1e-3))
    assert largest.count(1) >= 4 or largest.count(2) >= 4
    assert max(largest) <= 2
    close(pieces, whole)


def test_portions_explain_a_function_of_all_logits_too():
    images = photos(4, seed=3)[0]

    def contrast(logits: Tensor) -> Tensor:
        return logits[:, 0] - logits[:, 1:].logsumexp(1)

    for name in ("gradient", "layercam_fused_tanh"):
        whole = METHODS[name](Evidence(trained_tiny(), images).explaining(contrast))
        close(METHODS[name](Evidence(trained_tiny(), images, budget_mb=1e-3).explaining(contrast)), whole)


def test_the_slope_stops_at_the_first_layer_asked_for():
    """What lies before it is not differentiated; the layers are those of the whole trace."""
    evidence = Evidence(trained_tiny(), photos(2)[0])
    chosen = evidence.graph.last_steps
    few, every = evidence.traced(chosen), evidence.trace
    assert every[0].step is None and len(few) == len(chosen) < len(every)
    for number, layer in zip(chosen, few, strict=True):
        assert layer.step is every[1 + number].step
        torch.testing.assert_close(layer.gradient, every[1 + number].gradient)
        assert torch.equal(layer.output, every[1 + number].output)
    assert evidence.traced(chosen)[0].output is few[0].output  # kept


@pytest.mark.parametrize("mb, budget, expected", [(1, 100, 8), (8, 100, 4), (8, 20, 2), (8, 1, 1)])
def test_what_fits_the_cache_goes_together_and_a_few_that_do_not_within_the_budget(mb, budget, expected):
    values = mb * 2**20 // (3 * 4)  # input, output and workspace in float32; the cache is 8 MiB
    assert Evidence(tiny(), photos(1)[0], budget_mb=budget).near(values, least=4) == expected


def test_the_budget_is_that_of_the_device_unless_given():
    assert budget_of(torch.device("cpu")) == BUDGET_MB == Evidence(tiny(), photos(1)[0]).budget_mb
    assert Evidence(tiny(), photos(1)[0], budget_mb=3).budget_mb == 3
    assert told_of(torch.device("cpu")) == "cpu"


# -- precision ------------------------------------------------------------------------------------


def test_an_unknown_precision_is_refused_everywhere():
    for ask in (
        lambda: Evidence(tiny(), photos(1)[0], precision="half"),
        lambda: audit(tiny(), photos(1)[0], ["gradcam"], precision="half"),
        lambda: Study({"net": tiny()}, [], precision="half"),
    ):
        with pytest.raises(ValueError, match="precision is 'half'; choose from exact, fast"):
            ask()


def test_fast_rescores_images_in_bfloat16_and_nothing_else():
    exact, fast = (Evidence(trained_tiny(), photos(2)[0], precision=p) for p in ("exact", "fast"))
    assert torch.equal(fast.logits, exact.logits) and torch.equal(fast.gradient, exact.gradient)
    assert torch.equal(METHODS["ablationcam"](fast), METHODS["ablationcam"](exact))
    one, two = (METHODS["scorecam"](ev) for ev in (fast, exact))
    assert one.dtype == two.dtype and not torch.equal(one, two)
    assert float((one - two).abs().max()) < 0.05 * float(two.abs().max())


def test_a_gpu_multiplies_as_it_is_told_and_the_choice_is_back_after_it():
    def flags():
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    before = flags()
    with multiplied("fast", "cuda"):
        assert flags() == ("high", True)
        if (cpu := holder("mkldnn.matmul")) is not None:
            assert cpu.fp32_precision in ("ieee", "none")
        with multiplied("exact", "cuda"):
            assert flags() == ("highest", False)
        assert flags() == ("high", True)
    with plainly(torch.device("cpu"), "fast"):  # a CPU has no TF32
        assert flags() == ("highest", False)
    assert flags() == before


def test_the_manifest_tells_the_precision_and_folders_from_before_stay_theirs():
    exact, fast = (Study({"net": tiny()}, [], precision=p) for p in ("exact", "fast"))
    assert "precision" not in exact.settings and fast.settings["precision"] == "fast"
    assert (exact.config["precision"], fast.config["precision"]) == ("exact", "fast")


# -- one wait for the device ----------------------------------------------------------------------


def test_a_batch_is_read_from_the_device_once(monkeypatch):
    """Of our own methods: nothing but the one tensor of all values is copied to the CPU, and no value is asked for."""
    reads: list[str] = []
    copied, net = Tensor.cpu, trained_tiny()
    evidence, methods = (
        Evidence(net, photos(3)[0]),
        [METHODS[name] for name in ("gradcam", "hirescam", "layercam", "gradient")],
    )
    monkeypatch.setattr(Tensor, "cpu", lambda tensor: reads.append("cpu") or copied(tensor))
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: reads.append("tolist"))
    monkeypatch.setattr(Tensor, "item", lambda tensor: reads.append("item"))
    found = measure(evidence, methods, chosen_metrics(["leak_l2", "leak_any"]), net, "net", "images", [0, 1, 2])
    assert reads == ["cpu"] and set(found.rows["method"]) == {method.name for method in methods}


# -- what a GPU does at once ----------------------------------------------------------------------


@pytest.mark.parametrize("positive", [True, False])
def test_the_leading_pair_by_squaring_is_that_of_eigh(positive):
    states = torch.randn(4, 30, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    matrices = states @ states.mT if positive else states @ states.mT - 40 * torch.eye(30, dtype=torch.float64)
    (one, vector), (two, other) = leading(matrices, positive), leading_by_squaring(matrices, positive)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=0)
    torch.testing.assert_close((vector * other).sum(1).abs(), torch.ones(4, dtype=torch.float64), rtol=1e-12, atol=0)
    assert torch.count_nonzero(leading_by_squaring(torch.zeros(2, 3, 3, dtype=torch.float64), True)[1]) == 0


@pytest.mark.parametrize("shape", [(30, 12), (12, 30)])
def test_conceptors_of_all_images_at_once_are_those_of_each(shape):
    draw = torch.Generator().manual_seed(0)
    states, opposed = torch.randn(2, 3, *shape, generator=draw, dtype=torch.float64).clamp(min=0)
    states[:, ::3], opposed[:, 1::5] = 0, 0
    rows = torch.randn(3, 2, shape[0], generator=draw, dtype=torch.float64)
    together = algebra._through_all(rows, states, opposed)
    torch.testing.assert_close(together, algebra.through_and_not(rows, states, opposed), rtol=1e-10, atol=1e-12)
    assert torch.count_nonzero(together[:, :, ::3]) == 0


def test_double_precision_is_had_where_the_device_has_it():
    assert in_double(torch.ones(2)).dtype == torch.float64

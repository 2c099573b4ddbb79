"""One answer on every device: draws are made on the CPU, and float32 is float32 whatever the process has chosen."""

import ast
import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import wallcheck
from tests.nets import photos, trained_tiny
from wallcheck.auditing import applicable
from wallcheck.cams import METHODS
from wallcheck.cams.subspace import eigen
from wallcheck.evidence import Evidence
from wallcheck.graph import plainly
from wallcheck.graph._precision import NAMES, holder
from wallcheck.keeping import seeded
from wallcheck.lit.auditing import device_of, flags_of
from wallcheck.numerics import leading_by_squaring

DRAWS = {"rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli"}


def settings() -> list:
    named = [held.fp32_precision for name in NAMES if (held := holder(name)) is not None]
    return [torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, *named]


@pytest.fixture
def coarse():
    """A process that has asked for fast products: TF32 on GPUs, bfloat16 on CPUs."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def test_draws_are_made_on_the_cpu():
    """A generator of a device draws numbers of its own: none of ours is, and no draw is made on a device."""
    found = 0
    for path in Path(wallcheck.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            told = {word.arg for word in node.keywords}
            if node.func.attr in DRAWS and "generator" in told:
                found += 1
                assert "device" not in told, f"{path}:{node.lineno} draws on a device; draw on the CPU and move"
    assert found > 10
    assert Evidence(trained_tiny(), photos(1)[0]).generator().device.type == "cpu"


SEEDING = {("torch", "manual_seed"), ("random", "fork_rng"), ("cuda", "manual_seed"), ("cuda", "manual_seed_all")}


def test_no_seed_reaches_gpus_that_nothing_runs_on():
    """torch.manual_seed seeds them all, and torch.random.fork_rng starts them all: `wallcheck.keeping.seeded` does neither."""
    for path in Path(wallcheck.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                owner = getattr(node.value, "id", getattr(node.value, "attr", ""))
                assert (owner, node.attr) not in SEEDING, f"{path}:{node.lineno}; see wallcheck.keeping.seeded"


def test_draws_in_a_seeded_block_are_torchs_own_of_that_seed_and_nothing_is_moved():
    torch.manual_seed(5)
    before, expected = torch.random.get_rng_state(), torch.randn(3)
    torch.random.set_rng_state(before)
    torch.manual_seed(6)
    state = torch.random.get_rng_state()
    with pytest.raises(KeyError), seeded(5):
        assert torch.equal(torch.randn(3), expected)
        raise KeyError
    assert torch.equal(torch.random.get_rng_state(), state)


def test_inside_float32_is_full_and_the_choice_is_back_after_it(coarse):
    before = settings()
    with pytest.raises(KeyError), plainly(torch.device("cpu")):
        assert not {"tf32", "bf16", "medium", True} & set(settings())
        raise KeyError
    assert settings() == before and before[:2] == ["medium", True]


@pytest.mark.skipif(holder("") is None, reason="before torch 2.9 there are two flags alone")
@pytest.mark.parametrize("name", NAMES)
def test_a_choice_by_name_is_full_inside_and_back_after_it(name):
    held, before = holder(name), holder(name).fp32_precision
    held.fp32_precision = "tf32"
    try:
        chosen = [each.fp32_precision for each in map(holder, NAMES)]
        with plainly(torch.device("cpu")):
            assert "tf32" not in [each.fp32_precision for each in map(holder, NAMES)]
            assert torch.backends.cudnn.allow_tf32 is False  # can be read: torch reads it while it exports
        assert [each.fp32_precision for each in map(holder, NAMES)] == chosen
    finally:
        held.fp32_precision = before


@pytest.mark.parametrize("name", ["gradcam", "scorecam", "liftcam", "gradient", "integrated_gradients", "rise"])
def test_maps_do_not_depend_on_the_choice(name, coarse):
    found = METHODS[name](Evidence(trained_tiny(), photos(2)[0]))
    torch.set_float32_matmul_precision("highest")
    assert torch.equal(METHODS[name](Evidence(trained_tiny(), photos(2)[0])), found)


def test_what_is_written_for_gpus_gives_the_maps_of_a_cpu(monkeypatch):
    """Every branch that `Tensor.is_cuda` opens, on the CPU's own tensors and in double precision: several points at once; and
    eigenpairs of a batch at once. `make test-mock-gpu` is the same on tensors that lie elsewhere."""
    net, images = copy.deepcopy(trained_tiny()).double(), photos(3)[0].double()
    here = Evidence(net, images)
    wanted = {method.name: method(here) for method in applicable(net, None)}
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))
    monkeypatch.setattr(eigen, "leading", leading_by_squaring)
    there = Evidence(net, images)
    found = {name: METHODS[name](there) for name in wanted}
    apart = {name: float((found[name] - wanted[name]).abs().max() / wanted[name].abs().max()) for name in wanted}
    assert {name: far for name, far in apart.items() if not far < 1e-6} == {}


# -- a GPU is used where it is asked for ----------------------------------------------------------


def lying(*places: str) -> SimpleNamespace:
    """What has its weights there: a machine without a GPU can hold none on one."""
    return SimpleNamespace(
        parameters=lambda: (SimpleNamespace(device=torch.device(place)) for place in places), buffers=lambda: iter(())
    )


def test_a_gpu_is_not_taken_because_it_is_there(monkeypatch):
    net = trained_tiny()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of(flags_of({}, [net])) == torch.device("cpu")


@pytest.mark.parametrize(
    "nets, given, expected",
    [
        ([lying("cuda:1", "cuda:1")], {}, dict(accelerator="gpu", devices=[1])),
        ([lying("cuda")], dict(devices=2), dict(accelerator="gpu", devices=2)),
        ([lying("mps")], {}, dict(accelerator="mps", devices=1)),
        ([lying("cuda:0"), lying("cpu")], {}, dict(accelerator="cpu")),
        ([lying()], {}, dict(accelerator="cpu")),
        ([lying("cpu")], dict(accelerator="gpu", devices=8), dict(accelerator="gpu", devices=8)),
    ],
)
def test_a_run_goes_where_its_flags_say_and_else_where_its_nets_lie(nets, given, expected):
    assert flags_of(given, nets) == expected

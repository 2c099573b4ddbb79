"""What really runs is what is exported, what cannot be one graph is refused with its reason, and the model is left alone."""

import copy
import gc
import linecache
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests.graph.nets import CLASSES, FAMILIES, SIZE, Classifier, conv, drawn, images, model
from wallcheck.graph import exported
from wallcheck.graph._nodes import op_of
from wallcheck.models import vgg


def same(module: nn.Module, count: int = 3) -> bool:
    """Does the graph give the module's own logits, to the bit, for a batch of another size than it was traced with?"""
    graph = exported(module, 3, SIZE)
    with torch.no_grad():
        return torch.equal(graph.run(images(count)), module(images(count)))


@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.startswith("vit")])
@pytest.mark.parametrize("count", [1, 5])
def test_a_graph_gives_the_networks_own_bits_at_any_batch_size(name, count):
    assert same(drawn(FAMILIES[name]()), count)


# -- what runs beside the modules' own code ---------------------------------------------------------


def hooked(net):
    net.features[0].register_forward_hook(lambda module, inputs, value: value.clamp(max=0.25))


def pre_hooked(net):
    net.features.register_forward_pre_hook(lambda module, inputs: (inputs[0].flip(3),))


def replaced(net):
    net.features[2].forward = lambda x: -x


def parametrized(net):
    parametrizations.weight_norm(net.fc)


def subclassed(net):
    class Odd(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return x.abs()

    net.features[0][2] = Odd()


@pytest.mark.parametrize("change", [hooked, pre_hooked, replaced, parametrized, subclassed], ids=lambda f: f.__name__)
def test_what_changes_the_function_is_in_the_graph(change):
    net, plain = model(), model()
    change(net)
    assert same(net)
    assert change is parametrized or not torch.equal(net(images()), plain(images()))
    if change is not parametrized:
        assert exported(net, 3, SIZE).fingerprint() != exported(plain, 3, SIZE).fingerprint()


class InPlace(nn.Module):
    """Changes tensors of its own in place, one through a view."""

    def __init__(self, through_a_view: bool):
        super().__init__()
        self.view = through_a_view

    def forward(self, x: Tensor) -> Tensor:
        x = x * 2
        if self.view:
            x[:, :, 1:3] = 0.5
            x.transpose(2, 3)[:, :, 2].mul_(3)
        F.relu_(x)
        x += 1
        return x


@pytest.mark.parametrize("view", [False, True])
def test_in_place_operations_become_values(view):
    net = drawn(Classifier(InPlace(view), conv(3, 6)))
    graph = exported(net, 3, SIZE)
    assert same(net)
    assert not [n for n in graph.fx.nodes if n.op == "call_function" and getattr(n.target, "_schema", None) and n.target._schema.is_mutable]  # fmt: skip
    kept = images()
    graph.run(kept)
    assert torch.equal(kept, images()), "the images were changed"


def test_dropout_and_training_flags_do_not_matter():
    net = model().train()
    graph = exported(net, 3, SIZE)
    assert net.training and net.features[1].training
    assert torch.equal(graph.run(images()), net.eval()(images()))
    assert not {op_of(node) for node in graph.fx.nodes} & {"dropout", "native_dropout"}


DROPOUTS = [nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout]


@pytest.mark.parametrize("kind", DROPOUTS, ids=lambda each: each.__name__)
def test_every_dropout_is_left_out(kind):
    net = nn.Sequential(kind(0.5), nn.Flatten(), nn.Linear(3 * SIZE[0] * SIZE[1], 2))
    graph = exported(net, 3, SIZE)
    assert not [op_of(node) for node in graph.fx.nodes if "dropout" in op_of(node)]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_run_on_its_own_weights_in_float32(kind):
    net = model().to(kind)
    graph = exported(net, 3, SIZE)
    wanted = copy.deepcopy(net).float()
    torch.testing.assert_close(graph.run(images()), wanted(images()))
    assert next(net.parameters()).dtype == kind


def test_weights_are_shared_not_copied():
    net = model()
    held = {tensor.data_ptr() for tensor in exported(net, 3, SIZE).run.buffers()}
    assert {p.data_ptr() for p in net.parameters()} <= held


# -- what is left alone -----------------------------------------------------------------------------


def test_the_model_and_the_process_are_as_they_were():
    net = model()
    net.features[0][1].train()
    hook = net.features.register_forward_hook(lambda *told: None)
    net.fc.weight.grad = torch.ones_like(net.fc.weight)
    state, places = (
        copy.deepcopy(net.state_dict()),
        {k: (v.data_ptr(), v.stride()) for k, v in net.state_dict().items()},
    )
    flags, chance = [m.training for m in net.modules()], torch.random.get_rng_state()
    others = random.getstate(), np.random.get_state()[1].tolist()
    exported(net, 3, SIZE)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert {k: (v.data_ptr(), v.stride()) for k, v in net.state_dict().items()} == places
    assert [m.training for m in net.modules()] == flags
    assert list(net.features._forward_hooks) == [hook.id] and not net.features[0]._forward_hooks
    assert torch.equal(net.fc.weight.grad, torch.ones_like(net.fc.weight))
    assert all(p.requires_grad for p in net.parameters())
    assert torch.equal(torch.random.get_rng_state(), chance)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == others


class Keeping(nn.Module):
    """Keeps what it was handed, as an attention that can be looked at does."""

    def __init__(self):
        super().__init__()
        self.seen, self.last = [], {}

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        self.given = self.last["x"] = x
        return x


@pytest.mark.parametrize("logits", [True, False], ids=["run", "traced alone"])
def test_attributes_of_modules_hold_nothing_that_torch_traced_with(logits):
    keeping = Keeping()
    graph = exported(drawn(Classifier(keeping, conv(3, 6))), 3, SIZE, logits=logits)
    kept = [*keeping.seen, *keeping.last.values(), *([keeping.given] if hasattr(keeping, "given") else [])]
    assert bool(kept) == logits and {type(each) for each in kept} <= {Tensor}
    assert graph.run(images()).shape == (len(images()), CLASSES)


def thrice_traced() -> nn.Module:
    """torch asks of its own whether there is more than one image, so it is traced again, and once for one image."""
    return vgg((8, 16, "M", 24, "M", 32, "M", 64), 32, CLASSES, hidden=(16,)).eval()


def of_torch() -> int:
    """Objects of torch's own classes that Python's collector sees."""
    gc.collect()
    return sum(str(getattr(type(each), "__module__", "")).startswith("torch") for each in gc.get_objects())


@pytest.mark.parametrize(("made", "size"), [(model, SIZE), (thrice_traced, (32, 32))])
def test_a_thousand_exports_would_leave_nothing_with_torch(made, size):
    """Its objects, 1,500 an export without care, and texts of graphs: neither grows with the number of exports."""
    net = made()

    def left(exports: int) -> tuple[int, int]:
        for _ in range(exports):
            exported(net, 3, size)
        return of_torch(), len(linecache.cache)

    left(3)  # what torch loads and caches once
    objects, texts = left(1)
    more_objects, more_texts = left(10)
    assert more_texts == texts
    assert more_objects <= objects

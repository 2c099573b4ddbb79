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

from tests.graph.nets import CLASSES, FAMILIES, Classifier, conv, drawn
from wallcheck.graph import NotOneGraph, exported
from wallcheck.graph._nodes import op_of

SIZE = (12, 16)


def model() -> nn.Module:
    return drawn(Classifier(conv(3, 6, stride=2), nn.Dropout(0.5), conv(6, 6)))


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(count))


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


# -- what is refused --------------------------------------------------------------------------------


class Wrong(nn.Module):
    def __init__(self, does):
        super().__init__()
        self.does, self.fc, self.before = does, nn.Linear(3, CLASSES), 0.0
        self.register_buffer("level", torch.zeros(()))

    def forward(self, x: Tensor):
        return self.does(self, x)


def branching(net, x):
    if x.mean() > 0:  # depends on values
        x = -x
    return net.fc(x.mean((2, 3)))


def many(net, x):
    return net.fc(x.mean((2, 3))) * (2 if x.shape[0] > 4 else 1)


def one_by_one(net, x):
    return torch.stack([net.fc(image.mean((1, 2))) for image in x])


def alone(net, x):
    return net.fc((x - x.mean()).mean((2, 3)) if x.shape[0] == 1 else x.mean((2, 3)))


def even(net, x):
    return net.fc(x.mean((2, 3))) * (1 if x.shape[0] % 2 else 2)


def plain_number(net, x):
    return net.fc(x.mean((2, 3))) * x.mean().item()


def counting(net, x):
    return net.fc(x.mean((2, 3))) * x[x > 0].numel()


def kept_branch(net, x):
    return net.fc(torch.cond(x.mean() > 0, torch.sin, torch.cos, (x,)).mean((2, 3)))


def in_a_buffer(net, x):
    given = net.fc(x.mean((2, 3)) + net.level)
    net.level.copy_(x.mean())
    return given


def in_another_buffer(net, x):
    given = net.fc(x.mean((2, 3)) + net.level)
    net.level = 0.9 * net.level + x.mean()
    return given


def in_an_attribute(net, x):
    before, net.before = net.before, x.mean().detach()
    return net.fc(x.mean((2, 3)) + before)


def otherwise_exported(net, x):
    return net.fc(x.mean((2, 3)) * (1 if torch.compiler.is_exporting() else 2))


def otherwise_followed(net, x):
    return net.fc(x.mean((2, 3)) * (2 if torch.is_grad_enabled() else 1))


def by_chance_of_numpy(net, x):
    return net.fc(x.mean((2, 3)) * np.random.rand())


def by_chance_of_python(net, x):
    return net.fc(x.mean((2, 3)) * random.random())


def noisy(net, x):
    return net.fc((x + torch.randn_like(x)).mean((2, 3)))


def dropping(net, x):
    return net.fc(F.dropout(x, 0.5, training=True).mean((2, 3)))


def dropping_attention(net, x):
    return net.fc(F.scaled_dot_product_attention(x, x, x, dropout_p=0.3).mean((2, 3)))


REFUSED = {
    branching: r"depends on values at .*test_export\.py:\d+: if x\.mean\(\) > 0",
    many: r"something else for batches of some sizes \(of B images it asks B <= 4\)",
    one_by_one: r"the size of the batch \(a loop over images.*at once",
    alone: r"something else for batches of some sizes \(of B images it asks B == 1\)",
    even: r"something else for batches of some sizes .*Mod\(B, 2\)",
    plain_number: r"item makes a plain number",
    counting: r"index gives as many values as the images decide",
    kept_branch: r"cond holds operations that may or may not run",
    in_a_buffer: r"each call changes level, which the next one reads",
    in_another_buffer: r"each call changes level, which the next one reads",
    in_an_attribute: r"gives other logits than the graph",
    otherwise_exported: r"gives other logits than the graph .* being exported",
    otherwise_followed: r"with gradients on",
    by_chance_of_numpy: r"gives other logits than the graph .* chance",
    by_chance_of_python: r"gives other logits than the graph .* chance",
    noisy: r"randn_like draws random numbers in eval mode",
    dropping: r"dropout draws random numbers in eval mode",
    dropping_attention: r"scaled_dot_product_attention draws random numbers in eval mode",
}


@pytest.mark.parametrize("does", REFUSED, ids=lambda f: f.__name__)
def test_what_is_no_function_of_the_images_alone_is_refused_with_its_reason(does):
    with pytest.raises(NotOneGraph, match=REFUSED[does]):
        exported(Wrong(does), 3, SIZE)


def test_what_cannot_be_looked_into_or_has_no_shape_yet_is_named():
    net = model()
    net.features[0] = torch.jit.trace(net.features[0].eval(), images())
    with pytest.raises(NotOneGraph, match=r"features\.0 is TorchScript.*use the Python module"):
        exported(net, 3, SIZE)
    net.features[0] = nn.LazyConv2d(6, 3)
    with pytest.raises(ValueError, match=r"features\.0\.weight has no shape yet.*run the network once"):
        exported(net, 3, SIZE)
    assert isinstance(net.features[0].weight, nn.UninitializedParameter), "the tracing gave the layer its shape"


def test_a_refusal_prints_nothing_of_torchs(capfd):
    with pytest.raises(NotOneGraph):
        exported(Wrong(branching), 3, SIZE)
    assert capfd.readouterr() == ("", "")


def selected(net, x):
    return net.fc(x[:, :, KEPT].mean(2))


def measured(net, x):
    return net.fc(x.mean((2, 3)).view(len(x), -1))


def in_a_mode(net, x):
    with torch.autocast("cpu", enabled=False), torch.enable_grad():
        return net.fc(x.sin().mean((2, 3)))


def filled(net, x):
    y = torch.empty(x.shape[0], 3, *SIZE)
    y[:, :2], y[:, 2:] = x[:, :2], 0.5
    return net.fc(y.mean((2, 3)))


def of_a_weight(net, x):
    return net.fc(x.mean((2, 3))) * net.fc.bias[0].item()


def written_down(net, x):
    net.level.copy_(x.mean())
    return net.fc(x.mean((2, 3)))


def mapped(net, x):
    return net.fc(torch.vmap(torch.sin)(x).mean((2, 3)))


KEPT = torch.arange(SIZE[0] * SIZE[1]).view(SIZE) % 3 == 0


@pytest.mark.parametrize(
    "does", [selected, measured, in_a_mode, filled, of_a_weight, written_down, mapped], ids=lambda f: f.__name__
)
def test_idioms_of_users_are_one_graph_for_any_batch(does):
    net = Wrong(does)
    graph, level = exported(net, 3, SIZE), net.level.clone()
    assert torch.equal(level, torch.zeros(())), "the export wrote into the network"
    for count in (1, 2, 5):
        with torch.no_grad():
            torch.testing.assert_close(graph.run(images(count)), net(images(count)))
            kept = net.level.clone()
            graph.run(images(count + 1))
        assert torch.equal(net.level, kept), "the graph writes into the network"


class Coloured(Tensor):
    """Weights with operations of their own."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        made = super().__torch_function__(function, types, args, kwargs or {})
        return made + 1 if getattr(function, "__name__", "") == "linear" else made


def test_weights_of_a_subclass_bring_nothing_of_their_own_into_a_graph():
    net = model()
    net.fc.weight = nn.Parameter(net.fc.weight.detach().as_subclass(Coloured))
    with pytest.raises(NotOneGraph, match="gives other logits"):
        exported(net, 3, SIZE)


OUTPUTS = {
    "a dictionary": (lambda net, x: {"out": net.fc(x.mean((2, 3)))}, "a dict of 1 value"),
    "a tuple": (lambda net, x: (net.fc(x.mean((2, 3))), x), "a tuple of 2 values"),
    "a row": (lambda net, x: x.mean((1, 2, 3)), r"\(B\)"),
    "a map": (lambda net, x: x, r"\(B, 3, 12, 16\)"),
    "classes": (lambda net, x: net.fc(x.mean((2, 3))).argmax(1, keepdim=True), "int64"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_is_no_logits_is_refused_in_one_line(name):
    does, said = OUTPUTS[name]
    with pytest.raises(ValueError, match=said) as error:
        exported(Wrong(does), 3, SIZE)
    assert "wrap it in a module" in str(error.value) and "\n" not in str(error.value)


def test_images_that_do_not_fit_are_the_users_own_error():
    with pytest.raises(ValueError, match=r"does not run on images \(2, 4, 12, 16\).*check image size and colours"):
        exported(model(), 4, SIZE)


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


def test_a_thousand_exports_would_leave_nothing_with_torch():
    """Objects that Python's collector sees, and texts of graphs: neither grows with the number of exports."""

    net = model()

    def left(exports: int) -> tuple[int, int]:
        for _ in range(exports):
            exported(net, 3, SIZE)
        gc.collect()
        return len(gc.get_objects()), len(linecache.cache)

    left(3)  # what torch loads and caches once
    objects, texts = left(1)
    more_objects, more_texts = left(10)
    assert more_texts == texts
    assert more_objects - objects < 10 * 40  # of 1,500 each without care; sympy's own caches take a few

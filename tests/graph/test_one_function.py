"""What is no function of the images alone is refused with its reason; idioms that are one go through."""

from contextlib import ExitStack, suppress
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from tests.graph.dependence import RELEASE
from tests.graph.nets import SIZE, images, model
from tests.graph.no_functions import REFUSED, Wrong, branching, exporting
from wallcheck.graph import NotOneGraph, exported


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


def straight_through(net, x):
    return net.fc((x + (x.round() - x).detach()).mean((2, 3)))


def less_when_exported(net, x):
    return net.fc(x.mean((2, 3))) * (2 if torch.compiler.is_compiling() or exporting()() else 1)


def mapped(net, x):
    return net.fc(torch.vmap(torch.sin)(x).mean((2, 3)))  # exported since torch 2.7


def normalised(net, x):
    return net.fc(normalize(x, [0.5, 0.4, 0.3], [0.2, 0.2, 0.1]).mean((2, 3)))  # asks whether any deviation is 0


KEPT = torch.arange(SIZE[0] * SIZE[1]).view(SIZE) % 3 == 0


@pytest.mark.parametrize(
    "does",
    [selected, measured, in_a_mode, filled, of_a_weight, written_down, straight_through, less_when_exported]
    + [normalised]
    + [mapped] * (RELEASE > (2, 6)),
    ids=lambda f: f.__name__,
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
    assert not net.level.requires_grad, "a gradient of the images that it was run on is kept in the network"
    torch.testing.assert_close(slope(graph.run), slope(net))


@cache
def ramp(length: int) -> Tensor:
    return torch.linspace(-1, 1, length)


def by_a_table_kept_for_all(net, x):
    return net.fc((x * ramp(x.shape[3])).mean((2, 3)))


def test_tables_that_the_first_call_keeps_for_all_are_made_of_numbers():
    """functools.cache is nobody's module: what torch traces with would stay in it for good."""
    ramp.cache_clear()
    net = Wrong(by_a_table_kept_for_all)
    graph = exported(net, 3, SIZE)
    assert type(ramp(SIZE[1])) is Tensor and torch.equal(ramp(SIZE[1]), torch.linspace(-1, 1, SIZE[1]))
    torch.testing.assert_close(graph.run(images(3)), net(images(3)))


def slope(net) -> Tensor:
    given = images().requires_grad_()
    return torch.autograd.grad(net(given)[:, 0].sum(), given)[0]


def detached(net, x):
    return net.fc(x.sin().mean((2, 3))).detach()


def without_gradients(net, x):
    with torch.no_grad():
        return net.fc(x.sin().mean((2, 3)))


@pytest.mark.parametrize("does", [detached, without_gradients])
def test_what_lets_no_gradient_through_is_followed_as_the_function_that_it_computes(does):
    net = Wrong(does)
    torch.testing.assert_close(slope(exported(net, 3, SIZE).run), slope(lambda x: net.fc(x.sin().mean((2, 3)))))


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


class Answer:
    def __init__(self, logits):
        self.logits = logits


OUTPUTS = {
    "a class of its own": (lambda net, x: Answer(net.fc(x.mean((2, 3)))), "gives Answer, expected logits"),
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


def by_numpy_at_the_end(net, x):
    with ExitStack() as end:
        end.callback(x.numpy)  # which contextlib calls
        return net.fc(x.mean((2, 3)))


def test_the_line_that_is_told_is_none_of_pythons_own():
    with pytest.raises(NotOneGraph, match=r"test_one_function\.py:\d+: ") as error:
        exported(Wrong(by_numpy_at_the_end), 3, SIZE)
    assert "contextlib" not in str(error.value)


class Wrapper(nn.Module):
    """As torch.optim.swa_utils.AveragedModel and peft's are written."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


def test_a_wrapper_that_takes_anything_is_what_it_wraps():
    net = model()
    torch.testing.assert_close(exported(Wrapper(net), 3, SIZE).run(images(3)), net(images(3)))


class Observing(nn.Module):
    """A buffer that takes its shape from what it is given, as torch's observers have it, before another."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.scale.resize_(x.shape[1]).copy_(x.detach().amax((0, 2, 3)))
        self.seen.add_(1)
        return x.mean((2, 3)) * self.scale


def test_buffers_are_given_back_in_the_shape_that_they_had():
    net = Observing()
    with suppress(NotOneGraph):  # torch 2.11 exports it
        exported(net, 3, SIZE)
    assert torch.equal(net.scale, torch.ones(1)) and torch.equal(net.seen, torch.zeros(()))


class Pair(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x + y).mean((2, 3))


def test_a_network_that_takes_more_than_images_is_told_what_to_do():
    with pytest.raises(
        ValueError, match=r"missing 1 required.*wrap it in a module whose forward takes the images alone"
    ):
        exported(Pair(), 3, SIZE)


def test_images_that_do_not_fit_are_the_users_own_error():
    with pytest.raises(ValueError, match=r"does not run on images \(2, 4, 12, 16\).*check image size and colours"):
        exported(model(), 4, SIZE)

"""Guided gradients of any module from one forward."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests.nets import photos, tiny
from wallcheck.guided import input_gradients, recorded

RECTIFICATIONS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "function": F.relu,
    "function in place": F.relu_,
    "function with inplace": lambda x: F.relu(x, inplace=True),
    "torch": torch.relu,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp in place": lambda x: x.clamp_(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "ReLU6": nn.ReLU6(),
    "ReLU6 in place": nn.ReLU6(inplace=True),
    "relu6": F.relu6,
    "relu6 in place": lambda x: F.relu6(x, inplace=True),
    "operator in place": torch.ops.aten.relu_.default,
    "hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
}
PLACES = ("plain", "on a view")


class Net(nn.Module):
    """conv, rectify, conv, rectify, linear; each rectification on what the convolution gave or on a view of it."""

    def __init__(self, rectify, view: bool):
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(5 * 4, 3)
        self.rectify, self.view = rectify, view

    def forward(self, x):
        for layer in (self.one, self.two):
            x = 4 * layer(x)
            x = self.rectify(x.view(len(x), -1)).view(x.shape) if self.view else self.rectify(x)
        return self.last(x.flatten(1))


def slow(net: Net, images: torch.Tensor, target: int, upper: float) -> torch.Tensor:
    """Guided backpropagation of one logit by transposed layers, masks written out."""
    first = 4 * net.one(images)
    second = 4 * net.two(first.clamp(0, upper))
    down = net.last.weight[target].reshape(1, 5, 2, 2).expand(len(images), -1, -1, -1)
    down = down * ((second > 0) & (second < upper) & (down > 0))
    down = F.conv_transpose2d(4 * down, net.two.weight)
    down = down * ((first > 0) & (first < upper) & (down > 0))
    return F.conv_transpose2d(4 * down, net.one.weight)


@pytest.mark.parametrize("view", [False, True], ids=PLACES)
@pytest.mark.parametrize("kind", RECTIFICATIONS)
def test_guided_gradients_follow_the_formula_however_a_net_rectifies(kind, view):
    torch.manual_seed(0)
    net, images = Net(RECTIFICATIONS[kind], view).double(), 2 * torch.randn(4, 3, 6, 6, dtype=torch.float64)
    upper = 6.0 if "6" in kind or kind == "hardtanh" else float("inf")
    leaf, logits = recorded(net, images)
    standard, guided = input_gradients(logits[:, 1], leaf)
    assert torch.equal(logits, net(images))
    torch.testing.assert_close(guided, slow(net, images, 1, upper), rtol=1e-12, atol=1e-12)
    plain = images.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(Net.forward(net, plain)[:, 1].sum(), plain)
    torch.testing.assert_close(standard, wanted, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(standard, guided)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_the_papers_networks_agree_with_modules_whose_backward_is_guided(name):
    """The common way: a full backward hook on each ReLU module, of a net in which each is used once and out of place."""
    import torchvision

    net = getattr(torchvision.models, name)(weights=None, num_classes=5).double().eval()
    images = torch.randn(2, 3, 33, 33, dtype=torch.float64)
    leaf, logits = recorded(net, images)
    guided = input_gradients(logits[:, 2], leaf).guided
    other = copy.deepcopy(net)
    calls = apart(other)
    x = images.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(other(x)[:, 2].sum(), x)
    assert calls == {"resnet18": 17, "mobilenet_v2": 35}[name]
    torch.testing.assert_close(guided, wanted, rtol=1e-9, atol=1e-12)


class Guided(torch.autograd.Function):
    """Springenberg's rectifier with an upper bound, as a function of its own."""

    @staticmethod
    def forward(ctx, x, upper):
        ctx.save_for_backward((x > 0) & (x < upper))
        return x.clamp(0, upper)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0] * (gradient > 0), None


def apart(net: nn.Module) -> int:
    """Every ReLU's forward replaced by Guided; how many calls a forward makes."""
    count = [0]
    for module in net.modules():
        if isinstance(module, (nn.ReLU, nn.ReLU6)):
            upper = 6.0 if isinstance(module, nn.ReLU6) else float("inf")

            def forward(x, upper=upper):
                count[0] += 1
                return Guided.apply(x, upper)

            module.forward = forward
    net(torch.zeros(1, 3, 33, 33, dtype=torch.float64))
    return count[0]


def test_each_image_has_the_gradient_it_has_alone():
    net, images = tiny().double(), photos(5)[0].double()
    leaf, logits = recorded(net, images)
    together = input_gradients(logits[:, 0], leaf)
    for number in range(5):
        leaf, logits = recorded(net, images[number : number + 1])
        alone = input_gradients(logits[:, 0], leaf)
        torch.testing.assert_close(together.standard[number], alone.standard[0], rtol=1e-9, atol=1e-15)
        torch.testing.assert_close(together.guided[number], alone.guided[0], rtol=1e-9, atol=1e-15)


def test_both_gradients_of_a_blind_net_are_zero_on_unseen_pixels():
    net, (images, labels) = tiny(), photos(4)
    leaf, logits = recorded(net, images)
    for gradient in input_gradients(logits.gather(1, labels[:, None]), leaf):
        assert torch.count_nonzero(gradient[:, :, torch.from_numpy(net.regions.unseen.copy())]) == 0
        assert torch.count_nonzero(gradient) > 0


def test_nothing_is_left_on_net_or_graph_even_when_the_pass_fails():
    net, images = tiny(), photos(3)[0]
    leaf, logits = recorded(net, images)
    first = input_gradients(logits[:, 0], leaf)

    def fails(*_):
        raise RuntimeError("power cut")

    handle = logits.grad_fn.register_hook(fails)
    with pytest.raises(RuntimeError, match="power cut"):
        input_gradients(logits[:, 0], leaf)
    handle.remove()
    again = input_gradients(logits[:, 0], leaf)
    (plain,) = torch.autograd.grad(logits[:, 0].sum(), leaf)
    assert torch.equal(first.standard, again.standard)
    assert torch.equal(first.guided, again.guided)
    assert torch.equal(first.standard, plain)
    assert not any(module._forward_hooks or module._backward_hooks for module in net.modules())
    assert not images.requires_grad


@pytest.mark.parametrize("activation", [nn.GELU(), nn.LeakyReLU(), nn.Hardtanh(-1, 1)], ids=lambda a: type(a).__name__)
def test_a_net_without_rectifiers_is_refused(activation):
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), activation)
    leaf, logits = recorded(net, torch.randn(2, 3, 2, 2))
    with pytest.raises(ValueError, match=r"no rectifier .* use a network that has some"):
        input_gradients(logits[:, 0], leaf)


def scripted(net: nn.Module):
    script = torch.jit.script(net)
    for _ in range(3):  # becomes one node once it has been profiled
        script(torch.randn(2, 3, 2, 2, requires_grad=True))
    return script


@pytest.mark.parametrize(
    ("hide", "node"),
    [
        (lambda net: lambda x: checkpoint(net, x, use_reentrant=True), "CheckpointFunctionBackward"),
        (lambda net: torch.compile(net, backend="aot_eager"), "CompiledFunctionBackward"),
        (scripted, "DifferentiableGraphBackward"),
    ],
    ids=["checkpoint", "compile", "script"],
)
@pytest.mark.filterwarnings("ignore")
def test_a_graph_that_cannot_be_seen_is_refused(hide, node):
    hidden = hide(nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.ReLU()))
    leaf, logits = recorded(lambda x: hidden(x).relu(), torch.randn(2, 3, 2, 2))
    with pytest.raises(ValueError, match=f"{node}.* train it without"):
        input_gradients(logits[:, 0], leaf)

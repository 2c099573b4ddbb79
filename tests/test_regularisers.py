"""The regulariser of interpretable gradients: twice differentiable, and what trains with it."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from tests.nets import photos, tiny
from wallcheck.guided import input_gradients, recorded
from wallcheck.regularisers import ERRORS, interpretable_gradients


def parameters_of(net: nn.Module) -> tuple[torch.Tensor, ...]:
    return tuple(parameter.detach().clone().requires_grad_() for parameter in net.parameters())


def penalty_of(net: nn.Module, regulariser, images, labels):
    """The penalty as a function of the net's parameters."""
    names = [name for name, _ in net.named_parameters()]

    def penalty(*values):
        def forward(x):
            return torch.func.functional_call(net, dict(zip(names, values, strict=True)), (x,))

        return regulariser(forward, images, labels)[1]

    return penalty


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 3, 2), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3), nn.ReLU6(), nn.Linear(3, 3)
    ).double()  # fmt: skip


@pytest.mark.parametrize("of", ["logit", "loss"])
@pytest.mark.parametrize("error", ERRORS)
def test_double_backward_passes_gradcheck(error, of):
    """Through convolution, batch-norm in training mode, rectifiers in place, pool and linear layers."""
    net, images = small(), torch.randn(3, 3, 5, 5, dtype=torch.float64)
    for module in net:
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    penalty = penalty_of(net, interpretable_gradients(error=error, of=of, detach=False), images, torch.arange(3))
    assert gradcheck(penalty, parameters_of(net), atol=1e-6)


@pytest.mark.parametrize("error", ["cosine", "l2"])
def test_triple_backward_passes_gradgradcheck(error):
    net, images = small()[2:], torch.randn(2, 3, 4, 4, dtype=torch.float64)
    penalty = penalty_of(net, interpretable_gradients(error=error, detach=False), images, torch.arange(2))
    assert gradgradcheck(penalty, parameters_of(net), atol=1e-5)


@pytest.mark.parametrize("error", ERRORS)
def test_errors_pass_gradgradcheck(error):
    one, other = (torch.randn(3, 7, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert gradcheck(ERRORS[error], (one, other))
    assert gradgradcheck(ERRORS[error], (one, other))


def test_a_detached_teacher_is_a_constant_of_the_penalty():
    net, images, labels = tiny().double(), photos(4)[0].double(), torch.arange(4)
    penalty = interpretable_gradients()(net, images, labels)[1]
    found = torch.autograd.grad(penalty, net.parameters(), allow_unused=True)
    leaf, logits = recorded(net, images)
    standard, teacher = input_gradients(logits[torch.arange(4), labels], leaf, differentiable=True)
    assert not teacher.requires_grad
    wanted = ERRORS["cosine"](standard.flatten(1), teacher.detach().clone().flatten(1)).mean()
    for one, other in zip(found, torch.autograd.grad(wanted, net.parameters(), allow_unused=True), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-14)
    taught = interpretable_gradients(detach=False)(net, images, labels)[1]
    weight = net.features[0].weight
    assert not torch.allclose(torch.autograd.grad(taught, weight)[0], found[0], rtol=1e-3)


@pytest.mark.parametrize("error", ERRORS)
def test_errors_are_zero_between_equals_and_defined_at_zero(error):
    gradient = torch.tensor([[1.0, -2.0, 3.0]], requires_grad=True)
    nothing = torch.zeros(1, 3, requires_grad=True)
    assert ERRORS[error](gradient, gradient).item() == pytest.approx(0, abs=1e-6)
    for one, other in ((gradient, nothing), (nothing, gradient), (nothing, nothing)):
        value = ERRORS[error](one, other)
        assert value.isfinite().all()
        assert all(g.isfinite().all() for g in torch.autograd.grad(value.sum(), (gradient, nothing), allow_unused=True) if g is not None)  # fmt: skip


def test_error_values_by_hand():
    one, other = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, -4.0]])
    assert {name: error(one, other).item() for name, error in ERRORS.items()} == {
        "cosine": 1.0, "l1": 3.5, "l2": 12.5, "histogram": 1.0,
    }  # fmt: skip


def test_batch_norm_counts_a_batch_once():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 22 * 22, 4))
    other, (images, labels) = copy.deepcopy(net), photos(6)
    logits, penalty = interpretable_gradients()(net, images, labels)
    penalty.backward()
    assert torch.equal(logits, other(images))
    assert net[1].num_batches_tracked == 1
    assert torch.equal(net[1].running_var, other[1].running_var)


def test_a_scale_divides_out():
    net, (images, labels) = tiny().double(), photos(4)
    one = interpretable_gradients(error="l2")(net, images.double(), labels)[1]
    other = interpretable_gradients(error="l2")(net, images.double(), labels, scale=2.0**12)[1]
    torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_stays_near_the_gradients_of_float32(dtype):
    net, (images, labels) = tiny(), photos(8)
    whole = interpretable_gradients()(net, images, labels)[1]
    with torch.autocast("cpu", dtype):
        logits, penalty = interpretable_gradients()(net, images, labels, scale=2.0**10)
    assert logits.dtype == dtype
    assert penalty.dtype == torch.float32
    penalty.backward()
    assert penalty.item() == pytest.approx(whole.item(), abs=0.03)
    assert all(parameter.grad.dtype == torch.float32 for parameter in net.parameters() if parameter.grad is not None)


def test_steps_bring_the_gradients_together():
    net, (images, labels) = tiny().train(), photos(32)
    regulariser, optimiser = interpretable_gradients(), torch.optim.Adam(net.parameters(), 3e-3)
    penalties = []
    for _ in range(25):
        optimiser.zero_grad()
        _, penalty = regulariser(net, images, labels)
        penalty.backward()
        optimiser.step()
        penalties.append(penalty.item())
    assert penalties[-1] < 0.6 * penalties[0]


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(6, 12), nn.Linear(12, 3)

    def forward(self, images):
        tokens = self.inner(images.flatten(2).transpose(1, 2)).relu()[:, None]
        return self.head(F.scaled_dot_product_attention(tokens, tokens, tokens).mean((1, 2)))


def test_attention_is_trained_too():
    """Its fused kernel has no second derivative."""
    net, images, labels = Attentive(), torch.randn(4, 6, 5, 5), torch.tensor([0, 1, 2, 0])
    logits, penalty = interpretable_gradients()(net, images, labels)
    (logits.sum() + penalty).backward()
    assert penalty > 0 and net.inner.weight.grad.isfinite().all() and net.inner.weight.grad.any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(weight=-1), "weight is -1"),
        (dict(weight=float("nan")), "weight is nan"),
        (dict(error="cosin"), "nearest: cosine"),
        (dict(of="probability"), "'logit' of the label or the 'loss'"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises((ValueError, LookupError), match=message):
        interpretable_gradients(**wrong)


def test_a_gradient_scaler_trains_in_float16():
    """As a 16-bit training does it: the scaler's scale on loss and gradients alike, steps with infinities left out."""
    net, (images, labels) = tiny().train(), photos(16)
    before = copy.deepcopy(net.state_dict())
    optimiser, scaler = torch.optim.SGD(net.parameters(), 0.1), torch.amp.GradScaler("cpu", init_scale=2.0**40)
    for _ in range(40):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.float16):
            logits, penalty = interpretable_gradients()(net, images, labels, scaler.get_scale())
            loss = F.cross_entropy(logits, labels) + 0.5 * penalty
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
    assert 1 <= scaler.get_scale() < 2.0**40
    assert loss.isfinite()
    assert all(value.isfinite().all() for value in net.state_dict().values())
    assert not torch.equal(net.state_dict()["features.0.weight"], before["features.0.weight"])

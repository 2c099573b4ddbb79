"""Networks that are no function of the images alone, each with what its refusal says."""

import random
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.graph.nets import CLASSES


def exporting():
    return getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # since torch 2.7


EXPORTING = exporting()  # asked by a name of the user's own


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


def of_two(net, x):
    return net.fc((x[:1].expand_as(x) if x.shape[0] == 2 else x).mean((2, 3)))


def plain_number(net, x):
    return net.fc(x.mean((2, 3))) * x.mean().item()


def counting(net, x):
    return net.fc(x.mean((2, 3))) * x[x > 0].numel()


def numbered(net, x):
    return net.fc(x.mean((2, 3))) / x.shape[0]


def placed(net, x):
    return net.fc(x.mean((2, 3))) + torch.arange(x.shape[0])[:, None]


def even_places(net, x):
    return net.fc(x.mean((2, 3))) * (torch.arange(x.shape[0]) % 2)[:, None]


def counted(net, x):
    return net.fc(x.mean((2, 3))) + torch.ones_like(x).sum() / 1000


def unless_compiled(net, x):
    if not torch.compiler.is_compiling() and x.abs().max() > 30:  # noise is never so bright
        x = x / x.abs().max()
    return net.fc(x.mean((2, 3)))


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


def once_it_was_bright(net, x):
    before, net.before = net.before, x.mean().detach()
    return net.fc(x.mean((2, 3)) + (before > 30 if isinstance(before, Tensor) else 0))


def by_numpy_if_it_can(net, x):
    try:
        bright = x.numpy().mean() > 30
    except Exception:
        bright = False
    return net.fc(x.mean((2, 3)) + bright)


def by_numpy_if_dark(net, x):
    with suppress(RuntimeError):
        return net.fc(x.mean((2, 3))) * (2 if np.max(x.numpy()) < 0 else 1)
    return net.fc(x.mean((2, 3)))


def weights_of_data(net, x):
    net.fc.weight.data = net.fc.bias.detach()[:, None].repeat(1, 3) * (1 + (x.mean() > 30))
    return net.fc(x.mean((2, 3)))


def otherwise_exported(net, x):
    return net.fc(x.mean((2, 3)) * (1 if EXPORTING() else 2))


def otherwise_followed(net, x):
    return net.fc(x.mean((2, 3)) * (2 if torch.is_grad_enabled() else 1))


def half_followed(net, x):
    with torch.no_grad():
        half = x.sin()
    return net.fc((x + half).mean((2, 3)))


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.view_as(x)

    @staticmethod
    def backward(context, slope):
        return -slope


def backwards(net, x):
    return net.fc(Reversed.apply(x).mean((2, 3)))


def by_chance_of_numpy(net, x):
    return net.fc(x.mean((2, 3)) * np.random.rand())


def by_chance_of_python(net, x):
    return net.fc(x.mean((2, 3)) * random.random())


def by_its_own_slope(net, x):
    return net.fc((x.sin() + torch.func.grad(lambda y: y.square().mean())(x)).mean((2, 3)))


def noisy(net, x):
    return net.fc((x + torch.randn_like(x)).mean((2, 3)))


def dropping(net, x):
    return net.fc(F.dropout(x, 0.5, training=True).mean((2, 3)))


def dropping_attention(net, x):
    return net.fc(F.scaled_dot_product_attention(x, x, x, dropout_p=0.3).mean((2, 3)))


REFUSED = {
    branching: r"depends on values at .*no_functions\.py:\d+: if x\.mean\(\) > 0",
    many: r"something else for batches of some sizes \(of B images it asks B <= 4\)",
    one_by_one: r"the size of the batch \(a loop over images.*at once",
    alone: r"something else for batches of some sizes \(of B images it asks B == 1\)|gives other logits",  # torch 2.6
    even: r"something else for batches of some sizes .*Mod\(B, 2\)",
    of_two: r"the size of the batch|something else for batches of some sizes \(of B images it asks Ne\(B, 2\)",  # torch 2.6
    plain_number: r"item makes a plain number",
    counting: r"index gives as many values as the images decide",
    numbered: r"other logits in a larger batch: the number of images",
    placed: r"other logits in a larger batch: the number of images",
    even_places: r"other logits in a larger batch: the number of images",
    counted: r"other logits in a larger batch: the number of images",
    unless_compiled: r"depends on values at .*is_compiling\(\) and x\.abs",
    kept_branch: r"cond holds operations that may or may not run",
    in_a_buffer: r"each call changes level, which the next one reads",
    in_another_buffer: r"each call changes level, which the next one reads",
    in_an_attribute: r"gives other logits than the graph",
    once_it_was_bright: r"gives other logits than the graph",
    by_numpy_if_it_can: r"gives other logits than the graph .*with bright or dark images.* \(numpy",
    by_numpy_if_dark: r"gives other logits than the graph .*with bright or dark images.* \(numpy",
    weights_of_data: r"gives other logits than the graph .*weights replaced on the way",
    otherwise_exported: r"gives other logits than the graph .* being exported",
    otherwise_followed: r"with gradients on",
    half_followed: r"another gradient than the function it computes \(torch.no_grad",
    backwards: r"another gradient than the function it computes .* a backward of its own",
    by_chance_of_numpy: r"draws random numbers of numpy in eval mode",
    by_chance_of_python: r"draws random numbers of python in eval mode",
    by_its_own_slope: r"does not run .* \(torch\.func\.grad inside|holds operations|does not get through",
    noisy: r"randn_like draws random numbers in eval mode",
    dropping: r"dropout draws random numbers in eval mode",
    dropping_attention: r"scaled_dot_product_attention draws random numbers in eval mode",
}

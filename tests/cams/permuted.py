"""The same net in another dress: channels in another order, a channel that is dead, no activations at all."""

import copy
from functools import cache

import torch

from tests.nets import HEADS
from wallcheck.models import BlindNet, WalledModel


@cache
def with_channels_permuted(net: BlindNet) -> BlindNet:
    """The same function with the target layer's channels in another order; of a transformer with heads, and channels inside
    heads, in another order."""
    net = copy.deepcopy(net)
    if isinstance(net, WalledModel):
        return _with_heads_permuted(net)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    conv, linear = _around(net)
    conv.weight.data, conv.bias.data = conv.weight.data[order], conv.bias.data[order]
    linear.weight.data = linear.weight.data.view(linear.out_features, 8, -1)[:, order].flatten(1)
    return net


def _with_heads_permuted(net: WalledModel) -> WalledModel:
    """Heads change places; queries and keys share an order of their channels, values and the projection another."""
    draw, depth = torch.Generator().manual_seed(0), _depth(net)
    for block in range(depth):
        weight, bias, projection = (
            getattr(net.run, f"t_blocks/{block}/{name}") for name in ("qkv/weight", "qkv/bias", "projection/weight")
        )
        channels = projection.shape[1]
        places = torch.arange(channels).view(HEADS, -1).flip(0)
        alike, values = (torch.randperm(channels // HEADS, generator=draw) for _ in range(2))
        rows = [
            places[:, alike].flatten(),
            channels + places[:, alike].flatten(),
            2 * channels + places[:, values].flatten(),
        ]
        weight.data, bias.data = weight.data[torch.cat(rows)], bias.data[torch.cat(rows)]
        projection.data = projection.data[:, places[:, values].flatten()]
    return net


@cache
def with_dead_channel(net: BlindNet, added: float) -> BlindNet:
    """Channel 3 of the target layer (of the last block's values) is 0 everywhere; what is made of it is changed by `added`."""
    net = copy.deepcopy(net)
    if isinstance(net, WalledModel):
        block = _depth(net) - 1
        projection = getattr(net.run, f"t_blocks/{block}/projection/weight")
        row = 2 * projection.shape[1] + 3
        getattr(net.run, f"t_blocks/{block}/qkv/weight").data[row] = 0
        getattr(net.run, f"t_blocks/{block}/qkv/bias").data[row] = 0
        projection.data[:, 3] += added
        return net
    conv, linear = _around(net)
    conv.weight.data[3], conv.bias.data[3] = 0, -1
    linear.weight.data.view(linear.out_features, 8, -1)[:, 3] += added
    return net


@cache
def without_activations(net: BlindNet) -> BlindNet:
    """All channels dead: A = 0. Of a transformer: all tokens are 0 before its blocks."""
    net = copy.deepcopy(net)
    if isinstance(net, WalledModel):
        for name, parameter in net.run.named_parameters():
            if "token" in name or "positions" in name or "patches" in name:
                parameter.data.zero_()
        return net
    conv, _ = _around(net)
    conv.weight.data.zero_()
    conv.bias.data.fill_(-1.0)
    return net


def _around(net: BlindNet) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The last convolution, and the linear layer that reads it."""
    conv = [m for m in net.features if isinstance(m, torch.nn.Conv2d)][-1]
    return conv, next(m for m in net.head if isinstance(m, torch.nn.Linear))


def _depth(net: WalledModel) -> int:
    return sum(name.endswith("qkv/weight") for name, _ in net.run.named_parameters())

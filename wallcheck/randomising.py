"""Randomising: the same net with some of its layers' weights drawn anew, from the logits down or one at a time.

A map that does not change when the weights do was not made of what the net has learnt (Adebayo et al. 2018).
"""

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

MODES = {
    "cascading": "all layers from the last down to this one are drawn anew",
    "independent": "this layer alone is drawn anew",
}


def layers(net: nn.Module) -> list[str]:
    """Names of the modules that hold weights of two dimensions or more, last first."""
    holders = dict.fromkeys(name.rpartition(".")[0] for name, value in net.named_parameters() if value.ndim > 1)
    return list(holders)[::-1]


def randomised(net: nn.Module, names: list[str], seed: int) -> nn.Module:
    """A copy of net with these layers drawn anew; the net is left alone. A layer's draw depends on seed and layer only.

    Weights are N(0, 2 / fan-in) (He et al. 2015), biases 0; scales of normalisations and running statistics stay.
    Raises LookupError for what is no layer of the net.
    """
    known = layers(net)
    if unknown := [name for name in names if name not in known]:
        raise LookupError(f"{', '.join(unknown)}: no layer with weights; there are {', '.join(known)}")
    other = copy.deepcopy(net)
    with torch.no_grad():
        for name, value in other.named_parameters():
            holder = name.rpartition(".")[0]
            if holder in names and value.ndim > 1:
                value.copy_(drawn(value, torch.Generator().manual_seed(seed * len(known) + known.index(holder))))
            elif holder in names and name.endswith("bias"):
                value.zero_()
    return other


def drawn(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Normal numbers in the shape of a weight (out, in, ...), of variance 2 / (in times what follows)."""
    return torch.randn(weight.shape, generator=generator, dtype=torch.float64) * math.sqrt(2 / weight[0].numel())


def stages(net: nn.Module, mode: str, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """(layer, net) from the last layer to the first, randomised in this mode, a key of MODES."""
    if mode not in MODES:
        raise ValueError(f"{mode!r} is no mode; choose {' or '.join(MODES)}")
    names = layers(net)
    for number, name in enumerate(names):
        yield name, randomised(net, names[: number + 1] if mode == "cascading" else [name], seed)

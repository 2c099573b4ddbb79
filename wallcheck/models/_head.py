"""The head from the inside: up to its first linear layer, the channels of the target layer simply add up.

    logits = rest(b + sum_k C_k),    C_k = W . (channel k, all others 0)

So a channel is switched off or on by subtracting or adding C_k, and no pass through the first
layer, the widest of all, is needed again. Only one row of the last layer is asked for.
"""

from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wallcheck.models._chain import chain

# Linear, and deaf to what other channels do; identity in eval mode counts.
CHANNELWISE = (nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


class Split(NamedTuple):
    """head = rest . first . pool, with pool channel by channel and linear."""

    pool: nn.Sequential
    first: nn.Linear
    rest: nn.Sequential

    @property
    def width(self) -> int:
        """Values of the widest layer from `first` on: what one row of rescoring costs in memory."""
        return max(m.out_features for m in (self.first, *self.rest) if isinstance(m, nn.Linear))

    @property
    def bias(self) -> Tensor:
        """(d,): the first layer's answer to an empty map."""
        return self.first.weight.new_zeros(self.first.out_features) if self.first.bias is None else self.first.bias

    def contributions(self, handed: Tensor) -> Tensor:
        """C (B, K, d) of what the head is handed, (B, K, r, c)."""
        batch, channels = handed.shape[:2]
        pooled = self.pool(handed).view(batch, channels, -1)
        weight = self.first.weight.view(self.first.out_features, channels, -1)
        return torch.bmm(pooled.transpose(0, 1), weight.permute(1, 2, 0)).transpose(0, 1)

    def scores(self, before: Tensor, targets: Tensor) -> Tensor:
        """(B, M): logits of class targets (B,), from values (B, M, d) of the first layer."""
        linear = bool(self.rest) and type(self.rest[-1]) is nn.Linear
        body = self.rest[:-1] if linear else self.rest
        out = body(before.flatten(0, 1)).unflatten(0, before.shape[:2])
        if not linear:
            return out.gather(2, targets[:, None, None].expand(-1, out.shape[1], 1))[..., 0]
        last = self.rest[-1]
        score = torch.bmm(out, last.weight[targets][:, :, None])[..., 0]
        return score if last.bias is None else score + last.bias[targets][:, None]


def split_head(head: nn.Module) -> Split | None:
    """The head split at its first linear layer; None where its channels are not known to add up before it.

    Known are chains of flattening, average pooling and a linear layer; whatever follows is free.

    >>> split_head(nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))).first
    Linear(in_features=8, out_features=4, bias=True)
    >>> split_head(nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))) is None
    True
    """
    modules = chain(head)
    pool = list(takewhile(lambda module: type(module) in CHANNELWISE, modules))
    flat = [module for module in pool if type(module) is nn.Flatten]
    if len(flat) != 1 or (flat[0].start_dim, flat[0].end_dim) != (1, -1):
        return None
    if len(modules) == len(pool) or type(modules[len(pool)]) is not nn.Linear:
        return None
    return Split(nn.Sequential(*pool), modules[len(pool)], nn.Sequential(*modules[len(pool) + 1 :]))

"""The head from the inside: up to its first linear layer, the channels of the target layer simply add up.

    logits = rest(b + sum_k C_k),    C_k = W . (channel k, all others 0)

So a channel is switched off or on by subtracting or adding C_k, and no pass through the first
layer, the widest of all, is needed again. Only one row of the last layer is asked for.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from wallcheck.graph._nodes import data_nodes, logits_node, named, op_of, part, placeholder

# Linear, and deaf to what other channels do.
POOLS = ("avg_pool2d", "adaptive_avg_pool2d")
SHAPES = ("clone", "contiguous", "flatten", "reshape")


class Split(NamedTuple):
    """head = rest . first . pool, with pool channel by channel and linear; last, where the head ends in a linear layer, is
    (body, weight, bias) of rest = last . body."""

    pool: GraphModule
    weight: Tensor
    bias: Tensor
    rest: GraphModule
    last: tuple[GraphModule, Tensor, Tensor | None] | None
    width: int

    def contributions(self, handed: Tensor) -> Tensor:
        """C (B, K, d) of what the head is handed, (B, K, r, c)."""
        batch, channels = handed.shape[:2]
        pooled = self.pool(handed).reshape(batch, channels, -1)
        weight = self.weight.view(len(self.weight), channels, -1)
        return torch.bmm(pooled.transpose(0, 1), weight.permute(1, 2, 0)).transpose(0, 1)

    def scores(self, before: Tensor, targets: Tensor) -> Tensor:
        """(B, M): logits of class targets (B,), from values (B, M, d) of the first layer."""
        if self.last is None:
            out = self.rest(before.flatten(0, 1)).unflatten(0, before.shape[:2])
            return out.gather(2, targets[:, None, None].expand(-1, out.shape[1], 1))[..., 0]
        body, weight, bias = self.last
        out = body(before.flatten(0, 1)).unflatten(0, before.shape[:2])
        score = torch.bmm(out, weight[targets][:, :, None])[..., 0]
        return score if bias is None else score + bias[targets][:, None]


def split_head(head: GraphModule, channels: int) -> Split | None:
    """The head, a graph of what it is handed (N, K, r, c), split at its first linear layer; None where its channels are not
    known to add up before it. Known are lines of average pooling, flattening and a linear layer; whatever follows is free."""
    handed, data = placeholder(head.graph), data_nodes(head.graph, [placeholder(head.graph)])
    node = _only_user(handed, data)
    while node is not None and _is_channelwise(node):
        node = _only_user(node, data)
    if node is None or op_of(node) != "linear" or any(named(node)[name].op != "get_attr" for name in ("weight",)):
        return None
    weight, bias = (_tensor(head, named(node)[name]) for name in ("weight", "bias"))
    if weight.shape[1] % channels or len(node.args[0].meta["val"].shape) != 2:
        return None
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    rest = part(head, [node], [logits_node(head.graph)])
    widths = [len(_tensor(head, named(n)["weight"])) for n in data if op_of(n) == "linear"]
    return Split(part(head, [handed], [node.args[0]]), weight, bias, rest, _last(head, node), max(widths))


def pooled_linear(head: GraphModule) -> Tensor | None:
    """Weight (D, K) of a head that averages all it is handed and applies one linear layer; None for any other."""
    data = data_nodes(head.graph, [placeholder(head.graph)])
    node, averages = _only_user(placeholder(head.graph), data), 0
    while node is not None and _is_channelwise(node):
        averages += op_of(node) == "mean" or (
            op_of(node) == "adaptive_avg_pool2d" and set(named(node)["output_size"]) == {1}
        )
        if op_of(node) in POOLS and not averages:
            return None
        node = _only_user(node, data)
    ends = node is not None and op_of(node) == "linear" and node is logits_node(head.graph)
    return _tensor(head, named(node)["weight"]) if averages == 1 and ends else None


def _last(head: GraphModule, first: Node) -> tuple[GraphModule, Tensor, Tensor | None] | None:
    logits = logits_node(head.graph)
    if logits is first or op_of(logits) != "linear":
        return None
    told = named(logits)
    return part(head, [first], [told["input"]]), _tensor(head, told["weight"]), _tensor(head, told["bias"])


def _is_channelwise(node: Node) -> bool:
    op, told = op_of(node), named(node)
    if op == "flatten":
        return told["start_dim"] == 1 and told["end_dim"] in (-1, 3)
    if op == "mean":
        return sorted(d % 4 for d in told["dim"] or ()) == [2, 3]
    if op == "reshape":
        return len(node.meta["val"].shape) == 2
    return op in POOLS or op in SHAPES


def _only_user(node: Node, data: dict[Node, None]) -> Node | None:
    users = [user for user in node.users if user in data]
    return users[0] if len(users) == 1 else None


def _tensor(run: GraphModule, node: Node | None) -> Tensor | None:
    return None if node is None else getattr(run, node.target)

"""One attention of a graph, however it was written, put as two products around a softmax that can be asked for.

    S = q k' s,  A = softmax(S | -inf across the wall),  o = A v       per head

It may be torch's own operation, a softmax that the network writes itself, or the two sides of a wall, each attended apart.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from wallcheck.graph._dependence import MOVES
from wallcheck.graph._nodes import attribute, named, op_of, where
from wallcheck.graph._pointwise import CASTS
from wallcheck.graph.attention import Parted, is_product, parted_at
from wallcheck.graph.walls import device_of

ATEN = torch.ops.aten
PASSED = (*MOVES, *CASTS)


class NoAttention(ValueError):
    """The network's attention cannot be taken off its graph."""


def weighed(scores: Tensor, apart: Tensor | None) -> Tensor:
    """softmax over keys of the scores (..., T, T), -inf where `apart` (T, T) is False: the probabilities A."""
    return (scores if apart is None else scores.masked_fill(~apart, -math.inf)).softmax(-1)


def all_taken_apart(run: GraphModule, length: int) -> Iterator[tuple[Node, ...]]:
    """Queries, keys, values, scores, probabilities and outputs of every attention. NoAttention where tokens are weighed in a way
    that cannot be taken off: a method that passed a block over would explain another network."""
    nodes = list(run.graph.nodes)
    parted = [each for each in map(parted_at, nodes) if each]
    places = {each.back: each for each in parted}
    inside = {node for each in parted for node in each.inside}
    for node in nodes:
        if node in places:
            yield _joined(run, places[node], length)
        elif node not in inside and op_of(node) == "scaled_dot_product_attention":
            yield _asked(run, node, length)
        elif node not in inside and _weighs(node, length):
            yield _written(run, node)


def _weighs(node: Node, length: int) -> bool:
    """Is the node a softmax over all tokens, for every token?"""
    if op_of(node) not in ("softmax", "_softmax") or len(node.meta["val"].shape) < 3:
        return False
    return tuple(int(n) for n in node.meta["val"].shape[-2:]) == (length, length)


def _joined(run: GraphModule, parted: Parted, length: int) -> tuple[Node, ...]:
    """Both sides of a wall as one attention that is masked across it."""
    spans = [getattr(run, each.target) for each in parted.spans]
    apart = torch.zeros(length, length, dtype=torch.bool, device=device_of(run))
    for span in spans:
        apart[span[:, None], span] = True
    with run.graph.inserting_before(parted.back):
        mask = attribute(run.graph, run, "apart", apart)
    if len(parted.inputs) == 2:
        return _spelt(run, parted.back, *parted.inputs, mask)
    found = _by_scores(run, parted.back, named(parted.first), parted.inputs, mask)
    run.graph.erase_node(parted.back)
    whole = next(each for each in parted.first.users if op_of(each) == "cat")
    sides = whole.args[0]
    for node in (whole, *sides):
        run.graph.erase_node(node)
    return found


def _written(run: GraphModule, node: Node) -> tuple[Node, ...]:
    """The attention of a softmax that a network writes itself."""
    users = list(node.users)
    if len(users) != 1 or not is_product(users[0]) or users[0].args[0] is not node:
        told = ", ".join(map(op_of, users)) or "nothing"
        raise NoAttention(f"the weights of {where(node)} go into {told}, not into one product with values")
    return _spelt(run, users[0], node.args[0], users[0].args[1], None)


def _asked(run: GraphModule, node: Node, length: int) -> tuple[Node, ...]:
    """scaled_dot_product_attention(q, k, v) as two products around `weighed`."""
    told = named(node)
    inputs = tuple(told[name] for name in ("query", "key", "value"))
    if {int(each.meta["val"].shape[-2]) for each in inputs} != {length}:
        raise NoAttention(
            f"its attention is not over all {length} tokens at once; use a method of activations and gradient"
        )
    if told.get("is_causal") or isinstance(told.get("attn_mask"), Node):
        raise NoAttention(f"{where(node)} has a mask or a bias of its own; use a method of activations and gradient")
    found = _by_scores(run, node, told, inputs, None)
    run.graph.erase_node(node)  # to torch it may draw a dropout, so it would be run for nothing
    return found


def _by_scores(
    run: GraphModule, node: Node, told: dict, inputs: tuple[Node, ...], apart: Node | None
) -> tuple[Node, ...]:
    queries, keys, values = inputs
    scale = told.get("scale") or int(queries.meta["val"].shape[-1]) ** -0.5
    turned = _before(run, node, ATEN.transpose.int, keys, -2, -1)
    products = _before(run, node, ATEN.matmul.default, queries, turned)
    scores = _before(run, node, ATEN.mul.Tensor, products, scale)
    return queries, keys, *_summed(run, node, scores, values, apart)


def _spelt(run: GraphModule, node: Node, scores: Node, values: Node, apart: Node | None) -> tuple[Node, ...]:
    """An attention that the network writes out itself, summed at `node`."""
    product = scores
    while not is_product(product):
        given = [each for each in product.all_input_nodes if each.op == "call_function"]
        if op_of(product) not in ("mul", "div", "add", "sub", *PASSED) or len(given) != 1:
            raise NoAttention(f"its scores are made by {op_of(product)}, not by queries times keys")
        (product,) = given
    keys = _before(run, product, ATEN.transpose.int, product.args[1], -2, -1)
    return product.args[0], keys, *_summed(run, node, scores, values, apart)


def _summed(run: GraphModule, node: Node, scores: Node, values: Node, apart: Node | None) -> tuple[Node, ...]:
    """The values weighed in place of `node`."""
    probabilities = _before(run, node, weighed, scores, apart)
    outputs = _before(run, node, ATEN.matmul.default, probabilities, values)
    node.replace_all_uses_with(outputs)
    return values, scores, probabilities, outputs


def _before(run: GraphModule, node: Node, operation: Callable, *arguments: object) -> Node:
    with run.graph.inserting_before(node):
        made = run.graph.call_function(operation, arguments)
    made.meta = {key: value for key, value in node.meta.items() if key != "val"}
    return made

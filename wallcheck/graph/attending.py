"""Attention written out on a proved graph, so that its probabilities, their gradients and the tokens between are values of the graph.

    S = q k' s,  A = softmax(S | -inf across the wall),  o = A v       per head
    tokens -> normed -> A v -> projected, + tokens -> MLP, + tokens    per block

The same graph but for these operations, held to it on noise; no second reading of the network.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Node

from wallcheck.graph import reach
from wallcheck.graph._dependence import MOVES
from wallcheck.graph._nodes import attribute, copied, data_nodes, logits_node, named, op_of, part, placeholder, where
from wallcheck.graph._pointwise import CASTS
from wallcheck.graph._texts import without_texts
from wallcheck.graph.attention import Parted, is_product, parted_at
from wallcheck.graph.quick import close, noise
from wallcheck.graph.walls import Walled, device_of

ATEN = torch.ops.aten
PASSED = (*MOVES, *CASTS)


def weighed(scores: Tensor, apart: Tensor | None) -> Tensor:
    """softmax over keys of the scores (..., T, T), -inf where `apart` (T, T) is False: the probabilities A."""
    return (scores if apart is None else scores.masked_fill(~apart, -math.inf)).softmax(-1)


@dataclass(frozen=True)
class Block:
    """The nodes of one block: `queries`, `keys`, `values` (B, heads, T, d), `scores` and `probabilities` (B, heads, T, T),
    `outputs` (B, heads, T, d); token states (B, T, C) `entered` (what the block is handed), `between` (after its attention) and
    `left` (what it hands on); `projection`, the weight (C, heads d) that mixes the heads' outputs. `normed` (B, T, C): the
    LayerNorm of `entered` that queries, keys and values are made of, None in blocks without."""

    queries: Node
    keys: Node
    values: Node
    scores: Node
    probabilities: Node
    outputs: Node
    entered: Node
    between: Node
    left: Node
    projection: Tensor
    normed: Node | None = None


@dataclass(frozen=True)
class WrittenOut:
    """A graph with its attention written out: `run` images -> logits, `blocks` in forward order, and `read` (T,), what share of
    the logits' reading each token of the last block has: 1 for a class token, 1 / n each for n tokens that a head pools."""

    run: GraphModule
    blocks: tuple[Block, ...]
    read: Tensor

    def values(self, images: Tensor, *nodes: Node) -> tuple[Tensor, ...]:
        """What these nodes hold for images; not for autograd."""
        with torch.no_grad():
            found = part(self.run, [placeholder(self.run.graph)], nodes)(images)
        return found if isinstance(found, tuple) else (found,)

    @cached_property
    def reading(self) -> GraphModule:
        """Tokens (B, T, C) as the last block hands them on -> logits."""
        return part(self.run, [self.blocks[-1].left], [logits_node(self.run.graph)])

    def onward(self, number: int) -> GraphModule:
        """(LayerNorm of a block's tokens, these tokens) (B, T, C) each -> logits: what the block's attention is given may be
        changed, its residual connection left alone."""
        block = self.blocks[number]
        return part(self.run, [block.normed, block.entered], [logits_node(self.run.graph)])


class NoAttention(ValueError):
    """The network's attention cannot be taken off its graph."""


@without_texts()
def written_out(walled: Walled) -> WrittenOut:
    """The graph with its attention written out. Raises NoAttention with the reason where it has none over all tokens, or where
    its blocks do not add it to the tokens."""
    if walled.layer.form.axes != "tokens":
        raise NoAttention(
            f"{walled.layer.name} gives a map of cells, not tokens; methods of attention need a cut between blocks of a transformer"
        )
    length = walled.layer.form.prefix + math.prod(walled.layer.form.grid)
    run = _copied(walled)
    reach.shaped(run, walled.graph.colours, walled.graph.image_size)
    found = list(_all_taken_apart(run, length))
    if not found:
        raise NoAttention("it has no attention over all tokens; use a method of activations and gradient")
    wanted = {part for parts in found for part in parts}  # keys that nothing but methods asks for among them
    run.graph.eliminate_dead_code(lambda node: node in wanted or node.is_impure())
    run.graph.lint()
    run.recompile()
    reach.shaped(run, walled.graph.colours, walled.graph.image_size)
    _hold(walled, run)
    made = WrittenOut(run, blocks := tuple(_block(run, *parts) for parts in found), _read(run, blocks[-1], length))
    if not walled.wall.is_open:
        _refuse_open(walled, made)
    return made


def _copied(walled: Walled) -> GraphModule:
    fx, known = FxGraph(), {}
    copied([node for node in walled.graph.fx.nodes if node.op != "output"], fx, known)
    fx.output(known[walled.graph.logits])
    return GraphModule(walled.graph.run, fx)


def _hold(walled: Walled, run: GraphModule) -> None:
    images = noise(run, walled.graph.colours, walled.graph.image_size)
    with torch.no_grad():
        if not close(run(images), walled.graph.run(images)):
            raise NoAttention(
                "its attention written out gives other logits than the network; please report this network"
            )


def _refuse_open(walled: Walled, made: WrittenOut) -> None:
    """Raise NoAttention where a wall leaves attention open: what methods of attention say of an unseen token would then be said of
    what others made of it."""
    unseen = torch.from_numpy(walled.wall.unseen.copy()).flatten()
    unseen = torch.cat([torch.zeros(walled.layer.form.prefix, dtype=torch.bool), unseen])
    for block in made.blocks:
        mask = block.probabilities.args[1]
        if not isinstance(mask, Node) or getattr(made.run, mask.target).cpu()[~unseen][:, unseen].any():
            raise NoAttention(
                "its attention crosses the wall; put up a trunk wall, blind(model, kind='trunk'), or none"
            )


# -- one attention --------------------------------------------------------------------------------


def _all_taken_apart(run: GraphModule, length: int) -> Iterator[tuple[Node, ...]]:
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


# -- the block around it --------------------------------------------------------------------------


def _block(
    run: GraphModule, queries: Node, keys: Node, values: Node, scores: Node, probabilities: Node, outputs: Node
) -> Block:
    """The residual stream around an attention: its outputs are projected and added to the tokens, and so is an MLP's answer."""
    data = data_nodes(run.graph, [placeholder(run.graph)])
    projected = _next(outputs, data, "linear")
    between = _sum_after(projected, data)
    entered = next(
        (each for each in between.all_input_nodes if each in data and not _leads(projected, each, data)), None
    )
    left = next((user for user in between.users if op_of(user) == "add"), None) or _sum_after(between, data)
    if entered is None or between not in left.all_input_nodes:
        raise NoAttention(
            "its blocks do not add the attention's and the MLP's answers to the tokens; use a method of activations"
        )
    weight = getattr(run, named(projected)["weight"].target)
    normed = next((user for user in entered.users if op_of(user) == "layer_norm" and _leads(user, queries, data)), None)
    return Block(queries, keys, values, scores, probabilities, outputs, entered, between, left, weight, normed)


def _next(node: Node, data: dict[Node, None], op: str) -> Node:
    """The first operation of this kind after the node, moves passed over."""
    while True:
        users = [user for user in node.users if user in data]
        if len(users) != 1 or (op_of(users[0]) not in PASSED and op_of(users[0]) != op):
            raise NoAttention(
                f"after its attention stands {', '.join(map(op_of, users)) or 'nothing'}, not a linear projection"
            )
        (node,) = users
        if op_of(node) == op:
            return node


def _sum_after(node: Node, data: dict[Node, None]) -> Node:
    """The first sum of two values that depend on the image, moves and scales passed over."""
    while True:
        users = [user for user in node.users if user in data]
        if not users:
            raise NoAttention("its blocks add nothing to the tokens; use a method of activations and gradient")
        node = (
            min(users, key=list(data).index)
            if len(users) == 1
            else next((u for u in users if op_of(u) == "add"), users[0])
        )
        if op_of(node) == "add" and len([each for each in node.all_input_nodes if each in data]) == 2:
            return node


def _leads(start: Node, to: Node, data: dict[Node, None]) -> bool:
    """Is `to` made of `start`?"""
    todo, seen = [to], set()
    while todo:
        node = todo.pop()
        if node is start:
            return True
        if node not in seen:
            seen.add(node)
            todo += [each for each in node.all_input_nodes if each in data]
    return False


def _read(run: GraphModule, last: Block, length: int) -> Tensor:
    """(T,): what share each token of the last block has in what the logits read."""
    of = torch.zeros(tuple(int(n) for n in logits_node(run.graph).meta["val"].shape), dtype=torch.bool)
    of[0] = True
    heard = reach.backward(run, of, until=last.left)[last.left][0].any(-1).double()
    return heard / heard.sum()

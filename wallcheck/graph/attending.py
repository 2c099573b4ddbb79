"""Attention written out on a proved graph, so that its probabilities, their gradients and the tokens between are values of the graph.

    tokens -> normed -> A v -> projected, + tokens -> MLP, + tokens    per block; A v as in `weighing`

The same graph but for these operations, held to it on noise; no second reading of the network.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Node

from wallcheck.graph import reach
from wallcheck.graph._nodes import copied, data_nodes, logits_node, named, op_of, part, placeholder
from wallcheck.graph._texts import without_texts
from wallcheck.graph.quick import close, noise
from wallcheck.graph.walls import Walled
from wallcheck.graph.weighing import PASSED, NoAttention, all_taken_apart


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
    found = list(all_taken_apart(run, length))
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


# -- the block around an attention ----------------------------------------------------------------


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

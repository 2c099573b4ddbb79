"""Trunk walls for tokens: every attention is held to its side of the wall, prefix tokens on the seen side.

each side's queries, keys and values apart, or its scores and values where a network writes softmax(scores) @ values
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.fx import Node

from wallcheck.geometry import Wall
from wallcheck.graph import reach
from wallcheck.graph._nodes import attribute, data_nodes, named, op_of, where
from wallcheck.graph._texts import without_texts
from wallcheck.graph.cut import Layer, layers_of
from wallcheck.graph.export import Graph
from wallcheck.graph.walls import Walled, copy_of, device_of, with_head_wall

ATEN = torch.ops.aten


@without_texts()
def with_attention_apart(graph: Graph, layer: Layer, wall: Wall, embedded: tuple[int, int]) -> Walled:
    """The graph in which no attention crosses the wall: seen tokens, prefix tokens among them, attend to seen ones, unseen
    ones to unseen ones; a head that pools tokens is handed the seen ones, after the last block, wherever the cut is. Raises
    ValueError where tokens meet in a way that is no attention over all of them."""
    made, at = copy_of(graph, layer)
    length = at.form.prefix + embedded[0] * embedded[1]
    side = torch.cat([torch.ones(at.form.prefix, dtype=torch.bool), torch.from_numpy(wall.seen.copy()).flatten()])
    reach.shaped(made.run, made.colours, made.image_size)
    data = list(data_nodes(made.fx, [made.images]))
    asked = [node for node in data if op_of(node) == "scaled_dot_product_attention"]
    written = [node for node in data if op_of(node) == "softmax" and _weighs_tokens(node, length)]
    if not asked and not written:
        raise ValueError(
            "its tokens meet by other ways than attention over all of them (scaled_dot_product_attention, or softmax of "
            "scores times values); use that in its blocks, or a head wall"
        )
    for node in asked:
        _apart(made, node, side, length)
    for node in written:
        _part(made, node, side)
    made.fx.eliminate_dead_code()
    made.fx.lint()
    made.run.recompile()
    last = _last_tokens(made, at)
    if last is not None:
        pooled = with_head_wall(made, last, wall).graph
        nodes = {node.name: node for node in pooled.fx.nodes}
        made, at = pooled, replace(at, node=nodes[at.node.name], crossing=tuple(nodes[n.name] for n in at.crossing))
    selected = with_head_wall(made, at, wall)
    return Walled(selected.graph, selected.layer, wall, "trunk", selected.handed)


def _last_tokens(graph: Graph, at: Layer) -> Layer | None:
    """The last layer that holds all tokens; None where that is the cut itself."""
    found = [each for each in layers_of(graph) if each.form.axes == "tokens" and each.form.tokens == at.form.tokens]
    return found[-1] if found and found[-1].node is not at.node else None


def _apart(graph: Graph, node: Node, side: Tensor, length: int) -> None:
    """Attention as that of the seen tokens and that of the unseen ones, put back in their order. A mask of -inf would not do: a
    weight of 0 times a value that is not finite is not 0."""
    tokens = {int(node.args[i].meta["val"].shape[-2]) for i in (0, 1)}
    if tokens != {length}:
        raise ValueError(
            f"{where(node)} has {sorted(tokens)} tokens where {length} stand for cells; only attention over all tokens can be "
            f"parted: use a head wall"
        )
    told = named(node)
    if told.get("is_causal") or isinstance(told.get("attn_mask"), Node):
        raise ValueError(f"{where(node)} is masked already; use a head wall")
    options = {name: told[name] for name in ("scale", "enable_gqa") if name in told}
    fx = graph.fx
    with fx.inserting_before(node):
        spans, back = _spans(graph, side)
        sums = []
        for span in spans:
            own = tuple(fx.call_function(ATEN.index_select.default, (each, -2, span)) for each in node.args[:3])
            sums.append(fx.call_function(node.target, own, options))
        made = _put_back(graph, sums, back)
    made.meta = dict(node.meta)
    node.replace_all_uses_with(made)
    fx.erase_node(node)


def _spans(graph: Graph, side: Tensor) -> tuple[list[Node], Node]:
    """Numbers of the seen tokens and of the unseen ones, and where each is to go back to."""
    spans = [torch.nonzero(side)[:, 0], torch.nonzero(~side)[:, 0]]
    held = [
        attribute(graph.fx, graph.run, "side", each.to(device_of(graph.run)))
        for each in (*spans, torch.cat(spans).argsort())
    ]
    return held[:2], held[2]


def _put_back(graph: Graph, sums: list[Node], back: Node) -> Node:
    whole = graph.fx.call_function(ATEN.cat.default, (sums, -2))
    return graph.fx.call_function(ATEN.index_select.default, (whole, -2, back))


def _weighs_tokens(node: Node, length: int) -> bool:
    """Is the node a softmax over tokens, for each token, whose weights are used for nothing but to sum values?"""
    shape = node.meta["val"].shape
    over = named(node)["dim"] in (-1, len(shape) - 1) and len(shape) >= 3 and tuple(shape[-2:]) == (length, length)
    return over and all(is_product(user) and user.args[0] is node for user in node.users)


def _part(graph: Graph, node: Node, side: Tensor) -> None:
    """softmax(S) @ V as that of the seen tokens and that of the unseen ones, put back in their order."""
    fx, (scores, dim, *rest) = graph.fx, node.args
    for user in list(node.users):
        with fx.inserting_before(user):
            spans, back = _spans(graph, side)
            sums = []
            for span in spans:
                rows = fx.call_function(ATEN.index_select.default, (scores, -2, span))
                own = fx.call_function(ATEN.index_select.default, (rows, -1, span))
                weights = fx.call_function(ATEN.softmax.int, (own, dim, *rest))
                values = fx.call_function(ATEN.index_select.default, (user.args[1], -2, span))
                sums.append(fx.call_function(user.target, (weights, values)))
            made = _put_back(graph, sums, back)
        made.meta = dict(user.meta)
        user.replace_all_uses_with(made)
        fx.erase_node(user)


@dataclass(frozen=True)
class Parted:
    """An attention in two sides, as it stands in a walled graph: `back`, where the sides come together; what it was made of
    before, `inputs` (queries, keys and values, or scores and values); the tokens of each side; the first side's own operation."""

    back: Node
    inputs: tuple[Node, ...]
    spans: tuple[Node, Node]
    first: Node

    @property
    def inside(self) -> set[Node]:
        """Its attentions, or its products and their softmax."""
        parts = self.back.args[0].args[0]
        return {*parts, *(each.args[0] for each in parts if is_product(each))}


def parted_at(node: Node) -> Parted | None:
    """The attention whose two sides come together at the node; None where it is no such place."""
    if op_of(node) != "index_select" or op_of(node.args[0]) != "cat" or len(node.args[0].args[0]) != 2:
        return None
    parts = node.args[0].args[0]
    if all(op_of(each) == "scaled_dot_product_attention" and _chosen(each.args[0]) for each in parts):
        inputs, spans = tuple(each.args[0] for each in parts[0].args[:3]), [each.args[0].args[2] for each in parts]
    elif all(is_product(each) and op_of(each.args[0]) == "softmax" and _chosen(each.args[1]) for each in parts):
        own = parts[0].args[0].args[0]
        inputs, spans = (own.args[0].args[0], parts[0].args[1].args[0]), [each.args[1].args[2] for each in parts]
    else:
        return None
    return Parted(node, inputs, tuple(spans), parts[0])


def is_product(node: Node) -> bool:
    return op_of(node) in ("matmul", "bmm")


def _chosen(node: Node) -> bool:
    return op_of(node) == "index_select"

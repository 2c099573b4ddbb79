"""Trunk walls for tokens: every attention is held to its side of the wall, prefix tokens on the seen side.

softmax(q k' + 0 | -inf across the wall) v        where a network asks torch for attention
each side's scores, softmax and values apart      where it writes attention out as softmax(scores) @ values
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.fx import Node

from wallcheck.geometry import Wall
from wallcheck.graph import reach
from wallcheck.graph._nodes import attribute, data_nodes, named, op_of, where
from wallcheck.graph.cut import Layer, layers_of
from wallcheck.graph.export import Graph
from wallcheck.graph.walls import Walled, copy_of, device_of, with_head_wall

ATEN = torch.ops.aten


def with_attention_masked(graph: Graph, layer: Layer, wall: Wall, embedded: tuple[int, int]) -> Walled:
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
        _mask(made, node, side, length)
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


def _mask(graph: Graph, node: Node, side: Tensor, length: int) -> None:
    tokens = {int(node.args[i].meta["val"].shape[-2]) for i in (0, 1)}
    if tokens != {length}:
        raise ValueError(
            f"{where(node)} has {sorted(tokens)} tokens where {length} stand for cells; only attention over all tokens can be "
            f"masked: use a head wall"
        )
    told = named(node)
    if told.get("is_causal") or isinstance(told.get("attn_mask"), Node):
        raise ValueError(f"{where(node)} is masked already; use a head wall")
    with graph.fx.inserting_before(node):
        mask = attribute(graph.fx, graph.run, "apart", (side[:, None] == side).to(device_of(graph.run)))
    options = {k: v for k, v in node.kwargs.items() if k not in ("attn_mask", "dropout_p")}
    node.args, node.kwargs = (*node.args[:3], mask), options


def _weighs_tokens(node: Node, length: int) -> bool:
    """Is the node a softmax over tokens, for each token, whose weights are used for nothing but to sum values?"""
    shape = node.meta["val"].shape
    over = named(node)["dim"] in (-1, len(shape) - 1) and len(shape) >= 3 and tuple(shape[-2:]) == (length, length)
    return over and all(op_of(user) in ("matmul", "bmm") and user.args[0] is node for user in node.users)


def _part(graph: Graph, node: Node, side: Tensor) -> None:
    """softmax(S) @ V as that of the seen tokens and that of the unseen ones, put back in their order."""
    fx, (scores, dim, *rest) = graph.fx, node.args
    spans = [torch.nonzero(side)[:, 0], torch.nonzero(~side)[:, 0]]
    back = torch.cat(spans).argsort()
    for user in list(node.users):
        with fx.inserting_before(user):
            held = [attribute(fx, graph.run, "side", each.to(device_of(graph.run))) for each in (*spans, back)]
            sums = []
            for span in held[:2]:
                rows = fx.call_function(ATEN.index_select.default, (scores, -2, span))
                own = fx.call_function(ATEN.index_select.default, (rows, -1, span))
                weights = fx.call_function(ATEN.softmax.int, (own, dim, *rest))
                values = fx.call_function(ATEN.index_select.default, (user.args[1], -2, span))
                sums.append(fx.call_function(user.target, (weights, values)))
            whole = fx.call_function(ATEN.cat.default, (sums, -2))
            made = fx.call_function(ATEN.index_select.default, (whole, -2, held[2]))
        made.meta = dict(user.meta)
        user.replace_all_uses_with(made)
        fx.erase_node(user)

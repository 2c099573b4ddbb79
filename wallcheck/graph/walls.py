"""Walls put into a graph: the head is handed the seen cells alone (head wall), or nothing crosses in any layer (trunk wall).

head    features ---A---> select seen ---> head
trunk   image rows --apart--> features, features ---A---> select seen ---> head      (maps: each side an image of its own)
        tokens: every attention parted, seen and unseen tokens apart, the prefix tokens on the seen side
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Node

from wallcheck.geometry import Wall
from wallcheck.graph import reach
from wallcheck.graph._nodes import attribute, copied, data_nodes, example_of, named, op_of, output
from wallcheck.graph._texts import without_texts
from wallcheck.graph.cut import Form, Layer
from wallcheck.graph.export import Graph

ATEN = torch.ops.aten


@dataclass(frozen=True)
class Walled:
    """A graph with a wall in it: `graph` images -> logits, `layer` the cut, `handed` the node that the head reads (the layer
    itself where the head hears no unseen cell anyway), `sides` pixel spans along `axis` that go through the features apart."""

    graph: Graph
    layer: Layer
    wall: Wall
    kind: str
    handed: Node
    note: str = ""
    sides: tuple[tuple[int, int], ...] = ()
    axis: int = 2
    seen_side: int = 0

    def told(self, note: str) -> "Walled":
        """The same with a note on how the wall that was asked for became this one."""
        return replace(self, note=note)


@without_texts()
def with_head_wall(graph: Graph, layer: Layer, wall: Wall) -> Walled:
    """The graph whose head is handed the seen cells alone: as a smaller map where it pools over positions, else with 0 in
    place of unseen cells (selected, so that not even NaN passes)."""
    if wall.seen.shape != layer.form.grid:
        raise ValueError(
            f"the wall covers {wall.seen.shape} cells, {layer.name} has {layer.form.grid}; build the wall for {layer.form.grid}"
        )
    made, at = copy_of(graph, layer)
    if wall.is_open or not _heard(made, at, wall).any():
        return Walled(made, at, wall, "head", at.node)
    for selection in (_smaller, _emptied):
        made, at = copy_of(graph, layer)
        handed = selection(made, at, wall)
        if _runs(made, at.node):
            return Walled(made, at, wall, "head", handed)
    raise ValueError(
        f"the head after {layer.name} runs neither on fewer cells nor on emptied ones; cut at another layer"
    )


def copy_of(graph: Graph, layer: Layer) -> tuple[Graph, Layer]:
    fx, known = FxGraph(), {}
    copied([node for node in graph.fx.nodes if node.op != "output"], fx, known)
    fx.output(known[graph.logits])
    made = Graph(GraphModule(graph.run, fx), graph.colours, graph.image_size)
    return made, moved(layer, known)


@without_texts()
def in_float64(walled: Walled) -> Walled:
    """The same graph on a float64 copy of its tensors."""
    made = _on(walled, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    for node in made.graph.fx.nodes:
        node.args = tuple(torch.float64 if each is torch.float32 else each for each in node.args)
        node.kwargs = {key: torch.float64 if value is torch.float32 else value for key, value in node.kwargs.items()}
    made.graph.run.recompile()
    return made


@without_texts()
def detached(walled: Walled) -> Walled:
    """The same graph on the same values, which autograd does not follow: of a graph whose tensors are trained."""
    return _on(walled, Tensor.detach)


@without_texts()
def on_cpu(walled: Walled) -> Walled:
    """The same graph on a copy of its tensors in main memory."""
    made, cpu = _on(walled, Tensor.cpu), torch.device("cpu")
    for node in made.graph.fx.nodes:
        node.args = tuple(cpu if isinstance(each, torch.device) else each for each in node.args)
        node.kwargs = {key: cpu if isinstance(value, torch.device) else value for key, value in node.kwargs.items()}
    made.graph.run.recompile()
    return made


def _on(walled: Walled, change: Callable[[Tensor], Tensor]) -> Walled:
    made, known = walled.graph, {}
    root, fx = nn.Module(), FxGraph()
    for name, tensor in (*made.run.named_buffers(), *made.run.named_parameters()):
        root.register_buffer(name, change(tensor))
    copied([node for node in made.fx.nodes if node.op != "output"], fx, known)
    fx.output(known[made.logits])
    graph = Graph(GraphModule(root, fx), made.colours, made.image_size)
    return replace(walled, graph=graph, layer=moved(walled.layer, known), handed=known[walled.handed])


def moved(layer: Layer, known: dict[Node, Node], form: Form | None = None) -> Layer:
    """The layer in another graph."""
    return Layer(layer.names, known[layer.node], form or layer.form, tuple(known[each] for each in layer.crossing))


def _heard(graph: Graph, layer: Layer, wall: Wall) -> Tensor:
    """(h, w): unseen cells that the logits may depend on."""
    reach.shaped(graph.run, graph.colours, graph.image_size)
    of = torch.ones(tuple(int(n) for n in graph.logits.meta["val"].shape), dtype=torch.bool)
    found = reach.backward(graph.run, of, until=layer.node).get(layer.node)
    hears = torch.zeros(layer.form.grid, dtype=torch.bool) if found is None else layer.form.cells(found).any(0).any(0)
    return hears & torch.from_numpy(wall.unseen.copy())


def _smaller(graph: Graph, layer: Layer, wall: Wall) -> Node:
    """Seen cells only: slices where they fill their rectangle, else one line of cells."""
    fx, run, form = graph.fx, graph.run, layer.form
    users = list(layer.node.users)
    with fx.inserting_after(layer.node):
        cursor = fx.call_function(ATEN.alias.default, (layer.node,))
    cursor.meta = {}
    with fx.inserting_before(cursor):
        if form.axes == "tokens":
            chosen = form.prefix + torch.from_numpy(np.flatnonzero(wall.seen))
            index = attribute(fx, run, "seen_tokens", torch.cat([torch.arange(form.prefix), chosen]).to(device_of(run)))
            made = fx.call_function(ATEN.index_select.default, (layer.node, 1, index))
        else:
            made = _sliced(fx, run, layer.node, form, wall)
    cursor.replace_all_uses_with(made)
    fx.erase_node(cursor)
    _rewired(layer.node, users, made)
    return made


def _sliced(fx: FxGraph, run: GraphModule, node: Node, form: Form, wall: Wall) -> Node:
    first = 2 if form.axes == "map" else 1
    if wall.is_box:
        for axis, (start, stop) in zip((first, first + 1), wall.box, strict=True):
            node = fx.call_function(ATEN.slice.Tensor, (node, axis, int(start), int(stop)))
        return node
    index = attribute(fx, run, "seen_cells", torch.from_numpy(np.flatnonzero(wall.seen)).to(device_of(run)))
    flat = fx.call_function(ATEN.flatten.using_ints, (node, first, first + 1))
    line = fx.call_function(ATEN.index_select.default, (flat, first, index))
    return fx.call_function(ATEN.unsqueeze.default, (line, first))


def _emptied(graph: Graph, layer: Layer, wall: Wall) -> Node:
    """0 in place of unseen cells."""
    fx, run, form = graph.fx, graph.run, layer.form
    seen = torch.from_numpy(wall.seen.copy())
    if form.axes == "map":
        mask = seen[None, None]
    elif form.axes == "last":
        mask = seen[None, :, :, None]
    else:
        mask = torch.cat([torch.ones(form.prefix, dtype=torch.bool), seen.flatten()])[None, :, None]
    users = list(layer.node.users)
    with fx.inserting_after(layer.node):
        condition = attribute(fx, run, "seen", mask.to(device_of(run)))
    with fx.inserting_after(condition):
        made = fx.call_function(ATEN.where.ScalarOther, (condition, layer.node, 0.0))
    _rewired(layer.node, users, made)
    return made


def _rewired(node: Node, users: Sequence[Node], made: Node) -> None:
    for user in users:
        user.replace_input_with(node, made)
    graph = made.graph
    if output(graph).args[0] is node:
        output(graph).args = (made,)


def device_of(run: GraphModule) -> torch.device:
    return example_of(run).device


def _runs(graph: Graph, cut: Node) -> bool:
    """Does the graph give logits of the same shape for each image, without a pool that would lay other cells on its fixed places?"""
    wanted = (reach.BATCH, *graph.logits.meta["val"].shape[1:])  # a view(-1, 8, 8, 8) may make one image of two
    graph.fx.lint()
    graph.run.recompile()
    try:
        reach.shaped(graph.run, graph.colours, graph.image_size)
    except Exception:  # whatever torch makes of shapes that do not fit: this selection is not for this head
        return False
    for node in data_nodes(graph.fx, [cut]):
        fixed = named(node).get("output_size") if "adaptive" in op_of(node) else None
        if fixed is not None and any(int(n) > 1 for n in fixed) and not _was_emptied(cut):
            return False
    return tuple(graph.logits.meta["val"].shape) == wanted


def _was_emptied(cut: Node) -> bool:
    return any(op_of(user) == "where" for user in cut.users)


# -- trunk walls ----------------------------------------------------------------------------------


@without_texts()
def with_sides_apart(
    graph: Graph, layer: Layer, sides: Sequence[Graph], spans: Sequence[tuple[int, int]], axis: int, seen_side: int
) -> Walled:
    """The graph in which each span of pixels along `axis` goes through its own copy of the features, `sides`; the maps are put
    together at the layer, and the head is handed the seen side alone."""
    fx, root, parts = FxGraph(), nn.Module(), []
    images = fx.placeholder("images")
    for side, (start, stop) in zip(sides, spans, strict=True):
        cut = fx.call_function(ATEN.slice.Tensor, (images, axis, start, stop))
        known = {side.images: cut}
        _share(side.run, root)
        copied([n for n in side.fx.nodes if n.op not in ("placeholder", "output")], fx, known)
        parts.append(known[side.logits])
    first = 2 if layer.form.axes == "map" else 1
    along = first if axis == 2 else first + 1
    whole = fx.call_function(ATEN.cat.default, (parts, along))
    lengths = [int(side.logits.meta["val"].shape[along]) for side in sides]
    grid = list(layer.form.grid)
    grid[axis - 2] = sum(lengths)
    form = Form(layer.form.axes, tuple(grid), layer.form.channels)
    wall = _side_wall(form.grid, axis, lengths, seen_side)
    _head_onto(graph, layer, fx, root, whole, images)
    made = Graph(GraphModule(root, fx), graph.colours, graph.image_size)
    at = Layer(layer.names, whole, form)
    made.fx.lint()
    made.logits.meta.setdefault("val", graph.logits.meta["val"])
    walled = _handed_seen(made, at, wall)
    return Walled(
        walled.graph,
        walled.layer,
        wall,
        "trunk",
        walled.handed,
        sides=tuple(tuple(s) for s in spans),
        axis=axis,
        seen_side=seen_side,
    )


def _handed_seen(made: Graph, at: Layer, wall: Wall) -> Walled:
    """The head wall on a map whose height may differ from the one the head was traced for."""
    for selection in (_smaller, _emptied):
        copy, layer = copy_of(made, at)
        copy.logits.meta.setdefault("val", made.logits.meta["val"])
        handed = selection(copy, layer, wall)
        if _runs(copy, layer.node):
            return Walled(copy, layer, wall, "head", handed)
    raise ValueError(f"the head after {at.name} does not run on the map that the two sides make, {at.form.grid}")


def _side_wall(grid: tuple[int, int], axis: int, lengths: Sequence[int], seen_side: int) -> Wall:
    seen = np.zeros(grid, dtype=bool)
    start = sum(lengths[:seen_side])
    span = slice(start, start + lengths[seen_side])
    seen[span if axis == 2 else (slice(None), span)] = True
    return Wall(seen)


def _share(of: nn.Module, root: nn.Module) -> None:
    """Give root the tensors of another module under the same names; both sides share the network's own."""
    for name, tensor in of.named_buffers():
        if not hasattr(root, name):
            root.register_buffer(name, tensor)


def _head_onto(graph: Graph, layer: Layer, fx: FxGraph, root: nn.Module, cut: Node, images: Node) -> None:
    """Copy what follows the layer onto another graph's node `cut`."""
    _share(graph.run, root)
    known = {layer.node: cut, graph.images: images}
    before = set(data_nodes(graph.fx, [graph.images])) - set(data_nodes(graph.fx, [layer.node]))
    wanted = [
        n for n in graph.fx.nodes if n not in before and n.op not in ("placeholder", "output") and n is not layer.node
    ]
    for node in wanted:
        if op_of(node) == "sym_size" and node.args[0] in before:
            known[node] = fx.call_function(ATEN.sym_size.int, (images, node.args[1]))
            known[node].meta = dict(node.meta)
        elif all(each in known for each in node.all_input_nodes):
            copied([node], fx, known)
    fx.output(known[graph.logits])
    fx.eliminate_dead_code()

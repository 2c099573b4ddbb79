"""The quick way: what decides the logits, run on the part of an image that it looks at.

A wall makes work cheaper: of features that are one line of operations only the window in front of the wall is run, of a trunk
wall's two sides only the seen one, of tokens those that are seen. Each is a smaller graph made of the same operations, and is held to the whole graph on noise
before it is used; where it is not the same, the whole graph is run.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Node

from wallcheck.graph import lean
from wallcheck.graph._nodes import (
    attribute,
    copied,
    data_nodes,
    example_of,
    is_layout,
    lays_out,
    logits_node,
    op_of,
    part,
    placeholder,
)
from wallcheck.graph._texts import without_texts
from wallcheck.graph.attention import Parted, parted_at
from wallcheck.graph.walls import Walled

ATEN = torch.ops.aten
Values = tuple[Tensor, ...]  # what crosses a cut: the layer's own value first, then what runs beside it
WHOLE = slice(None), slice(None)


@dataclass(frozen=True)
class Quick:
    """Visible parts (n, C, r, c) -> logits: `run`; `handed` and `crossing` are what its head reads; `visible` are rows and
    columns of the image; `line` is set where the features are one line of operations."""

    run: GraphModule
    handed: Node
    crossing: tuple[Node, ...]
    visible: tuple[slice, slice]
    line: lean.Line | None = None

    @cached_property
    def finish(self) -> GraphModule:
        """What its head is handed (and what crosses beside it) -> logits."""
        return part(self.run, [self.handed, *self.crossing], [logits_node(self.run.graph)])

    def seen(self) -> Callable[[Tensor], Values]:
        """Visible parts -> what the head is handed, and what crosses beside it; can be differentiated."""
        run = part(self.run, [placeholder(self.run.graph)], [self.handed, *self.crossing])
        return lambda parts: tupled(run(parts))

    def seen_lean(self, spare_mb: float) -> Callable[[Tensor], Values]:
        """The same without autograd, by leaner operations, of features that are a line; see `lean.cells`."""
        cells = lean.cells(self.line, spare_mb)
        return lambda parts: (cells(parts),)

    def is_same(self, lean_way: Callable[[Tensor], Values]) -> bool:
        """Does a leaner way hand the head the same, on noise?"""
        parts = noise(self.run, self.line.colours, self.line.image_size)[(..., *self.visible)]
        with torch.no_grad():
            return close(lean_way(parts)[0], self.seen()(parts)[0])


@without_texts()
def quick_of(walled: Walled) -> Quick:
    """The quickest graph that gives the whole graph's logits."""
    found = _shortened(walled)
    return found if lays_out(found.run) else _without_layout(found)


def _without_layout(found: Quick) -> Quick:
    for node in filter(is_layout, found.run.graph.nodes):
        node.replace_all_uses_with(node.args[0])
    return _tidied(found)


def _shortened(walled: Walled) -> Quick:
    line = line_of(walled)
    if line is not None and agrees(found := _windowed(walled, line), walled):
        return found
    if walled.sides and op_of(walled.handed) == "slice" and agrees(found := _one_side(walled), walled):
        return found
    if walled.kind == "trunk" and walled.layer.form.axes == "tokens":
        with suppress(RuntimeError, IndexError, ValueError):  # numbers of tokens written into the graph
            if (found := _seen_tokens(walled)) is not None and agrees(found, walled):
                return found
    return _copied(walled)


def line_of(walled: Walled) -> lean.Line | None:
    """The features as one line of operations, before a wall whose seen cells fill a rectangle that the head is handed."""
    layer = walled.layer
    if layer.form.axes != "map" or not walled.wall.is_box or walled.sides or layer.crossing:
        return None
    if walled.handed is not layer.node and not _hands_the_box(walled):
        return None
    return lean.line_of(walled.graph.run, layer.node, walled.wall, walled.graph.image_size)


def _hands_the_box(walled: Walled) -> bool:
    """Is what the head is handed the seen rectangle itself?"""
    form, ((top, bottom), (left, right)) = walled.layer.form, walled.wall.box
    example = example_of(walled.graph.run)
    numbers = torch.arange(form.channels * form.grid[0] * form.grid[1], dtype=torch.float64, device=example.device)
    numbers = numbers.view(1, form.channels, *form.grid).repeat(2, 1, 1, 1)
    given, box = (
        part(walled.graph.run, [walled.layer.node], [walled.handed])(numbers),
        numbers[:, :, top:bottom, left:right],
    )
    return given.shape == box.shape and torch.equal(given, box)


def _copied(walled: Walled) -> Quick:
    graph, known = FxGraph(), {}
    copied([node for node in walled.graph.fx.nodes if node.op != "output"], graph, known)
    graph.output(known[walled.graph.logits])
    crossing = tuple(known[node] for node in walled.layer.crossing)
    return Quick(GraphModule(walled.graph.run, graph), known[walled.handed], crossing, WHOLE)


def _windowed(walled: Walled, line: lean.Line) -> Quick:
    """The seen rectangle cut out of what the visible part makes, in place of what is cut out of the whole map."""
    found = _copied(walled)
    graph, readers = found.run.graph, list(found.handed.users)
    places = list(walled.graph.fx.nodes)
    made = list(graph.nodes)[places.index(walled.layer.node)]
    for dim, span in enumerate(line.seen_cells, start=2):
        with graph.inserting_after(made):
            made = graph.call_function(torch.ops.aten.slice.Tensor, (made, dim, span.start, span.stop))
    for reader in readers:
        reader.replace_input_with(found.handed, made)
    rows, columns, _ = line.visible
    return replace(_tidied(found), handed=made, visible=(slice(*rows), slice(*columns)), line=line)


def _one_side(walled: Walled) -> Quick:
    """The seen side's features alone, on its own pixels alone: slice(cat(a, b)) that is one of its parts is that part."""
    found = _copied(walled)
    node, images = found.handed, placeholder(found.run.graph)
    while op_of(node) != "cat":  # a slice along the other axis is the whole of it
        node = node.args[0]
    side = node.args[0][walled.seen_side]
    found.handed.replace_all_uses_with(side)
    found.run.graph.eliminate_dead_code()
    for node in list(images.users):
        if op_of(node) == "slice" and int(node.args[1]) == walled.axis:
            node.replace_all_uses_with(images)
    span = slice(*walled.sides[walled.seen_side])
    visible = (span, slice(None)) if walled.axis == 2 else (slice(None), span)
    return replace(_tidied(found), handed=side, visible=visible)


def _seen_tokens(walled: Walled) -> Quick | None:
    """Seen tokens alone, from the last value that they all go through before they first attend: none of them hears another.
    None where there is no such value."""
    found, form = _copied(walled), walled.layer.form
    graph, run = found.run.graph, found.run
    places = dict(zip(walled.graph.fx.nodes, graph.nodes, strict=False))
    parted = [each for each in map(parted_at, walled.graph.fx.nodes) if each]
    stream = _all_tokens(walled, parted[0].inputs[0]) if parted else None
    if stream is None:
        return None
    seen = torch.from_numpy(walled.wall.seen.ravel().nonzero()[0])
    kept = torch.cat([torch.arange(form.prefix), form.prefix + seen]).to(example_of(run).device)
    with graph.inserting_after(places[stream]):
        index = attribute(graph, run, "kept_tokens", kept)
    with graph.inserting_after(index):
        few = graph.call_function(ATEN.index_select.default, (places[stream], 1, index))
    places[stream].replace_all_uses_with(few, delete_user_cb=lambda user: user is not few)
    for each in parted:
        _whole_again(graph, each, places)
    parting = {node: node.args[op_of(node) == "where"] for node in graph.nodes if _parts_tokens(run, node, kept)}
    for node, tokens in parting.items():  # there are no others to be parted from
        node.replace_all_uses_with(tokens)
        graph.erase_node(node)
    return _tidied(replace(found, handed=parting.get(found.handed, found.handed)))


def _whole_again(graph: FxGraph, parted: Parted, places: dict[Node, Node]) -> None:
    """Both sides' attention as one, over the tokens that there are."""
    back, first = places[parted.back], places[parted.first]
    inputs = [places[each] for each in parted.inputs]
    with graph.inserting_before(back):
        if len(inputs) == 3:
            made = graph.call_function(first.target, tuple(inputs), first.kwargs)
        else:
            scores, values = inputs
            softmax = first.args[0]
            weights = graph.call_function(softmax.target, (scores, *softmax.args[1:]), softmax.kwargs)
            made = graph.call_function(first.target, (weights, values))
    whole = back.args[0]
    back.replace_all_uses_with(made)
    for node in (
        back,
        whole,
        *whole.args[0],
    ):  # to torch an attention may draw a dropout, so that it would be run for nothing
        graph.erase_node(node)


def _parts_tokens(run: GraphModule, node: Node, kept: Tensor) -> bool:
    """Does the node take the seen tokens from among all, or put 0 in place of the others?"""
    if op_of(node) == "index_select" and node.args[1] == 1 and node.args[2].op == "get_attr":
        chosen = getattr(run, node.args[2].target)
        return node.args[2].name != "kept_tokens" and chosen.shape == kept.shape and torch.equal(chosen, kept)
    if op_of(node) == "where" and node.args[0].op == "get_attr":
        mask = getattr(run, node.args[0].target)
        return mask.ndim == 3 and mask.shape[::2] == (1, 1) and torch.equal(mask[0, :, 0].nonzero()[:, 0], kept)
    return False


def _all_tokens(walled: Walled, before: Node) -> Node | None:
    """The last value before a node that holds all tokens (B, T, C) and that everything goes through."""
    data = list(data_nodes(walled.graph.fx, [walled.graph.images]))
    place, found, open_until = {node: i for i, node in enumerate(data)}, None, 0
    for i, node in enumerate(data[: place[before]]):
        through = open_until <= i
        open_until = max([open_until, *(place[user] for user in node.users if user in place)])
        value = node.meta.get("val")
        if (
            through
            and isinstance(value, Tensor)
            and value.ndim == 3
            and int(value.shape[1]) == walled.layer.form.tokens
        ):
            found = node
    return found


def _tidied(found: Quick) -> Quick:
    found.run.graph.eliminate_dead_code()
    found.run.graph.lint()
    found.run.recompile()
    return found


def agrees(found: Quick, walled: Walled) -> bool:
    """Does the quick graph give the whole graph's logits on noise?"""
    images = noise(walled.graph.run, walled.graph.colours, walled.graph.image_size)
    with torch.no_grad():
        whole = walled.graph.run(images)
        if not torch.isfinite(whole).all():
            raise ValueError(
                "the network gives NaN or infinity on noise; are its weights, and what it divides by, sound?"
            )
        with suppress(RuntimeError):  # a head that reads places of the whole map does not run on a part
            return close(found.run(images[(..., *found.visible)]), whole)
    return False


def close(one: Tensor, two: Tensor) -> bool:
    """Equal to float rounding?"""
    return one.shape == two.shape and torch.allclose(one, two, rtol=1e-4, atol=1e-5 * float(two.abs().max()))


def noise(run: GraphModule, colours: int, size: tuple[int, int]) -> Tensor:
    """Two images drawn for a graph."""
    drawn = torch.randn(2, colours, *size, generator=torch.Generator().manual_seed(0))
    return drawn.to(example_of(run))


def tupled(values: Tensor | Values) -> Values:
    return values if isinstance(values, tuple) else (values,)

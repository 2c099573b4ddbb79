"""Where a graph can be cut: layers whose output alone decides the logits, and the grid that output stands for.

A value dominates the output when, right after it is made, no other value that depends on the images is still wanted. What is
wanted besides may cross a cut only if the logits hear nothing of its cells (a class token that runs beside the patches).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches

import torch
from torch import Tensor
from torch.fx import Node

from wallcheck.graph import reach
from wallcheck.graph._nodes import data_nodes, op_of, paths_of
from wallcheck.graph.export import BATCH, Graph


@dataclass(frozen=True)
class Form:
    """How a layer's output is a grid of cells: `axes` "map" (B, K, h, w), "last" (B, h, w, K), or "tokens" (B, T, K) with
    `prefix` tokens before the h w cells."""

    axes: str
    grid: tuple[int, int]
    channels: int
    prefix: int = 0

    @property
    def tokens(self) -> int:
        """Prefix tokens and cells."""
        return self.prefix + self.grid[0] * self.grid[1]

    def cells(self, value: Tensor) -> Tensor:
        """(B, K, h, w) of the layer's own output."""
        if self.axes == "map":
            return value
        if self.axes == "last":
            return value.permute(0, 3, 1, 2)
        return value[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)

    def rest(self, value: Tensor) -> Tensor | None:
        """Prefix tokens (B, prefix, K); None where there are none."""
        return value[:, : self.prefix] if self.prefix else None

    def summed(self, value: Tensor) -> Tensor:
        """(B, K): a value of this form, of all its cells or of some, summed over them; prefix tokens are left out."""
        if self.axes == "map":
            return value.sum((2, 3))
        return value.flatten(1, -2)[:, self.prefix :].sum(1)

    def value(self, cells: Tensor, rest: Tensor | None = None) -> Tensor:
        """The layer's own form of cells (B, K, h, w) and prefix tokens."""
        if self.axes == "map":
            return cells
        if self.axes == "last":
            return cells.permute(0, 2, 3, 1)
        tokens = cells.flatten(2).transpose(1, 2)
        return tokens if rest is None else torch.cat([rest, tokens], 1)


@dataclass(frozen=True)
class Layer:
    """A place where the network can be cut: its names (the outermost module first), node and form; what crosses beside it."""

    names: tuple[str, ...]
    node: Node
    form: Form
    crossing: tuple[Node, ...] = ()

    @property
    def name(self) -> str:
        return self.names[0]


def layers_of(graph: Graph) -> list[Layer]:
    """Every layer where the graph can be cut and still has a map of more than one cell, in forward order; of a module that is run
    several times the last call, as `layer_named` takes it."""
    found: list[Layer] = []
    for layer in reversed([layer for layer in _candidates(graph) if not layer.crossing]):
        later = {name for each in found for name in each.names}
        if names := tuple(name for name in layer.names if name not in later):
            found.append(replace(layer, names=names))
    return found[::-1]


def layer_named(graph: Graph, name: str | None, sides_apart: bool = False) -> Layer:
    """The layer of this name, of a module that is run several times the last call at which it can be cut; of None, the last whose
    map decides the logits. sides_apart: whether two sides of an image will come together there, so that nothing beside it can be
    told apart. ValueError with what is in the way and what would do instead."""
    candidates = list(_candidates(graph))
    clean = [layer for layer in candidates if not layer.crossing]
    if name is None:
        return _last_with_a_map(graph, clean)
    called = [layer for layer in reversed(candidates) if name in layer.names]
    for layer in called:
        apart = sides_apart and layer.form.axes != "tokens"
        if not layer.crossing or (not apart and _crosses_beside(graph, layer)):
            return layer
    if called:
        raise _refusal(called[0], clean)
    known = {path for node in graph.fx.nodes for path in paths_of(node)}
    if name not in known:
        near = get_close_matches(name, known, 3, 0.4) or sorted(known)[:5]
        raise ValueError(
            f"there is no layer {name!r}; nearest: {', '.join(near)}. wallcheck layers lists where this network can be cut"
        )
    raise ValueError(
        f"{name} gives no map of cells, (B, K, h, w), (B, h, w, K) or (B, T, K) with more than one cell; "
        f"cut at {', '.join(layer.name for layer in clean[-4:]) or 'no layer: none of this network has one'}"
    )


def _refusal(layer: Layer, clean: list[Layer]) -> ValueError:
    what = ", ".join(sorted({(paths_of(node) or ["the network itself"])[-1] for node in layer.crossing}))
    return ValueError(
        f"{layer.names[-1]} alone does not decide the logits: the output of {what} passes it by; cut at a layer that everything "
        f"goes through: {', '.join(each.name for each in clean[-5:]) or 'this network has none'}"
    )


def _last_with_a_map(graph: Graph, clean: list[Layer]) -> Layer:
    for layer in reversed(clean):
        pooled = op_of(layer.node).startswith(("adaptive", "_adaptive"))
        if not pooled and hearing(graph, layer.node, layer.form).any():
            return layer
    raise ValueError(
        "no layer of this network has a map of more than one cell that decides the logits; name one by `layer`"
    )


def hearing(graph: Graph, node: Node, form: Form) -> Tensor:
    """(h, w) Boolean: cells of a node in this form that the logits may depend on."""
    found = reach.backward(graph.run, _one_image(graph)).get(node)
    if found is None:
        return torch.zeros(form.grid, dtype=torch.bool)
    return form.cells(found)[0].any(0)


def _one_image(graph: Graph) -> Tensor:
    chosen = torch.zeros(tuple(int(n) for n in graph.logits.meta["val"].shape), dtype=torch.bool)
    chosen[0] = True
    return chosen


def _crosses_beside(graph: Graph, layer: Layer) -> bool:
    """Do the logits hear of what crosses beside the layer only through its prefix tokens?"""
    reached = reach.backward(graph.run, _one_image(graph), until=layer.node)
    for node in layer.crossing:
        shape, found = tuple(int(n) for n in node.meta["val"].shape), reached.get(node)
        same = shape == tuple(int(n) for n in layer.node.meta["val"].shape) and layer.form.prefix
        if found is not None and not (same and not layer.form.cells(found).any()):
            return False
    return True


def _candidates(graph: Graph) -> Iterator[Layer]:
    """Layers with a map, with what crosses beside each."""
    reach.shaped(graph.run, graph.colours, graph.image_size)
    data = list(data_nodes(graph.fx, [graph.images]))
    heard = reach.backward(graph.run, _one_image(graph))
    data = [node for node in data if node in heard or isinstance(node.meta["val"], (tuple, list))]
    place = {node: i for i, node in enumerate(data)}
    last = {
        node: max(
            (place.get(user, len(data)) for user in node.users if user in place or user.op == "output"), default=-1
        )
        for node in data
    }
    grid: tuple[int, int] | None = None
    for i, node in enumerate(data):
        form = form_of(graph, node, grid)
        if form is None:
            continue
        names, crossing = _ends_here(node, data), tuple(n for n in data[:i] if last[n] > i)
        if form.axes != "tokens" and (op_of(node) == "conv2d" or (names and not crossing)):
            grid = form.grid  # (B, heads, T, d) of an attention has four axes too, and is no map
        if names:
            yield Layer(names, node, form, crossing)


def _ends_here(node: Node, data: list[Node]) -> tuple[str, ...]:
    """Names of the modules whose output the node is, outermost first: some later node outside them wants it."""
    known = set(data)
    users = [user for user in node.users if user in known or user.op == "output"]
    names = [path for path in paths_of(node) if any(path not in paths_of(user) for user in users)]
    return tuple(dict.fromkeys(names))


def form_of(graph: Graph, node: Node, grid: tuple[int, int] | None, whole: bool = True) -> Form | None:
    """The form of a node's value; None where it is no map of more than one cell. grid: of the last map before it. whole:
    whether the map stands for the whole image, so that their proportions agree."""
    value = node.meta["val"]
    if not isinstance(value, Tensor) or not value.is_floating_point() or node is graph.images:
        return None
    shape = tuple(int(n) for n in value.shape)
    if shape[:1] != (BATCH,):
        return None
    if len(shape) == 4:
        sure = op_of(node) == "conv2d" or shape[2:] == grid  # whatever padding and strides have made of its proportions
        if not whole or (sure and max(shape[2:]) > 1):
            return Form("map", shape[2:], shape[1])
        return _map_form(shape, graph.image_size)
    if len(shape) == 3 and grid is not None and 0 <= shape[1] - grid[0] * grid[1] <= 16:
        return Form("tokens", grid, shape[2], shape[1] - grid[0] * grid[1])
    return None


def _map_form(shape: tuple[int, ...], image: tuple[int, int]) -> Form | None:
    """Channels stand first unless only the other reading has the shape of the image, or has it more nearly."""
    readings = [Form("map", shape[2:], shape[1]), Form("last", shape[1:3], shape[3])]
    fit = [form for form in readings if max(form.grid) > 1 and _askew(form.grid, image) <= 1.5]
    return min(fit, key=lambda form: _askew(form.grid, image), default=None)


def _askew(grid: tuple[int, ...], image: tuple[int, int]) -> float:
    """How far a grid is from the proportions of the image, in cells of its shorter side; infinity where it is no smaller."""
    tall, wide = (length / side for length, side in zip(grid, image, strict=True))
    return abs(tall - wide) * min(image) if max(tall, wide) <= 1 else float("inf")

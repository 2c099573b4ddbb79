"""Layers on the way to the target layer: what layered methods fuse, and what each adds of its own.

A layer here is a convolution, a batch norm or a value that everything goes through; where a trunk wall sends two sides through
the features apart, a layer is the pair of its copies, put together on one map.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from wallcheck.graph import reach
from wallcheck.graph._nodes import data_nodes, named, op_of, part
from wallcheck.graph.cut import Form, form_of
from wallcheck.graph.quick import Quick, tupled
from wallcheck.graph.walls import Walled

WITH_TERMS = ("conv2d", "batch_norm")
PARAMETERS = ("linear", "layer_norm", "group_norm", "conv1d", "conv3d", "matmul", "mul", "add")


@dataclass(frozen=True)
class Step:
    """A layer: its copies (one for each side of a trunk wall), its form, and whether everything goes through it."""

    nodes: tuple[Node, ...]
    form: Form
    through: bool

    @property
    def op(self) -> str:
        return op_of(self.nodes[0])


def steps_of(walled: Walled) -> list[Step]:
    """Layers with a map in forward order; the last is the target layer."""
    graph = walled.graph
    reach.shaped(graph.run, graph.colours, graph.image_size)
    if not walled.sides:
        return _line(walled, graph.images, walled.layer.node)
    apart = [_line(walled, start, end) for start, end in zip(_starts(walled), walled.layer.node.args[0], strict=True)]
    if len({tuple(step.op for step in side) for side in apart}) != 1:
        raise ValueError("the two sides of the wall were traced to different operations; layers cannot be put together")
    steps = [
        Step(tuple(s.nodes[0] for s in pair), pair[walled.seen_side].form, pair[0].through)
        for pair in zip(*apart, strict=True)
    ]
    return [*steps[:-1], Step((walled.layer.node,), walled.layer.form, True)]


def _starts(walled: Walled) -> list[Node]:
    return [node for node in walled.graph.images.users if op_of(node) == "slice"]


def _line(walled: Walled, start: Node, end: Node) -> list[Step]:
    graph = walled.graph
    wanted = _between(graph.run, start, end)
    place = {node: i for i, node in enumerate(wanted)}
    steps, open_until, grid = [], 0, None
    for i, node in enumerate(wanted):
        through = open_until <= i
        open_until = max([open_until, *(place[user] for user in node.users if user in place)])
        form = form_of(graph, node, grid, whole=not walled.sides)
        if form is None:
            continue
        if (through and node is not start) or op_of(node) in WITH_TERMS:
            grid = form.grid if form.axes != "tokens" else grid
            steps.append(Step((node,), form, through))
    return steps


def _between(run: GraphModule, start: Node, end: Node) -> list[Node]:
    ahead = data_nodes(run.graph, [start])
    back, todo = set(), [end]
    while todo:
        node = todo.pop()
        if node not in back and node in ahead:
            back.add(node)
            todo += node.all_input_nodes
    return [node for node in ahead if node in back]


def last_of_each_resolution(steps: list[Step]) -> list[int]:
    """Numbers of the last layer of each resolution that everything goes through; the last is the target layer."""
    through = [i for i, step in enumerate(steps) if step.through]
    turns = [i for i, j in pairwise(through) if steps[i].form.grid != steps[j].form.grid]
    return [*turns, through[-1]]


def unknown_terms(walled: Walled) -> str | None:
    """Why the constants that layers add are not all known: an operation with parameters that is neither convolution nor batch
    norm; None where they are."""
    graph = walled.graph
    for node in data_nodes(graph.fx, [graph.images]):
        held = any(
            each.op == "get_attr" and getattr(graph.run, each.target).is_floating_point()
            for each in node.all_input_nodes
        )
        if held and op_of(node) in PARAMETERS and node in _before(walled):
            return op_of(node)
    return None


def _before(walled: Walled) -> set[Node]:
    return set(_between(walled.graph.run, walled.graph.images, walled.layer.node))


def constant_of(run: GraphModule, step: Step) -> Tensor | None:
    """(K,): what a layer adds whatever it is given: a convolution's bias, a batch norm's beta - mean gamma / sd."""
    told = named(step.nodes[0])
    held = {
        name: getattr(run, value.target)
        for name, value in told.items()
        if isinstance(value, Node) and value.op == "get_attr"
    }
    if step.op == "batch_norm":
        scale = held["weight"] / (held["running_var"] + told["eps"]).sqrt()
        return held["bias"] - held["running_mean"] * scale
    return held.get("bias") if step.op == "conv2d" else None


Values = Callable[..., tuple[Tensor, ...]]


def tracer(walled: Walled, steps: list[Step], from_images: bool) -> tuple[Values | None, Values]:
    """(images -> values of the first layer, (images, those values) -> values of the others and the logits); the first is None,
    and the second is a function of the images that gives all layers, where from_images or where not everything goes through
    the first layer. Layers in copies give a value for each."""
    first, *later = steps
    images, logits = walled.graph.images, walled.graph.logits
    if from_images or not first.through:
        return None, _tupling(walled, [images], [node for step in steps for node in step.nodes] + [logits])
    begin = _tupling(walled, [images], list(first.nodes))
    return begin, _tupling(walled, [images, *first.nodes], [node for step in later for node in step.nodes] + [logits])


def visible_tracer(walled: Walled, steps: list[Step], quick: Quick) -> tuple[Values, Values]:
    """The same of the visible part of images, for features that are one line; the last of the layers is the target layer."""
    first, *later = (step.nodes[0] for step in steps)
    begin = _tupling(walled, [walled.graph.images], [first])
    follow = _tupling(walled, [first], later) if later else lambda value: ()

    def finish(_: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        values = follow(value)
        cells = (value, *values)[-1][(..., *quick.line.seen_cells)]
        return *values, *tupled(quick.finish(cells))

    return begin, finish


def outputs_of(walled: Walled, steps: list[Step]) -> Values:
    """Images -> the values of these layers, side by side where they are in copies."""
    return _tupling(walled, [walled.graph.images], [node for step in steps for node in step.nodes])


def _tupling(walled: Walled, inputs: list[Node], outputs: list[Node]) -> Values:
    run = part(walled.graph.run, inputs, outputs)
    return lambda *given: tupled(run(*given))


def joined(step: Step, walled: Walled, values: list[Tensor]) -> Tensor:
    """The cells (B, K, h, w) of a layer from its copies."""
    cells = [step.form.cells(value) for value in values]
    return cells[0] if len(cells) == 1 else torch.cat(cells, walled.axis)

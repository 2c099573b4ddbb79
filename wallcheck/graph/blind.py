"""The blind graph as it is run: features, wall and head, the doors that rescoring takes, and its proof.

Evidence, certificate and methods run this and nothing else. What saves work is a part of the same graph, or a line of it run
leaner (`lean`); either is held to the graph on noise before it is used.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property

import torch
from torch import Tensor
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Node

from wallcheck.geometry import Regions, Wall, footprint
from wallcheck.graph import lean, reach, stages
from wallcheck.graph._nodes import copied, data_nodes, logits_node, named, op_of, part, placeholder
from wallcheck.graph.channels import Split, split_head
from wallcheck.graph.cut import Form
from wallcheck.graph.proof import Proof, prove
from wallcheck.graph.walls import Walled, in_float64

Values = tuple[Tensor, ...]  # what crosses a cut: the layer's own value first, then what runs beside it


class BlindGraph:
    """A walled graph, proved. `activations` and `logits` are its two halves, (B, K, h, w) between them; `seen` and `finish`
    its halves at the wall, from the visible part of images alone."""

    def __init__(self, walled: Walled, proof: Proof | None = None):
        self.walled = walled
        self.proof: Proof = prove(walled) if proof is None else proof

    def double(self) -> "BlindGraph":
        """The same graph with a float64 copy of its tensors; a proof looks at no value, so it is the same."""
        return BlindGraph(in_float64(self.walled), self.proof)

    @property
    def run(self) -> GraphModule:
        """Images (B, C, H, W) -> logits (B, D)."""
        return self.walled.graph.run

    @cached_property
    def example(self) -> Tensor:
        """A tensor of the graph's device and precision."""
        return next((t for t in self.run.buffers() if t.is_floating_point()), torch.empty(0))

    @property
    def wall(self) -> Wall:
        return self.walled.wall

    @property
    def form(self) -> Form:
        return self.walled.layer.form

    @property
    def image_size(self) -> tuple[int, int]:
        return self.walled.graph.image_size

    @cached_property
    def classes(self) -> int:
        return int(self.walled.graph.logits.meta["val"].shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the graph with all its tensors, the cut and the wall."""
        place = list(self.run.graph.nodes).index(self.walled.layer.node)
        told = f"{self.walled.graph.fingerprint()} {place} {self.form} {self.wall.seen.shape}"
        return hashlib.sha256(told.encode() + self.wall.seen.tobytes()).hexdigest()

    @cached_property
    def regions(self) -> Regions:
        """Seen pixels, halo and unseen pixels, as proved."""
        unseen, over = self.proof.unseen_pixels, footprint(self.wall.seen, self.image_size)
        return Regions(seen=~unseen & over, halo=~unseen & ~over, unseen=unseen)

    @cached_property
    def problems(self) -> list[str]:
        return self.proof.problems(self.walled)

    # -- the two halves at the target layer -------------------------------------------------------

    @cached_property
    def features(self) -> GraphModule:
        """Images -> the layer's own value and what runs beside it."""
        layer = self.walled.layer
        return part(self.run, [self.walled.graph.images], [layer.node, *layer.crossing])

    @cached_property
    def head(self) -> GraphModule:
        """What `features` gives -> logits."""
        layer = self.walled.layer
        return part(self.run, [layer.node, *layer.crossing], [self.walled.graph.logits])

    def activations(self, images: Tensor) -> tuple[Tensor, Values]:
        """A (B, K, h, w), and what runs beside it (prefix tokens first)."""
        return self.parted(self.features(images))

    def parted(self, values: Tensor | Values) -> tuple[Tensor, Values]:
        """Cells and what runs beside them, of what `features` gives."""
        value, *crossing = values if isinstance(values, tuple) else (values,)
        rest = self.form.rest(value)
        return self.form.cells(value), (() if rest is None else (rest,)) + tuple(crossing)

    def logits(self, cells: Tensor, beside: Values = ()) -> Tensor:
        """(N, D) of activations (N, K, h, w) and what runs beside them."""
        rest, crossing = (beside[0], beside[1:]) if self.form.prefix else (None, beside)
        return self.head(self.form.value(cells, rest), *crossing)

    @property
    def has_beside(self) -> bool:
        return bool(self.form.prefix or self.walled.layer.crossing)

    # -- the two halves at the wall ---------------------------------------------------------------

    @cached_property
    def finish(self) -> GraphModule:
        """What the head is handed (and what runs beside the cut) -> logits."""
        return part(self.run, [self.walled.handed, *self.walled.layer.crossing], [self.walled.graph.logits])

    @cached_property
    def head_operations(self) -> list[str]:
        """What the head does, operation by operation."""
        return [op_of(node) for node in self.finish.graph.nodes if node.op == "call_function"]

    @cached_property
    def hand(self) -> GraphModule:
        """The layer's own value -> what the head is handed."""
        return part(self.run, [self.walled.layer.node], [self.walled.handed])

    @cached_property
    def line(self) -> lean.Line | None:
        """The features as one line of operations, where they are one before a wall whose seen cells fill a rectangle."""
        if self.form.axes != "map" or not self.wall.is_box or self.walled.sides or self.walled.layer.crossing:
            return None
        if self.walled.handed is not self.walled.layer.node and not self._hands_the_box:
            return None
        return lean.line_of(self.run, self.walled.layer.node, self.wall, self.image_size)

    @cached_property
    def _hands_the_box(self) -> bool:
        """Is what the head is handed the seen rectangle itself?"""
        (top, bottom), (left, right) = self.wall.box
        count = self.form.channels * self.form.grid[0] * self.form.grid[1]
        numbers = (
            torch.arange(count, dtype=torch.float32).view(1, self.form.channels, *self.form.grid).repeat(2, 1, 1, 1)
        )
        given = self.hand(numbers.to(self.example))
        box = numbers[:, :, top:bottom, left:right].to(given)
        return given.shape == box.shape and torch.equal(given, box)

    @cached_property
    def visible(self) -> tuple[slice, slice]:
        """Rows and columns of the part of an image that decides every logit."""
        if self.line is not None:
            rows, columns, _ = self.line.visible
            return slice(*rows), slice(*columns)
        if self._one_side:
            span = slice(*self.walled.sides[self.walled.seen_side])
            return (span, slice(None)) if self.walled.axis == 2 else (slice(None), span)
        return slice(None), slice(None)

    @cached_property
    def _one_side(self) -> bool:
        """Is the head handed one side of a trunk wall as a map of its own?"""
        return bool(self.walled.sides) and op_of(self.walled.handed) == "slice"

    @cached_property
    def quick(self) -> tuple[GraphModule, Node]:
        """Visible parts (n, C, r, c) -> logits, and the node that the head is handed: the whole graph less what no logit hears."""
        graph, known = FxGraph(), {}
        walled, fx = self.walled, self.run.graph
        copied([node for node in fx.nodes if node.op != "output"], graph, known)
        graph.output(known[walled.graph.logits])
        handed = known[walled.handed]
        if self.line is not None:
            handed = _boxed(graph, known[walled.layer.node], handed, self.line)
        elif self._one_side:
            handed = _only_the_seen_side(graph, known[walled.graph.images], handed, walled)
        graph.eliminate_dead_code()
        return GraphModule(self.run, graph), handed

    @cached_property
    def before_the_last(self) -> tuple[GraphModule, Tensor]:
        """Visible parts -> what the last linear layer reads, and that layer's weight (D, n)."""
        run, _ = self.quick
        told = named(logits_node(run.graph))
        return part(run, [placeholder(run.graph)], [told["input"]]), getattr(run, told["weight"].target)

    @cached_property
    def steps(self) -> list[stages.Step]:
        """Layers on the way to the target layer, see `stages`."""
        return stages.steps_of(self.walled)

    def stage_maps(self, images: Tensor) -> list[Tensor]:
        """Cells (n, K, h, w) of the last layer of each resolution, shallow to deep."""
        run, chosen = self._stages
        values = run(images)
        values, found = list(values) if isinstance(values, tuple) else [values], []
        for step in chosen:
            found.append(stages.joined(step, self.walled, values[: len(step.nodes)]))
            values = values[len(step.nodes) :]
        return found

    @cached_property
    def _stages(self) -> tuple[GraphModule, list[stages.Step]]:
        chosen = [self.steps[i] for i in stages.last_of_each_resolution(self.steps)]
        return stages.tracer(self.walled, chosen), chosen

    @cached_property
    def seen(self) -> Callable[[Tensor], Values]:
        """Visible parts (n, C, r, c) -> what `finish` takes; can be differentiated."""
        run, handed = self.quick
        crossing = [node for node in run.graph.nodes if node.name in {n.name for n in self.walled.layer.crossing}]
        whole = part(
            run, [placeholder(run.graph)], [next(n for n in run.graph.nodes if n.name == handed.name), *crossing]
        )
        return lambda parts: values if isinstance(values := whole(parts), tuple) else (values,)

    def seen_lean(self, spare_mb: float) -> Callable[[Tensor], Values]:
        """`seen` for use without autograd, leaner where the features are a line."""
        if self.line is None:
            return self.seen
        cells = lean.cells(self.line, spare_mb)
        quick = lambda parts: (cells(parts),)  # noqa: E731
        return quick if self._agrees(quick, self.seen) else self.seen

    @cached_property
    def activations_lean(self) -> Callable[[Tensor], tuple[Tensor, Values]]:
        """`activations` for use without autograd."""
        if self.line is None:
            return self.activations
        features = lean.whole(self.line)
        quick = lambda images: (features(images), ())  # noqa: E731
        return (
            quick
            if self._agrees(lambda x: quick(x)[:1], lambda x: self.activations(x)[:1], whole=True)
            else self.activations
        )

    def _agrees(self, quick: Callable, slow: Callable, whole: bool = False) -> bool:
        """Do two ways give the same values on noise, to float rounding?"""
        size = [
            length if whole else len(range(*s.indices(length)))
            for s, length in zip(self.visible, self.image_size, strict=True)
        ]
        noise = torch.randn(2, self.walled.graph.colours, *size, generator=torch.Generator().manual_seed(0))
        noise = noise.to(self.example)
        with torch.no_grad():
            for one, two in zip(quick(noise), slow(noise), strict=True):
                if one.shape != two.shape or not torch.allclose(
                    one, two, rtol=1e-4, atol=1e-5 * float(two.abs().max())
                ):
                    return False
        return True

    def visible_logits(self, parts: Tensor) -> Tensor:
        """Logits (n, D) of the visible part of images; can be differentiated."""
        return self.finish(*self.seen(parts))

    @cached_property
    def split(self) -> Split | None:
        """The head at its first linear layer, where channels add up; None for heads of another kind."""
        if self.form.axes != "map" or self.walled.layer.crossing:
            return None
        reach.shaped(self.run, self.walled.graph.colours, self.image_size)
        return split_head(self.finish, self.form.channels)

    @cached_property
    def runs_at_any_size(self) -> bool:
        """Do the features run on an image twice as large, and give a map twice as large?"""
        if self.form.axes != "map" or self.walled.sides or self.walled.layer.crossing:
            return False
        size = [2 * length for length in self.image_size]
        with torch.no_grad(), suppress(RuntimeError):
            value = self.features(self.example.new_zeros(1, self.walled.graph.colours, *size))
            return tuple(value.shape[2:]) == tuple(2 * cells for cells in self.form.grid)
        return False

    @cached_property
    def widest(self) -> int:
        """Values of the largest map that the visible part of one image makes on its way to the head."""
        tall, wide = (len(range(*s.indices(n))) / n for s, n in zip(self.visible, self.image_size, strict=True))
        return max(1, int(self.widest_whole * tall * wide))

    @cached_property
    def widest_whole(self) -> int:
        """Values of the largest map that one image makes."""
        graph = self.walled.graph
        reach.shaped(self.run, graph.colours, self.image_size)
        values = [node.meta["val"] for node in data_nodes(graph.fx, [graph.images]) if node is not graph.images]
        return max((v.numel() // reach.BATCH for v in values if isinstance(v, Tensor)), default=1)


def _boxed(graph: FxGraph, layer: Node, handed: Node, line: lean.Line) -> Node:
    """The seen rectangle cut out of what the visible part makes, in place of what is cut out of the whole map."""
    readers, made = list(handed.users), layer
    for dim, (span, at) in enumerate(zip(line.wall.box, line.visible[2], strict=True), start=2):
        with graph.inserting_after(made):
            made = graph.call_function(torch.ops.aten.slice.Tensor, (made, dim, span.start - at, span.stop - at))
    for reader in readers:
        if handed is not layer or reader not in made.all_input_nodes:
            reader.replace_input_with(handed, made)
    return made


def _only_the_seen_side(graph: FxGraph, images: Node, handed: Node, walled: Walled) -> Node:
    """The seen side's features alone, on its own pixels alone: slice(cat(a, b)) that is one of its parts is that part."""
    node = handed
    while op_of(node) != "cat":  # a slice along the other axis is the whole of it
        node = node.args[0]
    side = node.args[0][walled.seen_side]
    handed.replace_all_uses_with(side)
    graph.eliminate_dead_code()
    for node in list(images.users):
        if op_of(node) == "slice" and int(node.args[1]) == walled.axis:
            node.replace_all_uses_with(images)
    return side

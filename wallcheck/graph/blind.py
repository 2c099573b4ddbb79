"""The blind graph as it is run: features, wall and head, the doors that rescoring takes, and its proof.

Evidence, certificate and methods run this and nothing else. What saves work (`quick`, `lean`) is made of the same graph and
held to it on noise before it is used.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property

import torch
from torch import Tensor
from torch.fx import GraphModule

from wallcheck.geometry import Regions, Wall, footprint
from wallcheck.graph import lean, reach, stages
from wallcheck.graph._nodes import example_of, logits_node, named, op_of, part, placeholder
from wallcheck.graph._sizes import Sized
from wallcheck.graph._texts import without_texts
from wallcheck.graph.attending import WrittenOut, written_out
from wallcheck.graph.channels import Split, split_head
from wallcheck.graph.cut import Form
from wallcheck.graph.proof import Proof, prove
from wallcheck.graph.quick import Quick, Values, close, noise, quick_of, tupled
from wallcheck.graph.walls import Walled, in_float64, on_cpu
from wallcheck.graph.weighing import NoAttention


class BlindGraph(Sized):
    """A walled graph, proved. `activations` and `logits` are its two halves, (B, K, h, w) between them; `seen` and `finish`
    its halves at the wall, from the visible part of images alone."""

    @without_texts()
    def __init__(self, walled: Walled, proof: Proof | None = None):
        self.walled = walled
        with torch.device("cpu"):  # whatever device is the default where this is asked
            self.proof: Proof = prove(walled) if proof is None else proof
        self._exact: BlindGraph | None = None
        self._tracers: dict[tuple, tuple] = {}
        self._same: dict[float, bool] = {}  # by MiB to spare: does the lean way give what the graph gives?

    def double(self) -> "BlindGraph":
        """The same graph with a float64 copy of its tensors, made once for as long as these do not change. A proof looks at no
        value, so it is the same."""
        if self._exact is None or not self._exact.is_double_of(self):
            self._exact = BlindGraph(in_float64(self.walled), self.proof)
        return self._exact

    def on_cpu(self) -> "BlindGraph":
        """The same graph in main memory."""
        return BlindGraph(on_cpu(self.walled), self.proof)

    def is_double_of(self, other: "BlindGraph") -> bool:
        """Do its tensors hold the other's values?"""
        own, theirs = dict(self.run.named_buffers()), dict(other.run.named_buffers())
        return own.keys() <= theirs.keys() and all(torch.equal(own[k], theirs[k].to(own[k])) for k in own)

    @property
    def run(self) -> GraphModule:
        """Images (B, C, H, W) -> logits (B, D)."""
        return self.walled.graph.run

    @cached_property
    def example(self) -> Tensor:
        """A tensor of the graph's device and precision."""
        return example_of(self.run)

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
        value, *crossing = tupled(values)
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
    def quick(self) -> Quick:
        """The quickest graph from the visible part of images to the logits."""
        return quick_of(self.walled)

    @property
    def visible(self) -> tuple[slice, slice]:
        """Rows and columns of the part of an image that decides every logit."""
        return self.quick.visible

    @cached_property
    def before_the_last(self) -> tuple[GraphModule, Tensor]:
        """Visible parts -> what the last linear layer reads, and that layer's weight (D, n)."""
        run = self.quick.run
        told = named(logits_node(run.graph))
        return part(run, [placeholder(run.graph)], [told["input"]]), getattr(run, told["weight"].target)

    @cached_property
    def attending(self) -> WrittenOut:
        """The graph with its attention written out; NoAttention, with the reason, where it has none over all tokens."""
        return written_out(self.walled)

    @cached_property
    def inattentive(self) -> str | None:
        """Why methods of attention are not defined on the graph; None where they are."""
        try:
            self.attending  # noqa: B018 (made and kept)
            return None
        except NoAttention as reason:
            return str(reason)

    @cached_property
    def steps(self) -> list[stages.Step]:
        """Layers on the way to the target layer, see `stages`."""
        return stages.steps_of(self.walled)

    def tracer(self, chosen: tuple[int, ...], from_images: bool) -> tuple[stages.Values | None, stages.Values]:
        """See `stages.tracer`; of the layers of these numbers, made once."""
        key = chosen, from_images
        if key not in self._tracers:
            self._tracers[key] = stages.tracer(self.walled, [self.steps[i] for i in chosen], from_images)
        return self._tracers[key]

    @cached_property
    def visible_tracer(self) -> tuple[stages.Values, stages.Values]:
        """See `stages.visible_tracer`; of the last layer of each resolution."""
        return stages.visible_tracer(self.walled, [self.steps[i] for i in self.last_steps], self.quick)

    @cached_property
    def last_steps(self) -> tuple[int, ...]:
        """Numbers of the last layer of each resolution, shallow to deep."""
        return tuple(stages.last_of_each_resolution(self.steps))

    def stage_maps(self, images: Tensor) -> list[Tensor]:
        """Cells (n, K, h, w) of the last layer of each resolution, shallow to deep."""
        run, chosen = self._stages
        values, found = list(run(images)), []
        for step in chosen:
            found.append(stages.joined(step, self.walled, values[: len(step.nodes)]))
            values = values[len(step.nodes) :]
        return found

    @cached_property
    def _stages(self) -> tuple[stages.Values, list[stages.Step]]:
        chosen = [self.steps[i] for i in self.last_steps]
        return stages.outputs_of(self.walled, chosen), chosen

    @cached_property
    def seen(self) -> Callable[[Tensor], Values]:
        """Visible parts (n, C, r, c) -> what `quick.finish` takes; can be differentiated."""
        return self.quick.seen()

    def seen_lean(self, spare_mb: float) -> Callable[[Tensor], Values]:
        """`seen` for use without autograd, leaner where the features are a line; see `lean.cells`. Made anew for each caller:
        transformed weights are not kept. That it is the same is found out once."""
        if self.quick.line is None:
            return self.seen
        way = self.quick.seen_lean(spare_mb)
        if spare_mb not in self._same:
            self._same[spare_mb] = self.quick.is_same(way)
        return way if self._same[spare_mb] else self.seen

    @cached_property
    def activations_lean(self) -> Callable[[Tensor], tuple[Tensor, Values]]:
        """`activations` for use without autograd, leaner where the features are a line."""
        if self.quick.line is None:
            return self.activations
        features, images = lean.whole(self.quick.line), noise(self.run, self.walled.graph.colours, self.image_size)
        with torch.no_grad():
            same = close(features(images), self.activations(images)[0])
        return (lambda images: (features(images), ())) if same else self.activations

    def visible_logits(self, parts: Tensor) -> Tensor:
        """Logits (n, D) of the visible part of images; can be differentiated."""
        return self.quick.finish(*self.seen(parts))

    @cached_property
    def split(self) -> Split | None:
        """The head at its first linear layer, where channels add up; None for heads of another kind."""
        if self.form.axes != "map" or self.walled.layer.crossing:
            return None
        reach.shaped(self.run, self.walled.graph.colours, self.image_size)
        return split_head(self.finish, self.form.channels)

    @cached_property
    def adds_up(self) -> bool:
        """Is each logit a constant and a sum over cells of what each adds: average pooling or flattening, then one linear layer?"""
        return self.split is not None and all(node.op != "call_function" for node in self.split.rest.graph.nodes)

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

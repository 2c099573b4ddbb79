"""A blind net's proved graph, run within a memory budget and in one precision: what needs no image to be known.

Whole images are rescored without autograd, in chunks that fit the budget, and only what the head can see is computed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor

from wallcheck.geometry import Regions, Wall
from wallcheck.graph import BlindGraph, checked_precision, plainly
from wallcheck.graph.channels import Split
from wallcheck.memory import CACHE_MB, budget_of, slices


class Budgeted:
    """The graph, the budget and the precision; `wallcheck.evidence.Evidence` says what the last two may be."""

    def __init__(self, graph: BlindGraph, budget_mb: float | None, precision: str):
        self.graph, self.precision = graph, checked_precision(precision)
        self.budget_mb = budget_of(graph.example.device) if budget_mb is None else budget_mb

    @property
    def wall(self) -> Wall:
        return self.graph.wall

    @property
    def regions(self) -> Regions:
        return self.graph.regions

    @cached_property
    def unseen(self) -> Tensor:
        """(h, w) Boolean: cells the head is not handed."""
        return torch.from_numpy(self.wall.unseen.copy()).to(self.graph.example.device)

    @cached_property
    def cells(self) -> int:
        """Z = h * w."""
        return self.wall.seen.size

    @cached_property
    def split(self) -> Split | None:
        """The head at its first linear layer, where channels add up; None for heads of another kind."""
        return self.graph.split

    def rescore_images(self, images: Callable[[slice], Tensor], count: int) -> Tensor:
        """Logits (count, D) of `count` images that images(slice) builds piece by piece.

        Only what the head can see is computed.
        """
        return self.rescore_visible(lambda piece: images(piece)[(..., *self.graph.visible)], count)

    def rescore_visible(self, parts: Callable[[slice], Tensor], count: int) -> Tensor:
        """Logits (count, D) of `count` images of which parts(slice) builds the net's visible part alone.

        The features run in small portions, the head on many of them together: its weights are read less often.
        """
        held = self.chunk(self.graph.form.channels * int(self.wall.seen.sum()), self.budget_mb / 8)
        with self._rescoring():
            logits = [self.graph.quick.finish(*self._cells_of(parts, some)) for some in slices(0, count, held)]
            return torch.cat(logits).to(self.graph.example.dtype)

    def _cells_of(self, parts: Callable[[slice], Tensor], which: slice) -> tuple[Tensor, ...]:
        """What the head reads of the images that parts(slice) builds, portion by portion into one tensor each."""
        kept: tuple[Tensor, ...] = ()
        for piece in slices(which.start, which.stop, self.portion):
            some = self._seen_cells(
                parts(piece).to(self.graph.example.dtype)
            )  # masks by maps in double precision are double
            if not kept:
                kept = tuple(each.new_empty(which.stop - which.start, *each.shape[1:]) for each in some)
            for whole, each in zip(kept, some, strict=True):
                whole[piece.start - which.start : piece.stop - which.start] = each
        return kept

    @cached_property
    def _seen_cells(self) -> Callable[[Tensor], tuple[Tensor, ...]]:
        """Weights of wide convolutions may take a fifth of the budget: the default holds all of VGG16's that gain by it."""
        return self.graph.seen_lean(self.budget_mb / 5)

    def logits_of(self, images: Tensor) -> Tensor:
        """Logits (n, D) of whole images, differentiable; only what the head can see is computed."""
        return self.graph.visible_logits(images[(..., *self.graph.visible)])

    @cached_property
    def portion(self) -> int:
        """Images per pass through the features: what the budget allows; on a CPU what stays in its cache, and two at least.

        Measured on two cores: 12 vgg_small images at a time take half the time each of 64; 2 vgg16_walls images, of which
        not one stays in the cache, 0.9 of 1 and 0.6 to 0.8 of 16.
        """
        return self.near(self.graph.widest, 2)

    def near(self, values: int, least: int) -> int:
        """How many items of so many values each are fastest together: what stays in a CPU's cache, but `least` of them where the
        budget allows, since the deep layers of a few are small, and threads that share them wait for each other."""
        return max(self.chunk(values, self.near_mb), min(least, self.chunk(values)))

    @property
    def near_mb(self) -> float:
        """The budget of work that is fastest in a CPU's cache."""
        return min(self.budget_mb, CACHE_MB) if self.graph.example.device.type == "cpu" else self.budget_mb

    def chunk(self, values: int, budget_mb: float | None = None) -> int:
        """How many items of so many values each fit a memory budget, the evidence's own by default; at least one."""
        bytes_each = 3 * values * self.graph.example.element_size()  # input, output and workspace of a layer
        return max(1, int((budget_mb or self.budget_mb) * 2**20 // bytes_each))

    def plainly(self):
        """Outside inference mode and autocast, whatever the caller is inside of; in the evidence's precision."""
        return plainly(self.graph.example.device, self.precision)

    @contextmanager
    def _rescoring(self) -> Iterator[None]:
        """`plainly`, without autograd; in bfloat16 what is fast. Changed activations are not: what counts there are small
        differences of scores."""
        fast = self.precision == "fast" and self.graph.example.dtype == torch.float32
        with (
            self.plainly(),
            torch.no_grad(),
            torch.autocast(self.graph.example.device.type, torch.bfloat16, enabled=fast),
        ):
            yield

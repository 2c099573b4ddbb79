"""Layers on the way to the target layer: their outputs and the score's slopes in them, by one forward and one backward.

Autograd starts where the first layer asked for is made, if everything goes through that: what lies before is never gone back
through. The slope in the image itself is asked for by name.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from wallcheck.graph import BlindGraph, stages
from wallcheck.graph.lean import Line
from wallcheck.graph.stages import Step, Values


class Traced(NamedTuple):
    """One layer on the way to the target layer (step None is the image itself): output and d score / d output, as maps
    (B, K, h, w), and the constants (K,) that it adds whatever it is given, None for a layer that adds none. beyond: how many columns
    and rows of the layer (left, right, above, below) there are beyond these maps, where they are those of the visible part alone."""

    step: Step | None
    output: Tensor
    gradient: Tensor
    constant: Tensor | None = None
    beyond: tuple[int, ...] = (0, 0, 0, 0)

    def placed(self, maps: Tensor) -> Tensor:
        """Maps (B, r, c) of what is there of the layer, on all of it (B, h, w); 0 beyond."""
        return pad(maps, self.beyond) if any(self.beyond) else maps


def taken(
    graph: BlindGraph, images: Tensor, explained: Callable[[Tensor], Tensor], chosen: Sequence[int], with_images: bool
) -> tuple[Traced, ...]:
    """The layers of these numbers in `graph.steps`, in forward order; the images before them if with_images."""
    steps = [graph.steps[number] for number in chosen]
    values, slopes = _with_slopes(graph.tracer(tuple(chosen), with_images), images, explained, with_images)
    own = len(values) - sum(len(step.nodes) for step in steps)
    layers = [Traced(None, images, slope) for slope in slopes[:own]]
    return (*layers, *_layers(graph, steps, values[own:], slopes[own:]))


def taken_of_visible(
    graph: BlindGraph, line: Line, images: Tensor, explained: Callable[[Tensor], Tensor]
) -> tuple[Traced, ...]:
    """The last layer of each resolution of the visible part of images, where the features are a line: beyond it every slope is 0."""
    steps = [graph.steps[number] for number in graph.last_steps]
    values, slopes = _with_slopes(graph.visible_tracer, images[(..., *graph.visible)], explained, False)
    layers = _layers(graph, steps, values, slopes)
    return tuple(
        layer._replace(beyond=_beyond(line, step, value))
        for layer, step, value in zip(layers, steps, values, strict=True)
    )


def _beyond(line: Line, step: Step, value: Tensor) -> tuple[int, ...]:
    (above, left), (rows, columns) = line.starts_at(step.nodes[0]), step.form.grid
    return left, columns - left - value.shape[3], above, rows - above - value.shape[2]


def _with_slopes(
    ways: tuple[Values | None, Values], images: Tensor, explained: Callable[[Tensor], Tensor], with_images: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Values of a tracer, those of the images first if with_images, and d score / d each."""
    begin, finish = ways
    with torch.no_grad():
        starts = begin(images) if begin else ()
    with torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in starts or (images,)]
        *values, logits = finish(*([images] if starts else []), *leaves)
        asked = [*(leaves if starts or with_images else []), *values]
        slopes = torch.autograd.grad(explained(logits).sum(), asked, allow_unused=True)
    filled = [torch.zeros_like(v) if g is None else g for v, g in zip(asked, slopes, strict=True)]
    return [value.detach() for value in asked], filled


def _layers(graph: BlindGraph, steps: list[Step], values: list[Tensor], slopes: list[Tensor]) -> list[Traced]:
    found, place = [], 0
    for step in steps:
        span = slice(place, place := place + len(step.nodes))
        output, gradient = (stages.joined(step, graph.walled, part[span]) for part in (values, slopes))
        found.append(Traced(step, output, gradient, stages.constant_of(graph.run, step)))
    return found

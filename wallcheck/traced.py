"""Layers on the way to the target layer: their outputs and the score's slopes in them, by one forward and one backward.

Autograd starts where the first layer asked for is made, if everything goes through that: what lies before is never gone back
through. The slope in the image itself is asked for by name.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wallcheck.graph import BlindGraph, stages
from wallcheck.graph.stages import Step


class Traced(NamedTuple):
    """One layer on the way to the target layer (step None is the image itself): output and d score / d output, as maps
    (B, K, h, w), and the constants (K,) that it adds whatever it is given, None for a layer that adds none."""

    step: Step | None
    output: Tensor
    gradient: Tensor
    constant: Tensor | None = None


def taken(
    graph: BlindGraph, images: Tensor, explained: Callable[[Tensor], Tensor], chosen: Sequence[int], with_images: bool
) -> tuple[Traced, ...]:
    """The layers of these numbers in `graph.steps`, in forward order; the images before them if with_images."""
    steps = [graph.steps[number] for number in chosen]
    begin, finish = graph.tracer(tuple(chosen), with_images)
    with torch.no_grad():
        starts = begin(images) if begin else ()
    with torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in starts or (images,)]
        *values, logits = finish(*([images] if starts else []), *leaves)
        asked = [*(leaves if starts or with_images else []), *values]
        slopes = torch.autograd.grad(explained(logits).sum(), asked, allow_unused=True)
    filled = [torch.zeros_like(v) if g is None else g for v, g in zip(asked, slopes, strict=True)]
    values = [value.detach() for value in asked]
    own = 0 if starts else int(with_images)
    layers = [Traced(None, images, slope) for slope in filled[:own]]
    return (*layers, *_layers(graph, steps, values[own:], filled[own:]))


def _layers(graph: BlindGraph, steps: list[Step], values: list[Tensor], slopes: list[Tensor]) -> list[Traced]:
    found, place = [], 0
    for step in steps:
        span = slice(place, place := place + len(step.nodes))
        output, gradient = (stages.joined(step, graph.walled, part[span]) for part in (values, slopes))
        found.append(Traced(step, output, gradient, stages.constant_of(graph.run, step)))
    return found

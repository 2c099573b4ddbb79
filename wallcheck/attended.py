"""What a transformer's blocks hold for some images: attention probabilities, queries, keys, values, tokens, and the score's slopes.

A = softmax(q k' / sqrt d | -inf across the wall),  o = A v,  G = d score / d A        one forward, one backward
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from wallcheck.graph import BlindGraph
from wallcheck.graph.following import Rule, followed, plain

SLOPES = ("probabilities", "outputs", "values", "entered", "left")


class Attended(NamedTuple):
    """One block, for B images, T tokens (prefix tokens first), C channels, each head of d channels.

    queries, keys, values, outputs (B, heads, T, d); scores (before the mask, scaled) and probabilities (B, heads, T, T), rows are
    queries; entered, left (B, T, C): tokens before and after the block; between: after its attention; projection (C, heads d).
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    scores: Tensor
    probabilities: Tensor
    outputs: Tensor
    entered: Tensor
    between: Tensor
    left: Tensor
    projection: Tensor


class Slopes(NamedTuple):
    """d score / d of one block's values, shaped as they are; `probabilities` is G."""

    probabilities: Tensor
    outputs: Tensor
    values: Tensor
    entered: Tensor
    left: Tensor


class Attention(NamedTuple):
    """Blocks in forward order and the score's slopes in them; `read` (T,) is what share of the logits' reading each token of the
    last block has: 1 for a class token, 1 / n each for n tokens that the head pools."""

    blocks: tuple[Attended, ...]
    slopes: tuple[Slopes, ...]
    read: Tensor


def alive(graph: BlindGraph, images: Tensor, rule: Rule = plain) -> tuple[list[Attended], Tensor]:
    """The blocks of these images, and their logits, as values that can be differentiated. rule: how operations hand on what
    they are given, see `wallcheck.graph.following`."""
    written = graph.attending
    wanted = [getattr(block, name) for block in written.blocks for name in Attended._fields[:-1]]
    logits, found = followed(written.run, rule, images, wanted)
    width = len(Attended._fields) - 1
    return [
        Attended._make([*found[i * width : (i + 1) * width], block.projection])
        for i, block in enumerate(written.blocks)
    ], logits


def taken(graph: BlindGraph, images: Tensor, explained: Callable[[Tensor], Tensor]) -> Attention:
    """Attention and the slopes of explained(logits) in it."""
    with torch.enable_grad():
        blocks, logits = alive(graph, images.detach().requires_grad_())
        asked = [getattr(block, name) for block in blocks for name in SLOPES]
        given = torch.autograd.grad(explained(logits).sum(), asked, allow_unused=True)
    filled = [torch.zeros_like(value) if slope is None else slope for value, slope in zip(asked, given, strict=True)]
    width = len(SLOPES)
    slopes = tuple(Slopes(*filled[i * width : (i + 1) * width]) for i in range(len(blocks)))
    return Attention(
        tuple(Attended(*(v.detach() for v in block)) for block in blocks), slopes, graph.attending.read.to(images)
    )


def portion(graph: BlindGraph) -> int:
    """Numbers that the blocks of one image hold; `Evidence.chunk` counts three times as many, for slopes and what autograd keeps."""
    sizes = [getattr(block, name).meta["val"][0] for block in graph.attending.blocks for name in Attended._fields[:-1]]
    return sum(value.numel() for value in sizes)

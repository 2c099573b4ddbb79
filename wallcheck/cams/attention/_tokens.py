"""What methods of attention share: how they are registered, and how a matrix over tokens becomes a map of cells."""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from wallcheck.cams._method import Method, cam_method
from wallcheck.evidence import Evidence
from wallcheck.models import BlindNet


def inattentive(net: BlindNet) -> str | None:
    """For Method.refuses: why attention cannot be taken off this net's graph."""
    return net.graph.inattentive


def attention_method(
    *,
    source: str,
    cost: str,
    verdict: str,
    family: str = "attention",
    refuses: Callable[[BlindNet], str | None] = inattentive,
    **options,
) -> Callable[..., Method]:
    """Register a body Evidence -> map (B, h, w) as a method of attention: it is asked for as many images at a time as the
    budget allows attention for, and not at all of networks without."""

    def register(body: Callable[[Evidence], Tensor]) -> Method:
        @wraps(body)
        def whole(ev: Evidence) -> Tensor:
            return ev.in_portions(body)

        made = cam_method(family=family, source=source, cost=cost, verdict=verdict, refuses=refuses, **options)
        return made(whole)

    return register


def on_cells(ev: Evidence, of_tokens: Tensor) -> Tensor:
    """(B, h, w) of one number per token (B, T): prefix tokens are left out."""
    return of_tokens[:, ev.graph.form.prefix :].unflatten(1, ev.graph.form.grid)


def as_read(ev: Evidence, relevance: Tensor) -> Tensor:
    """(..., T): of a matrix over queries and keys (..., T, T) the row of the class token; where the head pools tokens, the mean
    of the rows of those it pools. Of tokens (..., T, d) their mean alike."""
    return (ev.attention.read[:, None] * relevance).sum(-2)


def identity(ev: Evidence) -> Tensor:
    """(T, T): each token is itself."""
    return torch.eye(len(ev.attention.read)).to(ev.images)


def blocks(ev: Evidence) -> zip:
    """Pairs (values, slopes) of each block, in forward order."""
    return zip(ev.attention.blocks, ev.attention.slopes, strict=True)


def merged(heads: Tensor) -> Tensor:
    """(B, T, heads d) of values per head (B, heads, T, d)."""
    return heads.transpose(1, 2).flatten(2)

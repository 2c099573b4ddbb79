"""Rules of `wallcheck.graph.rules` through the head: Rescale (DeepLIFT), LRP-0 and z+.

Contributions are A times the slope that a rule gives, and 0 at unseen cells exactly as the gradient is.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wallcheck.evidence import Evidence
from wallcheck.graph import following, rules
from wallcheck.graph.following import AFFINE, MAXIMUM, POINTWISE, POOLS, SHAPE, Rule, lacking
from wallcheck.graph.rules import rescale
from wallcheck.models import BlindNet


def deeplift(ev: Evidence) -> Tensor:
    """C (B, K, h, w): DeepLIFT contributions of A to the logit, Rescale rule, reference A = 0.

    Complete: sum C = y(A) - y(0). The reference runs through the head as one more row of the batch.
    """
    return ev.activations * slope(ev, rescale, with_reference=True)


def slope(ev: Evidence, rule: Rule, with_reference: bool = False) -> Tensor:
    """(B, K, h, w): gradient of the score explained when each operation of the head hands it on by `rule`.

    with_reference: an empty map goes along as the last row.
    """
    with ev.plainly(), torch.enable_grad():
        leaf = ev.activations.detach().requires_grad_()
        rows = ev.handed(leaf)
        if with_reference:
            rows = torch.cat([rows, torch.zeros_like(rows[:1])])
        rows = following.through(ev.graph.finish, rule, rows)
        (gradient,) = torch.autograd.grad(ev.explained(rows[: len(leaf)]).sum(), leaf)
    return gradient


def zplus(ev: Evidence, start: Tensor) -> Tensor:
    """R, shaped as what the head is handed: relevance start (B, D) handed back through it by the z+ rule."""
    handed = ev.handed(ev.activations)
    return rules.zplus(ev.graph.finish, handed, start, ev.chunk(handed[0].numel(), ev.near_mb))


def heads_of(*kinds: str) -> Callable[[BlindNet], str | None]:
    """For Method.refuses: why shares cannot be handed back through this net's head, if it holds operations of other kinds."""

    def refuses(net: BlindNet) -> str | None:
        if net.graph.has_beside:
            return "its class token runs beside the cells, and shares of the two have no agreed rule; use a method of gradients"
        return lacking(net.graph.finish, kinds)

    return refuses


__all__ = ["AFFINE", "MAXIMUM", "POINTWISE", "POOLS", "SHAPE", "deeplift", "heads_of", "slope", "zplus"]

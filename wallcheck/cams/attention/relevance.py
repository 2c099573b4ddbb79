"""Relevance handed back through the whole transformer, operation by operation (`wallcheck.graph.relevance`).

A value that leads nowhere is handed nothing: relevance is exactly 0 on what the head cannot see.
"""

import torch
from torch import Tensor

from wallcheck.attended import alive
from wallcheck.cams.attention._tokens import as_read, attention_method, blocks, identity, inattentive, on_cells
from wallcheck.evidence import Evidence
from wallcheck.graph import relevance as rules
from wallcheck.graph.following import Rule, lacking, through
from wallcheck.models import BlindNet


def unhanded(net: BlindNet) -> str | None:
    """For Method.refuses: why relevance cannot be handed back through this net."""
    return inattentive(net) or lacking(net.graph.attending.run, rules.HANDED)


@attention_method(
    source="Chefer et al. 2021a, eq. 13-15, LRP alpha = 1, as released", cost="1F+2B", verdict="zero", refuses=unhanded
)
def transformer_attribution(ev: Evidence) -> Tensor:
    """R = I; from the first block on R <- R + mean_h relu(G_h * R_A,h) R, R_A what LRP hands back to A; the class token's row.

    Relevance starts as 1 at the class. Rows are not normalised (the paper's rollout normalises, the release does not).
    Computed in double precision: relevance is divided by sums that cancel. The authors' code in double precision gives the same
    (2e-5 of the peak at most, small ViTs); in single precision it is 1e-3 off itself."""
    relevance = identity(ev)
    for (_, slope), handed in zip(blocks(ev), handed_to_attention(ev), strict=True):
        mixing = (slope.probabilities * handed).clamp(min=0).mean(1)
        relevance = relevance + mixing @ relevance
    return on_cells(ev, as_read(ev, relevance))


def handed_to_attention(ev: Evidence) -> list[Tensor]:
    """R_A (B, heads, T, T) of each block."""
    with torch.enable_grad():
        found, logits = alive(
            ev.graph.double(), ev.images.detach().double().requires_grad_(), rules.transformer_attribution
        )
        leaf = logits.detach().requires_grad_()
        (start,) = torch.autograd.grad(ev.explained_here(leaf).sum(), leaf)
        handed = torch.autograd.grad(logits, [block.probabilities for block in found], start)
    return [each.to(ev.images) for each in handed]


@attention_method(
    source="Achtibat et al. 2024 (AttnLRP), as input x gradient; linear layers by epsilon -> 0, no gamma",
    cost="1F+1B",
    verdict="zero",
    grid="pixels",
)
def attnlrp(ev: Evidence) -> Tensor:
    """sum over colours of x d y / d x with a LayerNorm's deviation constant, GELU's slope f(x) / x, and half of the gradient at
    either side of A v and q k'. The authors' own maps of ViTs add gamma to linear layers, which is another setting."""
    return by_input(ev, rules.attnlrp)


@attention_method(
    source="Ali et al. 2022 (CP-LRP), as input x gradient; linear layers by epsilon -> 0",
    cost="1F+1B",
    verdict="zero",
    grid="pixels",
)
def cplrp(ev: Evidence) -> Tensor:
    """sum over colours of x d y / d x with attention and a LayerNorm's deviation constant, GELU's slope f(x) / x."""
    return by_input(ev, rules.cplrp)


def by_input(ev: Evidence, rule: Rule) -> Tensor:
    """(B, H, W): sum over colours of the images times their slope by the rule."""
    with torch.enable_grad():
        leaf = ev.images.detach().requires_grad_()
        logits = through(ev.graph.attending.run, rule, leaf)
        (slope,) = torch.autograd.grad(ev.explained_here(logits).sum(), leaf)
    return (ev.images * slope).sum(1)

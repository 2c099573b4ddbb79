"""Attention weighed by its gradient, block by block.

G = d score / d A is not 0 from seen queries to unseen keys: if the wall let them attend, the score would move. A times G is 0
there; G alone is not. A last ReLU of a formula is left to the view, as everywhere.
"""

import torch
from torch import Tensor

from wallcheck.attended import alive
from wallcheck.cams.attention._tokens import as_read, attention_method, blocks, identity, on_cells
from wallcheck.evidence import Evidence
from wallcheck.graph.following import Rule, Step


@attention_method(source="Chefer et al. 2021b, eq. 5-6, self-attention", cost="1F+1B", verdict="zero")
def generic_attention(ev: Evidence) -> Tensor:
    """R = I; from the first block on R <- R + mean_h relu(G_h * A_h) R; the row of the class token. On a head that pools n tokens
    I adds 1 / n to each. Equal to the authors' code to rounding (1e-7 of the peak, small ViTs)."""
    relevance = identity(ev)
    for block, slope in blocks(ev):
        mixing = (slope.probabilities * block.probabilities).clamp(min=0).mean(1)
        relevance = relevance + mixing @ relevance
    return on_cells(ev, as_read(ev, relevance))


@attention_method(
    source="Grad-CAM on the last block's attention, a baseline of Chefer et al. 2021a, as in their code",
    cost="1F+1B",
    verdict="zero",
)
def attention_gradcam(ev: Evidence) -> Tensor:
    """mean_h w_h A_h of the last block in the row of the class token, w_h = mean of G_h over patch keys in that row.

    w_h is a mean over unseen keys too, and G is not 0 there: the weight hears them, the map is 0 on them. Weights may all be
    negative, and the map empty once rectified: on 7 of 8 images of small ViTs, where the authors' code divides 0 by 0."""
    block, slope = ev.attention.blocks[-1], ev.attention.slopes[-1]
    weights = as_read(ev, slope.probabilities)[:, :, ev.graph.form.prefix :].mean(2, keepdim=True)
    return on_cells(ev, (weights * as_read(ev, block.probabilities)).mean(1))


@attention_method(
    source="Barkan et al. 2021 (Grad-SAM), mean over queries: what each token is attended to for",
    cost="1F+1B",
    verdict="zero",
)
def gradsam(ev: Evidence) -> Tensor:
    """Mean over blocks, heads and queries of A * relu(G)."""
    found = [(block.probabilities * slope.probabilities.clamp(min=0)).mean((1, 2)) for block, slope in blocks(ev)]
    return on_cells(ev, torch.stack(found).mean(0))


# -- Attention Guided CAM -------------------------------------------------------------------------


@attention_method(
    source="Leem and Seo 2024 (AGCAM), as released: scores as they come from queries and keys",
    cost="1F+1B",
    verdict="may_leak",
)
def agcam(ev: Evidence) -> Tensor:
    """Sum over heads and blocks of sigmoid(q k' s) * relu(G) in the row of the class token, tokens handed to each attention
    taken as constant. A wall masks scores after they are made, so an unseen key has a score like any other, and G is not 0. Equal to
    the authors' code to rounding (6e-8 of the peak, small ViTs)."""
    return guided(ev, lambda block: block.scores.sigmoid())


@attention_method(
    source="Leem and Seo 2024 (AGCAM), scores read after the mask that softmax is given",
    cost="1F+1B",
    verdict="zero",
)
def agcam_masked(ev: Evidence) -> Tensor:
    """`agcam` with masked scores: sigmoid(-inf) = 0 from seen queries to unseen keys. Equal to it where nothing is masked."""
    return guided(ev, lambda block: block.scores.sigmoid() * (block.probabilities != 0))


@attention_method(
    source="Leem and Seo 2024 (AGCAM), sigmoid of probabilities instead of scores",
    cost="1F+1B",
    verdict="may_leak",
)
def agcam_probabilities(ev: Evidence) -> Tensor:
    """`agcam` with sigmoid(A), which is 1/2 where A is 0: unseen keys keep half of relu(G)."""
    return guided(ev, lambda block: block.probabilities.sigmoid())


def guided(ev: Evidence, features) -> Tensor:
    """(B, h, w): sum over blocks and heads of features(block) * relu(G), G by way of residual connections and MLPs alone."""
    with torch.enable_grad():
        found, logits = alive(ev.graph, ev.images.detach(), held_apart(ev))
        slopes = torch.autograd.grad(ev.explained_here(logits).sum(), [block.probabilities for block in found])
    total = sum(
        as_read(ev, slope.clamp(min=0) * features(block)).sum(1) for block, slope in zip(found, slopes, strict=True)
    )
    return on_cells(ev, total)


def held_apart(ev: Evidence) -> Rule:
    """Every operation as it is, but each attention's probabilities start anew and its values are constant."""
    written = ev.graph.attending.blocks
    started, constant = {block.probabilities for block in written}, {block.values for block in written}

    def rule(step: Step, *rows: Tensor) -> Tensor:
        out = step.apply(*rows)
        if step.node in started:
            return out.detach().requires_grad_()
        return out.detach() if step.node in constant else out

    return rule

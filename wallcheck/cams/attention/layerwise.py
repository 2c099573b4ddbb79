"""LeGrad: each block's tokens are scored by the head at once, and the score's gradient in the block's attention is the map.

    s_l = head(tokens of block l),   E_l = mean over heads and queries of relu(d s_l / d A_l),   map = mean_l E_l

G alone: an unseen key that no query attends to still has a gradient, so LeGrad sees through the wall.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wallcheck.attended import Attended, alive
from wallcheck.cams.attention._tokens import attention_method, on_cells
from wallcheck.evidence import Evidence

Tokens = Callable[[Tensor], Tensor]  # tokens of a block (B, T, C) -> tokens that the head is given


@attention_method(
    source="LeGrad (Bousselham et al. 2024), score of the mean of all tokens, as released and in torchcam 0.5.0; all blocks",
    cost="1F+1B",
    verdict="may_leak",
)
def legrad(ev: Evidence) -> Tensor:
    """s_l = head(LN(mean of all tokens of block l)), class token and unseen tokens among them. torchcam's is equal to rounding
    (6e-6 of the peak). The release scores by the cosine with a text instead of a logit: with the class's weights as that text
    maps stretched to [0, 1] differ by 0.02 to 0.45 (small ViTs)."""
    return layerwise(ev, lambda tokens: tokens.mean(1, keepdim=True).expand_as(tokens))


@attention_method(
    source="LeGrad (Bousselham et al. 2024), score of the token that the head reads",
    cost="1F+1B",
    verdict="may_leak",
)
def legrad_class(ev: Evidence) -> Tensor:
    """s_l = head(tokens of block l) as the network reads them: the class token, or the mean of the tokens that it pools. The
    score hears no unseen token, the gradient does."""
    return layerwise(ev, lambda tokens: tokens)


@attention_method(
    family="repair",
    repairs="legrad",
    source="wallcheck: LeGrad of the token that the head reads, times A",
    cost="1F+1B",
    verdict="zero",
)
def legrad_times_attention(ev: Evidence) -> Tensor:
    """Mean over blocks, heads and queries of A * relu(G), G = d s_l / d A_l, s_l as the head reads tokens.

    A is 0 from seen queries to unseen keys, and unseen queries do not reach s_l, so both factors are needed: with the mean of
    all tokens in place of s_l unseen queries are heard, and the product leaks as well."""
    return layerwise(ev, lambda tokens: tokens, lambda block: block.probabilities)


def layerwise(ev: Evidence, shown: Tokens, times: Callable[[Attended], Tensor] | None = None) -> Tensor:
    """(B, h, w): mean over blocks, heads and queries of relu(d s_l / d A_l), or of its product with times(block)."""
    with torch.enable_grad():
        found, logits = alive(ev.graph, ev.images.detach().requires_grad_())
        ev.explained_here(logits)  # which class, where none was given
        maps = []
        for block in found:
            score = ev.explained(ev.graph.attending.reading(shown(block.left)))
            (slope,) = torch.autograd.grad(score.sum(), block.probabilities, retain_graph=True)
            positive = slope.clamp(min=0) * (1 if times is None else times(block).detach())
            maps.append(positive.mean((1, 2)))
    return on_cells(ev, torch.stack(maps).mean(0))

"""Attention multiplied through the blocks: what of each token arrives at the token that the head reads.

    R = B_L ... B_1,   B_l = rows of (M_l + I), each divided by its sum

The product of matrices that are 0 from seen queries to unseen keys is 0 there too, whatever stands between.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from wallcheck.cams.attention._tokens import as_read, attention_method, blocks, identity, on_cells
from wallcheck.evidence import Evidence
from wallcheck.numerics import ratio

DISCARDED = 0.9  # share of entries that gradient rollout drops, the default of its code


def with_skip(mixing: Tensor) -> Tensor:
    """(M + I) with rows that add up to 1: attention and the residual connection, half each where M's rows do."""
    added = mixing + torch.eye(mixing.shape[-1]).to(mixing)
    return added / added.sum(-1, keepdim=True)


def rolled(ev: Evidence, mixing: Iterable[Tensor]) -> Tensor:
    """(B, h, w): the product of matrices (B, T, T), the last one leftmost, in the row of the class token."""
    product = identity(ev)
    for each in mixing:
        product = each @ product
    return on_cells(ev, as_read(ev, product))


@attention_method(source="last block's attention, mean over heads; no paper", cost="1F", verdict="zero")
def raw_attention(ev: Evidence) -> Tensor:
    """mean_h A_h of the last block, in the row of the class token (tokens that the head pools: their mean)."""
    return on_cells(ev, as_read(ev, ev.attention.blocks[-1].probabilities.mean(1)))


# -- attention rollout ----------------------------------------------------------------------------


def rollout_by(fused: Callable[[Tensor], Tensor]) -> Callable[[Evidence], Tensor]:
    """Rollout of fused(A (B, heads, T, T)) -> (B, T, T)."""

    def whole(ev: Evidence) -> Tensor:
        """(M_L + I) ... (M_1 + I), rows of each divided by their sum, M_l the heads of block l fused; the row of the class
        token. Asks for no class, and is 0 on unseen tokens because every M_l is 0 from seen queries to them.

        Chefer et al.'s rollout is equal; vit-explain's divides columns instead of rows, which a mean of heads does not feel
        (3e-7 of the peak, maximum and minimum up to 0.2), and by default drops the lowest 90 % of M_l (up to 0.92)."""
        return rolled(ev, [with_skip(fused(block.probabilities)) for block in ev.attention.blocks])

    return whole


ROLLOUT: dict[str, Any] = dict(cost="1F", verdict="zero")
attention_method(**ROLLOUT, name="rollout", source="Abnar and Zuidema 2020, eq. 1; heads by their mean")(
    rollout_by(lambda heads: heads.mean(1))
)
for name, fused in (("max", lambda heads: heads.amax(1)), ("min", lambda heads: heads.amin(1))):
    attention_method(
        **ROLLOUT,
        name=f"rollout_{name}",
        source=f"Abnar and Zuidema 2020; heads by their {name}imum, as in vit-explain",
    )(rollout_by(fused))


# -- heads weighed by gradients -------------------------------------------------------------------


@attention_method(
    source="no paper; as vit-explain (Gildenblat) describes it: rectified mean of A G, lowest 90 % dropped, rows summing to 1",
    cost="1F+1B",
    verdict="zero",
)
def gradient_rollout(ev: Evidence) -> Tensor:
    """Rollout of M_l = relu(mean_h A_h * G_h) with the lowest 90 % of its entries at 0."""
    return rolled(ev, [with_skip(strongest(b.probabilities, s.probabilities)) for b, s in blocks(ev)])


@attention_method(
    source="vit-explain (Gildenblat), as released: gradients of scores, in backward order; columns divided by row sums",
    cost="1F+1B",
    verdict="zero",
)
def gradient_rollout_authors(ev: Evidence) -> Tensor:
    """As `gradient_rollout` with three slips of its code. Its hook sits on a dropout, which in eval mode hands softmax's output on,
    so the gradient is that of the scores, A * (G - sum_k A G); it collects the last block's first, so that A_l meets block
    L + 1 - l; and (M + I) / 2 is divided by its row sums along the other axis, entry (i, j) by the sum of row j. None of
    them moves a zero of A. Equal to the code run beside it (2e-7 of the peak); 0.13 to 0.61 from what is described."""
    slopes = [of_scores(block.probabilities, slope.probabilities) for block, slope in blocks(ev)]
    found = []
    for block, slope in zip(ev.attention.blocks, reversed(slopes), strict=True):
        added = (strongest(block.probabilities, slope) + identity(ev)) / 2
        found.append(added / added.sum(-1)[:, None, :])
    return rolled(ev, found)


def of_scores(probabilities: Tensor, slope: Tensor) -> Tensor:
    """d y / d scores of G = d y / d softmax(scores)."""
    return probabilities * (slope - (probabilities * slope).sum(-1, keepdim=True))


def strongest(probabilities: Tensor, slope: Tensor) -> Tensor:
    """relu(mean_h A_h * G_h) (B, T, T) with its lowest 90 % at 0."""
    fused = (probabilities * slope).mean(1).clamp(min=0)
    dropped = int(DISCARDED * fused[0].numel())
    if not dropped:
        return fused
    highest = fused.flatten(1).kthvalue(dropped, 1).values
    return torch.where(fused > highest[:, None, None], fused, 0.0)


def gmar(order: int) -> Callable[[Evidence], Tensor]:
    """GMAR with the norm of that order."""

    def whole(ev: Evidence) -> Tensor:
        """Rollout of M_l = sum_h w_h A_h, w_h = |G_h| / sum_h' |G_h'|, a norm over all queries and keys. The weights hear
        what unseen tokens would do, the map is 0 there."""
        found = []
        for block, slope in blocks(ev):
            norms = torch.linalg.vector_norm(slope.probabilities, order, (2, 3))
            weights = ratio(norms, norms.sum(1, keepdim=True))
            found.append(with_skip((weights[:, :, None, None] * block.probabilities).sum(1)))
        return rolled(ev, found)

    return whole


for order in (1, 2):
    attention_method(
        name=f"gmar_l{order}",
        source=f"GMAR 2025 (arXiv 2504.19414), heads weighed by their gradients' L{order} norm",
        cost="1F+1B",
        verdict="zero",
    )(gmar(order))

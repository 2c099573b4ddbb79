"""Attention carried through the blocks, times a factor of the class: the last block's gradient along a path from black.

    F = mean_h relu(mean over 20 steps of G_L(alpha x)),  alpha = 0, 1/19, ..., 1

F is not 0 at unseen keys; what it multiplies is. F may be 0 at every token of an image, and the map empty. From the first block
on, as here, the authors' code of both papers gives the same to rounding (1e-7 of the peak, small ViTs).
"""

from torch import Tensor

from wallcheck.cams.attention._tokens import as_read, attention_method, blocks, identity, merged, on_cells
from wallcheck.evidence import Evidence
from wallcheck.numerics import ratio

STEPS = 20
COST = f"{STEPS + 1}(F+B)"


def class_factor(ev: Evidence) -> Tensor:
    """F (B, T, T). Steps as the authors of TAM and BT take them, both ends included."""
    path = [step / (STEPS - 1) * ev.images for step in range(STEPS)]
    total = sum(ev.at(images).attention.slopes[-1].probabilities for images in path)
    return (total / STEPS).clamp(min=0).mean(1)


@attention_method(
    source="Chen et al. 2023 (BT, head-wise), all blocks; the release starts at the fourth of twelve",
    cost=COST,
    verdict="zero",
)
def bt_head(ev: Evidence) -> Tensor:
    """R = I; R <- R + (sum_h I_h A_h) R, I_h = mean |A_h' G_h| over all pairs of tokens, summing to 1 over heads; then R * F in
    the row of the class token. I_h hears G at unseen keys; R is 0 there."""
    carried = identity(ev)
    for block, slope in blocks(ev):
        weights = (block.probabilities.transpose(-1, -2) @ slope.probabilities).abs().mean((2, 3))
        weights = ratio(weights, weights.sum(1, keepdim=True))
        carried = carried + (weights[:, :, None, None] * block.probabilities).sum(1) @ carried
    return on_cells(ev, as_read(ev, carried * ev.once(class_factor)))


@attention_method(
    source="Chen et al. 2023 (BT, token-wise), all blocks; the release starts at the fourth of twelve",
    cost=COST,
    verdict="zero",
)
def bt_token(ev: Evidence) -> Tensor:
    """R = I; R <- R + mean_h A_h diag(|W_o v_i| / |z_i|) R, v_i the values of all heads, z_i the token that the block is handed;
    then R * F in the row of the class token."""
    carried = identity(ev)
    for block in ev.attention.blocks:
        longer = ratio((merged(block.values) @ block.projection.T).norm(dim=-1), block.entered.norm(dim=-1))
        carried = carried + (block.probabilities.mean(1) * longer[:, None]) @ carried
    return on_cells(ev, as_read(ev, carried * ev.once(class_factor)))


@attention_method(
    source="Yuan et al. 2021 (TAM), all blocks; the release starts at the fifth of twelve", cost=COST, verdict="zero"
)
def tam(ev: Evidence) -> Tensor:
    """s = the class token's row of the last block's mean_h A_h; s <- s mean_h A_h + s from the last but one block down to the
    first, as a Markov chain; then s times the class token's row of F."""
    *earlier, last = [block.probabilities.mean(1) for block in ev.attention.blocks]
    state = as_read(ev, last)
    for mixing in reversed(earlier):
        state = state + (state[:, None] @ mixing)[:, 0]
    return on_cells(ev, state * as_read(ev, ev.once(class_factor)))

"""Tokens and values, weighed by attention and gradients.

A token's own gradient is 0 behind the wall, and so is A. One number per channel laid on all values is neither.
"""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from wallcheck.cams.attention._tokens import as_read, attention_method, blocks, merged, on_cells
from wallcheck.evidence import Evidence
from wallcheck.numerics import ratio


@attention_method(
    source="Qiang et al. 2022 (AttCAT), tokens that each block is handed, as released", cost="1F+1B", verdict="zero"
)
def attcat(ev: Evidence) -> Tensor:
    """sum_l (h_i . d y / d h_i) a_i, h_i the tokens handed to block l, a_i the mean over heads and queries of A_l. Signed; 0 on
    unseen tokens because no path leads from them to the score."""
    found = [(block.entered * slope.entered).sum(2) * block.probabilities.mean((1, 2)) for block, slope in blocks(ev)]
    return on_cells(ev, torch.stack(found).sum(0))


@attention_method(
    source="Wu et al. 2024 (TokenTM), from the paper's formulas; no code could be read", cost="1F+1B", verdict="zero"
)
def tokentm(ev: Evidence) -> Tensor:
    """C = diag |e_i|, e the embedded tokens; C <- (I + W_m)(I + mean_h relu(G_h) * (A_h W_a)) C; the class token's row.

    W_a, W_m are diagonal: how the values' projection, and the MLP, change a token, |e~_i| / |e_i| times
    T exp(cos(e~_i, e_i)) / sum_k exp(cos(e~_k, e_k)). G meets A head by head, as in Chefer et al. 2021b."""
    contribution = torch.diag_embed(ev.attention.blocks[0].entered.norm(dim=-1))
    for block, slope in blocks(ev):
        moved = merged(block.values) @ block.projection.T
        mixing = (slope.probabilities.clamp(min=0) * block.probabilities).mean(1) * transformed(block.entered, moved)[
            :, None
        ]
        contribution = contribution + mixing @ contribution
        contribution = (1 + transformed(block.between, block.left - block.between))[:, :, None] * contribution
    return on_cells(ev, as_read(ev, contribution))


def transformed(before: Tensor, after: Tensor) -> Tensor:
    """(B, T): length after over length before, times the share of exp cosine, 1 where all tokens turn alike."""
    turned = cosine_similarity(before, after, dim=2).softmax(1) * before.shape[1]
    return ratio(after.norm(dim=2), before.norm(dim=2)) * turned


# -- Grad-ECLIP -----------------------------------------------------------------------------------


@attention_method(
    source="Zhao et al. 2024 (Grad-ECLIP), last block, all heads' channels together; the heads are the network's own, where "
    "the release runs the last attention as one head",
    cost="1F+1B",
    verdict="may_leak",
)
def gradeclip(ev: Evidence) -> Tensor:
    """sum_c w_c v_ic s_i over channels c of all heads: w the gradient at the class token of the attention's output, before its
    projection; s_i = cos(q_class, k_i), stretched to [0, 1] over patches. Unseen values are weighed like any other."""
    block, slope = ev.attention.blocks[-1], ev.attention.slopes[-1]
    weights = as_read(ev, merged(slope.outputs))[:, None]
    query, keys = as_read(ev, merged(block.queries))[:, None], merged(block.keys)
    alike = on_cells(ev, cosine_similarity(query, keys, dim=2))
    low, high = alike.amin((1, 2), keepdim=True), alike.amax((1, 2), keepdim=True)
    return on_cells(ev, (weights * merged(block.values)).sum(2)) * ratio(alike - low, high - low)


@attention_method(
    family="repair",
    repairs="gradeclip",
    source="wallcheck: Grad-ECLIP with the network's own attention in place of stretched cosines",
    cost="1F+1B",
    verdict="zero",
)
def gradeclip_softmaxed(ev: Evidence) -> Tensor:
    """sum_h A_h[class, i] sum_c w_hc v_hic: what token i adds to w . o of the class token, so that the map and the prefix
    tokens' share add up to w . o. A tokens' mean is read query by query."""
    block, slope = ev.attention.blocks[-1], ev.attention.slopes[-1]
    added = block.probabilities * (slope.outputs @ block.values.transpose(-1, -2))
    return on_cells(ev, as_read(ev, added).sum(1))

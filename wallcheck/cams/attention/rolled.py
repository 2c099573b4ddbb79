"""Attention multiplied through the blocks: what of each token arrives at the token that the head reads.

The product of matrices that are 0 from seen queries to unseen keys is 0 there too, whatever stands between.
"""

import torch
from torch import Tensor

from wallcheck.cams.attention._tokens import as_read, attention_method, on_cells
from wallcheck.evidence import Evidence


def with_skip(mixing: Tensor) -> Tensor:
    """(M + I) with rows that add up to 1: attention and the residual connection, half each where M's rows do."""
    added = mixing + torch.eye(mixing.shape[-1]).to(mixing)
    return added / added.sum(-1, keepdim=True)


@attention_method(source="last block's attention, mean over heads; no paper", cost="1F", verdict="zero")
def raw_attention(ev: Evidence) -> Tensor:
    """mean_h A_h of the last block, in the row of the class token (tokens that the head pools: their mean)."""
    return on_cells(ev, as_read(ev, ev.attention.blocks[-1].probabilities.mean(1)))


@attention_method(source="Abnar and Zuidema 2020, eq. 1; heads by their mean", cost="1F", verdict="zero")
def rollout(ev: Evidence) -> Tensor:
    """(A_L + I)/2 ... (A_1 + I)/2, A_l the mean over heads, in the row of the class token. Asks for no class."""
    rolled = torch.eye(ev.attention.read.numel()).to(ev.images)
    for block in ev.attention.blocks:
        rolled = with_skip(block.probabilities.mean(1)) @ rolled
    return on_cells(ev, as_read(ev, rolled))

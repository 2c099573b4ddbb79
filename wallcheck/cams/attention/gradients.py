"""Attention weighed by its gradient.

G = d score / d A is not 0 from seen queries to unseen keys: if the wall let them attend, the score would move. A times G is 0
there; G alone is not.
"""

import torch
from torch import Tensor

from wallcheck.cams.attention._tokens import as_read, attention_method, on_cells
from wallcheck.evidence import Evidence


@attention_method(source="Chefer et al. 2021b, eq. 5-6, self-attention", cost="1F+1B", verdict="zero")
def generic_attention(ev: Evidence) -> Tensor:
    """R = I; from the first block on R <- R + mean_h relu(G_h * A_h) R; the row of the class token."""
    relevance = torch.eye(ev.attention.read.numel()).to(ev.images)
    for block, slope in zip(ev.attention.blocks, ev.attention.slopes, strict=True):
        mixing = (slope.probabilities * block.probabilities).clamp(min=0).mean(1)
        relevance = relevance + mixing @ relevance
    return on_cells(ev, as_read(ev, relevance))

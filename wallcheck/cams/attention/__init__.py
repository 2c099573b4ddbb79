"""Maps of transformers: from attention, its gradient and the tokens between blocks. Defined on nets with attention over all tokens.

    A v ->             S attends to S, U to U: A[S, U] = 0, and d y / d token = 0 on U
    G = d y / d A      G[S, U] = <d y / d o_q, v_u> is not 0

A map multiplied by A, or by a token's own gradient, is 0 behind the wall for all weights; a map of G alone, or of values weighed
by one number per channel, may leak.
"""

from wallcheck.cams.attention import gradients, layerwise, masked, relevance, rolled, tokens, transitions

__all__ = ["gradients", "layerwise", "masked", "relevance", "rolled", "tokens", "transitions"]

"""Maps of transformers: from attention, its gradient and the tokens between blocks. Defined on nets with attention over all tokens."""

from wallcheck.cams.attention import gradients, rolled

__all__ = ["gradients", "rolled"]

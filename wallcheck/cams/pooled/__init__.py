"""Pooled gradient: the weight of a channel is its gradient averaged over positions, seen and unseen alike.

The average forgets where the gradient was, so every unseen cell inherits the weight of its channels."""

from wallcheck.cams.pooled import augmented, gradients, paths

__all__ = ["augmented", "gradients", "paths"]

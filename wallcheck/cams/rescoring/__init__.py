"""Rescoring: the weight of a channel is the score of the image seen through a mask made of its own map.

The weights are positive, so nothing cancels: wherever a channel is alive it lights up, seen or not."""

from wallcheck.cams.rescoring import blocks, clusters, groups, layers, learnt, scores

__all__ = ["blocks", "clusters", "groups", "layers", "learnt", "scores"]

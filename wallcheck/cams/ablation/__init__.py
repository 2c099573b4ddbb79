"""Ablation: the weight of a channel, or the value of a cell, is the head's answer to changed activations."""

from wallcheck.cams.ablation import attribution, bottleneck, channels, reciprocam

__all__ = ["attribution", "bottleneck", "channels", "reciprocam"]

"""Blind networks: how they are built, the presets, and how they are kept."""

from wallcheck.models._blind import BlindNet, layers_of
from wallcheck.models._chain import chain
from wallcheck.models._files import load, save
from wallcheck.models._head import Split, split_head
from wallcheck.models._lean import lean_cells, lean_features
from wallcheck.models._modes import in_mode
from wallcheck.models._vgg import PRESETS, assemble, untrained, vgg, vgg16_walls, vgg_small
from wallcheck.models._wrappers import unwrapped

__all__ = [
    "PRESETS",
    "BlindNet",
    "Split",
    "assemble",
    "chain",
    "in_mode",
    "layers_of",
    "lean_cells",
    "lean_features",
    "load",
    "save",
    "split_head",
    "untrained",
    "unwrapped",
    "vgg",
    "vgg16_walls",
    "vgg_small",
]

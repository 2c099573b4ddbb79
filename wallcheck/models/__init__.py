"""Blind networks: how they are built or made of any model, the presets, and how they are kept."""

from typing import Any

from wallcheck.models._blind import BlindNet, as_blind, tensor_of
from wallcheck.models._files import load, rebuilt, save
from wallcheck.models._modes import in_mode
from wallcheck.models._opening import is_name, opened, opened_with
from wallcheck.models._published import published
from wallcheck.models._untrained import untrained
from wallcheck.models._vgg import PRESETS, assemble, vgg, vgg16_walls, vgg_small
from wallcheck.models._vit_walls import vit_small_pooled, vit_small_walls
from wallcheck.models._walling import WalledModel, WhereToCut, blind, layers

__all__ = [
    "PRESETS",
    "SMALL",
    "BlindNet",
    "WalledModel",
    "WhereToCut",
    "as_blind",
    "assemble",
    "blind",
    "in_mode",
    "is_name",
    "layers",
    "load",
    "opened",
    "opened_with",
    "published",
    "rebuilt",
    "save",
    "tensor_of",
    "untrained",
    "vgg",
    "vgg16_walls",
    "vgg_small",
    "vit_small_pooled",
    "vit_small_walls",
]


def __getattr__(name: str) -> Any:
    """`SMALL` is looked up when it is asked for: its members are torchvision's, whose import takes longer than all of this."""
    if name == "SMALL":
        from wallcheck.models._families import SMALL

        return SMALL
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

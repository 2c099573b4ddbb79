"""Presets of transformers: blind by a wall in every attention, trained as the graph that they are."""

from wallcheck.geometry import Wall
from wallcheck.models._opening import opened_with
from wallcheck.models._vgg import PRESETS
from wallcheck.models._walling import WalledModel, blind

PATCH = 8


def _behind(wall: str, walled: bool, pooled: bool, seed: int, size: int, classes: int) -> WalledModel:
    options = {"num_classes": classes, "seed": seed, "image_size": size, "pooled": pooled}
    model = opened_with("wallcheck:vit_small", options)
    if walled and wall != "none":
        return blind(model, size, wall=wall, kind="trunk").trainable()
    return blind(model, size, wall=Wall.none((size // PATCH, size // PATCH))).trainable()


def vit_small_walls(
    num_classes: int = 10, walled: bool = True, seed: int = 0, image_size: int = 96, wall: str = "bottom:1/2"
) -> WalledModel:
    """96 px, patches of 8 px: 12 x 12 cells of 64 channels and a class token, three blocks of four heads. No token attends
    across the wall, so the lower half is unseen, to the pixel. walled=False differs in the wall alone."""
    return _behind(wall, walled, False, seed, image_size, num_classes)


def vit_small_pooled(
    num_classes: int = 10, walled: bool = True, seed: int = 0, image_size: int = 96, wall: str = "bottom:1/2"
) -> WalledModel:
    """vit_small_walls without a class token: its head reads the mean of the seen tokens."""
    return _behind(wall, walled, True, seed, image_size, num_classes)


PRESETS["vit_small_walls"] = vit_small_walls
PRESETS["vit_small_pooled"] = vit_small_pooled

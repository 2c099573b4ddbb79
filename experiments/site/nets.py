"""The nets and the image that the pictures of methods are drawn on: what the wheel ships, and untrained nets for what asks for more."""

from torch.nn.functional import interpolate

from experiments.site.pictures import Shown
from wallcheck import assets, models

IMAGE = 0  # of the shipped STACK-MIX


def shown_nets() -> list[Shown]:
    """The first of them on which a method is defined is the one that it is drawn on."""
    image = assets.images("stack_mix").images(slice(IMAGE, IMAGE + 1))
    size = image.shape[-1]
    narrow = models.vgg([8, "M", 12, "M", 12], size, 10, wall={"side": "bottom", "cells": size // 8})
    transformer = models.vit_small_walls()
    enlarged = interpolate(image, transformer.image_size, mode="bilinear", antialias=True)
    return [
        Shown(assets.net("plain"), image, "the small trained network `assets:plain`"),
        Shown(assets.net("pooled"), image, "`assets:pooled`, whose head averages over cells"),
        Shown(narrow.eval(), image, "an untrained network of 12 channels"),
        Shown(transformer.eval(), enlarged, "an untrained small ViT"),
    ]

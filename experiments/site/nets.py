"""The nets that the pictures are drawn on."""

import torch

from experiments.site.pictures import Shown
from wallcheck import models


def shown_nets() -> list[Shown]:
    """The first of them on which a method is defined is the one it is drawn on."""
    image = torch.rand(1, 3, 96, 96)
    narrow = models.vgg([8, "M", 12, "M", 12], 96, 10, wall={"side": "bottom", "cells": 12})
    return [
        Shown(models.vgg_small(), image, "a small VGG"),
        Shown(models.PRESETS["vgg_small_pooled"](), image, "a small VGG with a pooled head"),
        Shown(narrow, image, "an untrained VGG of 12 channels"),
        Shown(models.vit_small_walls(), image, "an untrained ViT"),
    ]

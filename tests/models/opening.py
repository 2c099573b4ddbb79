"""A user's own functions, for the tests of opening models by name."""

import torch
from torch import nn


class Own(nn.Module):
    """Two convolutions with a batch norm between; keys with underscores, which look alike once dots are gone."""

    def __init__(self, classes: int = 3):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)
        )
        self.conv_3 = nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, classes)
        self.unused = nn.Linear(2, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv_3(self.conv(images).relu()).relu().mean((2, 3)))


def own(classes: int = 3) -> nn.Module:
    return Own(classes)


def weighted(classes: int = 3) -> nn.Module:
    """With a weight that is made of two others."""
    net = Own(classes)
    nn.utils.parametrizations.weight_norm(net.conv_3)
    return net


def no_model() -> str:
    return "no model"

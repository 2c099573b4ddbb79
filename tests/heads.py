"""Heads of many kinds on the features of `tiny`, with weights large enough for every unit to matter."""

import copy
from functools import partial

import torch
from torch import nn

from tests.nets import CLASSES, photos, tiny
from wallcheck.evidence import Evidence

CHANNELS, ROWS, COLUMNS = 8, 5, 12  # what `tiny` hands to its head
FLAT = CHANNELS * ROWS * COLUMNS


class Squared(nn.Module):
    """A head nobody knows: no chain of modules, channels do not add up."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(FLAT, CLASSES)

    def forward(self, cells):
        return self.last(cells.flatten(1).square())


HEADS = {
    "flat": partial(nn.Sequential, nn.Flatten(), nn.Linear(FLAT, CLASSES)),
    "two layers": lambda: nn.Sequential(nn.Flatten(), nn.Linear(FLAT, 16), nn.ReLU(), nn.Linear(16, CLASSES)),
    "in place, dropout, no bias": lambda: nn.Sequential(
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Sequential(nn.Linear(FLAT, 16, bias=False), nn.ReLU(inplace=True), nn.Dropout(0.5)),
        nn.Linear(16, 12),
        nn.LeakyReLU(),
        nn.Linear(12, CLASSES, bias=False),
    ),
    "pooled": lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 6), nn.ReLU(), nn.Linear(6, CLASSES)
    ),
    "max-pooled": lambda: nn.Sequential(
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(CHANNELS * 12, 9), nn.ReLU(), nn.Linear(9, CLASSES)
    ),
    "convolution": lambda: nn.Sequential(
        nn.Conv2d(CHANNELS, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(25, CLASSES)
    ),
    "smooth": lambda: nn.Sequential(nn.Flatten(), nn.Linear(FLAT, 7), nn.Softplus(), nn.Linear(7, CLASSES)),
    "ends in softmax": lambda: nn.Sequential(nn.Flatten(), nn.Linear(FLAT, CLASSES), nn.Softmax(1)),
    "unknown": Squared,
}
CHAINS = [name for name in HEADS if name not in ("unknown", "ends in softmax")]


def with_head(name, seed=0):
    """`tiny` in float64 with another head, weights large enough for every unit to matter."""
    net = copy.deepcopy(tiny()).double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net.head = HEADS[name]().double()
        for parameter in net.head.parameters():
            nn.init.normal_(parameter, 0, 0.3)
    return net.eval()


def evidence_of(net, count=3, **options):
    return Evidence(net, photos(count, seed=9)[0].to(next(net.parameters()).dtype), **options)


def class_scores(ev, activations):
    return ev.of_target(ev.rescore(activations))

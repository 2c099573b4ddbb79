"""Nets and images of DiPart's question: four tiles side by side, and a head that is handed one quadrant of a layer's map."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data_gen.solids import NAMES
from experiments import small_nets
from experiments.small_nets import Recipe
from wallcheck.geometry import Wall
from wallcheck.models import BlindNet
from wallcheck.numerics import probabilities

TILES = 600  # single images to choose from
SURE = 30  # of each class, the surest


def cuts(net: BlindNet) -> list[int]:
    """Three places in the net's line of layers, shallow to deep: after the last ReLU of each of the last three resolutions."""
    layers = list(net.features)
    ends = [place for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)] + [len(layers)]
    return ends[-3:]


def behind(net: BlindNet, cut: int, quadrant: int) -> BlindNet:
    """The net on four tiles: the features up to the cut on all of them, what follows on the quadrant of the map alone."""
    layers, size = list(net.features), 2 * net.image_size[0]
    features = nn.Sequential(*layers[:cut])
    with torch.no_grad():
        cells = features(torch.zeros(1, 3, size, size, device=next(net.parameters()).device)).shape[-1]
    return BlindNet(
        features, nn.Sequential(*layers[cut:], *net.head), Wall(seen_cells(cells, quadrant)), (size, size)
    ).eval()


def seen_cells(cells: int, quadrant: int) -> np.ndarray:
    """(cells, cells) Boolean: the quadrant."""
    seen = np.zeros((cells, cells), dtype=bool)
    row, column = (half * (cells // 2) for half in divmod(quadrant, 2))
    seen[row : row + cells // 2, column : column + cells // 2] = True
    return seen


def stacked(net: BlindNet, recipe: Recipe, count: int, nets: Path) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 2 H, 2 W) of four tiles of four classes, and the classes (N, 4); of each class the tiles that this net tells
    most surely when they stand alone."""
    tiles = small_nets.image_set("mix_background", TILES, recipe, nets)
    labels = torch.from_numpy(np.array(tiles.labels, dtype=np.int64))
    device = next(net.parameters()).device
    with torch.no_grad():
        logits = torch.cat([net(part.to(device)) for part in tiles.images().split(200)])
    own = probabilities(logits.double()).cpu().gather(1, labels[:, None])[:, 0]
    pools = [torch.nonzero(labels == label)[:, 0] for label in range(len(NAMES))]
    pools = [pool[own[pool].argsort(descending=True)[:SURE]] for pool in pools]
    draw, chosen = torch.Generator().manual_seed(77), []
    for _ in range(count):
        classes = torch.randperm(len(NAMES), generator=draw)[:4]
        chosen.append([int(pools[c][torch.randint(len(pools[c]), (), generator=draw)]) for c in classes.tolist()])
    places = torch.tensor(chosen)
    parts = tiles.images(places.flatten().tolist()).unflatten(0, places.shape)
    rows = [torch.cat([parts[:, 2 * row], parts[:, 2 * row + 1]], 3) for row in range(2)]
    return torch.cat(rows, 2).to(device), labels[places]

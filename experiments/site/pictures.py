"""A small picture of every method on one image: its positive part over the image, and how much of that is unseen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from wallcheck.cams import Method
from wallcheck.data import to_display
from wallcheck.evidence import Evidence
from wallcheck.guarding import maps_of
from wallcheck.metrics import LEAKAGE
from wallcheck.models import BlindNet
from wallcheck.plots import Examples
from wallcheck.plots.pictures import overlay, share
from wallcheck.writing import beside

SIDE = 192  # pixels
COLOURS = 64  # of a picture: a quarter of the bytes, and no difference to be seen


@dataclass(frozen=True)
class Shown:
    """A net and the one image (1, 3, H, W) that its methods are drawn on. told: what it is, for the reader."""

    net: BlindNet
    image: Tensor
    told: str


@dataclass(frozen=True)
class Picture:
    """Where a method's picture is, on which net it was drawn, and the share that is unseen, in words."""

    path: str
    net: str
    unseen: str


def draw(shown: Sequence[Shown], methods: Sequence[Method], out: Path) -> dict[str, Picture]:
    """Draw each method on the first net that it is defined on, as out/NAME.png.

    Raises ValueError for a method that is defined on none of them.
    """
    found = {}
    for number, one in enumerate(shown):
        evidence = Evidence(one.net, one.image)
        mine = [m for m in methods if m.name not in found and m.refuses(one.net) is None]
        examples = _examples(evidence, mine)
        for method in mine:
            _save(_tile(examples, method.name), out / f"{method.name}.png")
            found[method.name] = Picture(f"{method.name}.png", one.told, share(_unseen(examples, method.name)))
        if number == 0:
            _save(_tile(examples, None), out / "image.png")
    missing = sorted({m.name for m in methods} - set(found))
    if missing:
        raise ValueError(f"{missing[0]} is defined on none of {len(shown)} nets; add one to experiments/site/nets.py")
    return found


def _examples(evidence: Evidence, methods: Sequence[Method]) -> Examples:
    regions = evidence.net.regions
    return Examples(
        pixels=(255 * to_display(evidence.images)).round().astype(np.uint8),
        targets=evidence.targets.numpy(),
        unseen_cells=evidence.wall.unseen,
        unseen_pixels=regions.unseen,
        halo=regions.halo,
        maps={method.name: maps_of(method, evidence).numpy() for method in methods},
    )


def _unseen(examples: Examples, method: str) -> float:
    """leak_mass of the positive part: of cells where the map has them, else of pixels without the halo."""
    raw = torch.from_numpy(examples.maps[method]).double()
    on_cells = raw.shape[1:] == examples.unseen_cells.shape
    unseen = examples.unseen_cells if on_cells else examples.unseen_pixels
    counted = np.ones_like(unseen) if on_cells else ~examples.halo
    return float(LEAKAGE["leak_mass"](raw, torch.from_numpy(unseen), torch.from_numpy(counted)))


def _tile(examples: Examples, method: str | None) -> Figure:
    """The map over the image without a margin; the image alone, its unseen part hatched, for None."""
    figure = Figure(figsize=(1, 1), dpi=SIDE)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    if method:
        overlay(axes, examples, method, 0)
    else:
        axes.imshow(examples.pixels[0])
        with matplotlib.rc_context({"hatch.color": "white", "hatch.linewidth": 0.6}):
            axes.contourf(examples.unseen_pixels, levels=[0.5, 1.5], colors="none", hatches=["////"])
    return figure


def _save(figure: Figure, path: Path) -> None:
    with beside(path) as partial:
        figure.savefig(partial, format="png", dpi=SIDE)
        with Image.open(partial) as drawn:
            few = drawn.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(partial, format="png", optimize=True)

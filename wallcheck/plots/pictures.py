"""Maps as pictures: the main figure of one image, and the gallery of methods by images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from wallcheck.cams import called
from wallcheck.maps import rectify, upsample
from wallcheck.metrics import LEAKAGE
from wallcheck.plots._regions import draw_border, hatch, on_image
from wallcheck.plots._style import BLACK, SKY, WIDTH, family_of, in_order, styled

# Below zero pale blue, zero white, above zero orange to dark red: in grey, only what is positive is dark.
SIGNED = LinearSegmentedColormap.from_list("signed", [(0, SKY), (0.5, "white"), (0.75, "#E8731A"), (1, "#6B1D00")])
HEAT = LinearSegmentedColormap.from_list("heat", ["#FFC08A", "#E8731A", "#6B1D00"])
DASHED = (0, (2.5, 1.5))


@dataclass(frozen=True)
class Examples:
    """Images with their raw maps and regions, as an audit keeps them.

    pixels (n, H, W, 3) uint8, targets (n,): the class explained. unseen_cells (h, w), unseen_pixels and halo
    (H, W) Boolean. maps: method -> raw (n, h, w) or (n, H, W). classes: their names, or none.
    """

    pixels: np.ndarray
    targets: np.ndarray
    unseen_cells: np.ndarray
    unseen_pixels: np.ndarray
    halo: np.ndarray
    maps: dict[str, np.ndarray]
    classes: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> "Examples":
        """RUN/examples/NET--SET.npz; raises FileNotFoundError or ValueError where it is missing or not whole."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"no examples at {path}; run the audit to its end: wallcheck audit MODEL --images FOLDER --out RUN"
            )
        try:
            with np.load(path) as kept:
                fields = {n: kept[n] for n in ("pixels", "targets", "unseen_cells", "unseen_pixels", "halo")}
                classes = tuple(kept["classes"].tolist())
                maps = {name.removeprefix("map:"): kept[name] for name in kept if name.startswith("map:")}
        except (BadZipFile, ValueError, KeyError, EOFError) as error:
            raise ValueError(f"{path} is damaged ({error}); remove it and run the audit again, which goes on") from None
        return cls(**fields, maps=maps, classes=classes)

    def chosen(self, methods: Sequence[str] | None) -> list[str]:
        """The methods asked for, or all but the controls, in order."""
        missing = set(methods or ()) - set(self.maps)
        if missing:
            raise ValueError(f"no maps of {', '.join(sorted(missing))} were kept, only of {', '.join(self.maps)}")
        return in_order(m for m in self.maps if (m in methods if methods else family_of(m) != "control"))

    def check(self, *images: int) -> None:
        for image in images:
            if not 0 <= image < len(self.pixels):
                raise ValueError(f"image {image} was not kept, only 0 to {len(self.pixels) - 1}; choose one of these")

    def explained(self, image: int) -> str:
        target = int(self.targets[image])
        return self.classes[target] if target < len(self.classes) else f"class {target}"

    def shown(self, method: str, image: int) -> np.ndarray:
        """Rectified and upsampled to the image, highest value 1 (0 everywhere if nothing is positive)."""
        raw = torch.from_numpy(self.maps[method][image][None]).double()
        heat = upsample(rectify(raw), self.unseen_pixels.shape)[0].numpy()
        return heat / heat.max() if heat.max() > 0 else heat

    def on_cells(self, method: str) -> bool:
        """Does the method give a value per cell, not per pixel?"""
        return self.maps[method].shape[1:] == self.unseen_cells.shape

    def leaked_cells(self, method: str, image: int) -> float | None:
        """leak_mass on unseen cells; NaN for an empty map, None where the map has no cells."""
        if not self.on_cells(method):
            return None
        raw = torch.from_numpy(self.maps[method][image][None]).double()
        cells = torch.from_numpy(self.unseen_cells)
        return float(LEAKAGE["leak_mass"](raw, cells, torch.ones_like(cells)))

    def leaked_pixels(self, method: str, image: int) -> float:
        """leak_mass of the positive part over the image, on unseen pixels, the halo left out; NaN for an empty map."""
        heat = torch.from_numpy(self.shown(method, image)[None])
        return float(LEAKAGE["leak_mass"](heat, torch.from_numpy(self.unseen_pixels), torch.from_numpy(~self.halo)))


@styled
def main_figure(examples: Examples, image: int = 0, methods: Sequence[str] | None = None) -> Figure:
    """One image, its unseen pixels hatched; by method the raw map on cells, and its positive part over the image.

    Below each map is the share of its positive attribution that is unseen, counted where it is drawn: on cells below the raw map, on
    pixels below the positive part, the halo left out. A map without cells has its pixels counted below both.
    """
    methods = examples.chosen(methods)
    examples.check(image)
    gap, left, top, line, foot = 0.05, 0.66, 0.18, 0.17, 0.46  # inches
    side = (WIDTH - left - 2 * gap - (len(methods) + 1) * gap) / (len(methods) + 2)
    figure = Figure(figsize=(WIDTH, top + 2 * (side + line) + foot))
    low = foot + line  # where the lower maps begin

    def panel(x: float, y: float, size: float) -> Axes:
        return _bare(figure.add_axes(tuple(np.array([x, y, size, size]) / np.tile(figure.get_size_inches(), 2))))

    first = panel(gap, low, 2 * side + gap)
    _image(first, examples, image)
    first.set_title(f"explained: {examples.explained(image)}", fontsize=7.5, pad=3)
    for column, method in enumerate(methods):
        x = left + 3 * gap + 2 * side + column * (side + gap)
        raw, shown = panel(x, low + side + line, side), panel(x, low, side)
        raw_map(raw, examples, method, image)
        overlay(shown, examples, method, image)
        raw.set_title(called(method), fontsize=6.8, pad=3)
        cells, pixels = examples.leaked_cells(method, image), examples.leaked_pixels(method, image)
        raw.set_xlabel(share(pixels if cells is None else cells), fontsize=8, labelpad=2)
        shown.set_xlabel(share(pixels), fontsize=8, labelpad=2)
        if column == 0:
            for axes, what, where in ((raw, "raw map", "cells"), (shown, "positive part", "pixels")):
                axes.set_ylabel(what, fontsize=7, labelpad=2)
                axes.annotate(
                    f"unseen {where}:",
                    (0, 0),
                    (-3, -9),
                    "axes fraction",
                    "offset points",
                    ha="right",
                    va="center",
                    fontsize=6.5,
                )
    _key(figure, raw=True, loc="lower center")
    return figure


@styled
def gallery(examples: Examples, images: Sequence[int] | None = None, methods: Sequence[str] | None = None) -> Figure:
    """Methods by rows, images by columns: positive parts over the image, and the share that is on unseen pixels, the halo left out."""
    methods = examples.chosen(methods)
    images = list(range(len(examples.pixels)) if images is None else images)
    examples.check(*images)
    side = (WIDTH - 0.85) / len(images)
    figure = Figure(figsize=(WIDTH, side * (len(methods) + 1) + 0.8), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    panels = figure.subplots(1 + len(methods), len(images), squeeze=False)
    for axes, image in zip(panels[0], images, strict=True):
        _image(_bare(axes), examples, image)
        axes.set_title(examples.explained(image), fontsize=7, pad=2)
    for line, method in zip(panels[1:], methods, strict=True):
        for axes, image in zip(line, images, strict=True):
            overlay(_bare(axes), examples, method, image)
            _note(axes, share(examples.leaked_pixels(method, image)))
        line[0].set_ylabel(called(method), rotation=0, ha="right", va="center", fontsize=7, labelpad=3)
    _key(figure, raw=False, loc="outside lower center", title="numbers: share of the positive part on unseen pixels")
    return figure


def _key(figure: Figure, raw: bool, **where) -> None:
    """What hatching, lines and colours mean."""
    edge = dict(edgecolor=BLACK, linewidth=0.4)
    handles = [
        Patch(facecolor="#BBBBBB", hatch="////", edgecolor="white", label="unseen pixels"),
        Line2D([], [], color=BLACK, lw=1, ls=DASHED, label="the wall, between cells"),
        Line2D([], [], color=BLACK, lw=1.2, label="down to this line: halo, seen past the wall"),
        *([Patch(facecolor=SIGNED(0.2), label="below 0 (raw map)", **edge)] if raw else []),
        Patch(facecolor="white", label="0" if raw else "0 or below: the image alone", **edge),
        Patch(facecolor=HEAT(0.1), label="little", **edge),
        Patch(facecolor=HEAT(1.0), label="the map's highest value", **edge),
    ]
    rows = [handles[:3], handles[3:]]
    width = max(map(len, rows))
    blank = Line2D([], [], ls="", label=" ")
    padded = [[*row, *[blank] * (width - len(row))] for row in rows]
    figure.legend(handles=[one for pair in zip(*padded, strict=True) for one in pair], ncols=width, fontsize=6.8, title_fontsize=6.8,
                  columnspacing=1.2, handlelength=1.8, **where)  # fmt: skip


def raw_map(axes: Axes, examples: Examples, method: str, image: int) -> None:
    """The formula's values, white at zero, with the wall; each map has its own scale, even around zero."""
    raw = examples.maps[method][image]
    top = float(np.abs(raw).max()) or 1.0
    axes.imshow(raw, cmap=SIGNED, vmin=-top, vmax=top, interpolation="nearest")
    if examples.on_cells(method):
        draw_border(axes, examples.unseen_cells, BLACK, 0.9, DASHED)
    else:
        _walls(axes, examples)


def overlay(axes: Axes, examples: Examples, method: str, image: int) -> None:
    """Positive part over the image in pale grey; lines as the key says."""
    heat = examples.shown(method, image)
    grey = examples.pixels[image].astype(float).mean(-1) / 255
    axes.imshow(0.5 + 0.5 * grey, cmap="gray", vmin=0, vmax=1)
    axes.imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=np.clip(1.25 * heat, 0, 0.9))
    _walls(axes, examples)


def share(leaked: float) -> str:
    """A share for the reader: exact zero is told from little, and an empty map from both."""
    if np.isnan(leaked):
        return "empty"
    return "0" if leaked == 0 else "<1%" if leaked < 0.01 else f"{leaked:.0%}"


def _image(axes: Axes, examples: Examples, image: int) -> None:
    axes.imshow(examples.pixels[image])
    hatch(axes, examples.unseen_pixels, "///", "white")
    _walls(axes, examples)


def _walls(axes: Axes, examples: Examples) -> None:
    draw_border(axes, on_image(examples.unseen_cells, examples.unseen_pixels.shape), BLACK, 0.7, DASHED)
    draw_border(axes, examples.unseen_pixels, BLACK, 0.9)


def _note(axes: Axes, text: str) -> None:
    box = dict(boxstyle="round,pad=0.15", facecolor="white", edgecolor="none", alpha=0.85)
    axes.text(0.96, 0.05, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=6, bbox=box)


def _bare(axes: Axes) -> Axes:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes

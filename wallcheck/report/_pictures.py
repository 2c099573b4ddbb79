"""Pictures small enough for one page: images and maps as WebP in data URIs, regions and marks as SVG paths."""

import base64
from io import BytesIO

import numpy as np
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline
from PIL import Image

from wallcheck.plots import HEAT, Examples, look

SIDE = 144  # pixels of a thumbnail's longer side
PICTURES = 1600  # maps in one report: at about 1 kB each they stay below 2 MB
LETTERS = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C", Outline.CLOSEPOLY: "Z"}


def photograph(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as a data URI."""
    return _uri(Image.fromarray(pixels), quality=72)


def overlay(examples: Examples, method: str, image: int) -> str:
    """The positive part over the image, transparent where it is zero, as a data URI."""
    heat = examples.shown(method, image)
    colours = (255 * HEAT(heat)).round().astype(np.uint8)
    # Zero stays transparent to the bit: WebP keeps the transparency without loss.
    colours[..., 3] = np.where(heat > 0, (255 * np.clip(1.25 * heat, 0.02, 0.92)).round(), 0)
    return _uri(Image.fromarray(colours, "RGBA"), quality=55)


def _uri(picture: Image.Image, quality: int) -> str:
    scale = SIDE / max(picture.size)
    if scale < 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BOX)
    written = BytesIO()
    picture.save(written, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"


def how_many(methods: int, kept: int, pairs: int) -> int:
    """Of the images kept for a net and image set, as many as have room: one at least."""
    return max(1, min(kept, PICTURES // max(1, methods * pairs)))


def region(mask: np.ndarray) -> str:
    """The True positions of (H, W) as an SVG path, a position 1 x 1: equal rows are one rectangle.

    >>> region(np.array([[False, False, False], [True, True, False], [True, True, False]]))
    'M0 1h2v2h-2z'
    """
    pieces, start = [], 0
    for row in range(1, len(mask) + 1):
        if row == len(mask) or not np.array_equal(mask[row], mask[start]):
            turns = np.flatnonzero(np.diff(np.pad(mask[start].astype(int), 1)))
            pieces += [
                f"M{left} {start}h{right - left}v{row - start}h-{right - left}z"
                for left, right in zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True)
            ]
            start = row
    return "".join(pieces)


def marker(method: str) -> str:
    """The outline of a method's marker in figures, as an SVG path about 0, 1 high."""
    style = MarkerStyle(look(method).marker)
    outline = style.get_path().transformed(style.get_transform())
    return " ".join(
        LETTERS[code]
        + ("" if code == Outline.CLOSEPOLY else " ".join(f"{x:.3g} {-y:.3g}" for x, y in ends.reshape(-1, 2)))
        for ends, code in outline.iter_segments(curves=True, simplify=False)
    )

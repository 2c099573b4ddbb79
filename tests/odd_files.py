"""Image files of every mode and format that this Pillow can write, with what a reader should see in them, and damage."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageCms

MODES = (
    *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"),
    *("I", "F", "I;16", "I;16B"),
)
DEEP = {"I", "F", "I;16", "I;16B"}
WRITTEN_WRONG = {
    ("JPEG2000", "I;16B"),
    ("JPEG2000", "YCbCr"),
}  # by some version of Pillow: its own reader shows another picture
LOSSY = {"AVIF", "BLP", "GIF", "ICNS", "JPEG", "MPO", "WEBP"}  # ICNS enlarges; GIF and BLP have 256 colours
DROP_ALPHA = {"BMP", "DIB", "PPM"}  # when they write
SQUARE = {"ICNS", "ICO"}
HARD_ALPHA = {"GIF"}
OPTIONS = {
    "JPEG": dict(quality=97, subsampling=0),
    "MPO": dict(quality=97, subsampling=0),
    "AVIF": dict(quality=95, subsampling="4:4:4"),
    "WEBP": dict(quality=97),
}
ROUNDING = {"HSV": 8, "YCbCr": 3}  # what the mode itself loses in 8 bits; CIELAB so much that the mean counts


@dataclass(frozen=True)
class OddFile:
    """The bytes of a file, and the pixels (H, W, 3) that show in it before cropping, if it is sound."""

    kind: str
    data: bytes
    shown: np.ndarray
    exact: int | None  # largest error allowed; None where the format loses, and the mean error counts


def written(number: int) -> Iterator[OddFile]:
    """A file for each pair of format and mode that can be written; `number` decides shape and colours."""
    Image.init()
    for name in sorted(set(Image.SAVE) & set(Image.OPEN)):
        for mode in MODES:
            if (name, mode) in WRITTEN_WRONG or (name == "ICNS" and number):  # which draws ten sizes for each file
                continue
            side = (32, 33, 40, 37)[number % 4]
            shape = (32, 32) if name in SQUARE else ((32, side) if number % 2 else (side, 32))
            image, shown = picture(mode, shape, number, name)
            try:
                data = saved(image, name)
                with Image.open(io.BytesIO(data)) as found:
                    kept = found.mode
            except (OSError, ValueError, KeyError, TypeError):
                continue  # no such pair, or a format that Pillow writes but does not read
            if mode in DEEP and kept not in DEEP:
                continue  # the writer has clipped the values already
            exact = None if name in LOSSY or mode == "LAB" else ROUNDING.get(mode, 1)
            yield OddFile(f"{name} {mode} {shape}", data, shown.astype(float), exact)


def saved(image: Image.Image, name: str, **more: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=name, **OPTIONS.get(name, {}), **more)
    return file.getvalue()


def picture(mode: str, shape: tuple[int, int], number: int, name: str) -> tuple[Image.Image, np.ndarray]:
    """A smooth picture in a mode, and what of it shows (H, W, 3): over white, 0 to 255."""
    y, x = (axis / (length - 1) for axis, length in zip(np.indices(shape), shape, strict=True))
    colour = np.rint(np.stack([40 + 180 * x, 220 - 180 * y, 60 + 25 * (number % 7) + 0 * x], -1)).astype(np.uint8)
    alpha = np.rint(255 * (1 - 0.8 * x * y)).astype(np.uint8)
    if name in HARD_ALPHA:
        alpha = np.where(alpha > 127, 255, 0).astype(np.uint8)
    depth = (x + y) / 2
    if mode == "1":
        bits = depth > 0.5
        return Image.fromarray(bits), three(255 * bits)
    if mode in DEEP:
        return deep(mode, depth)
    image = Image.fromarray(colour[..., 0] if mode in ("L", "LA", "La") else colour)
    plain = three(colour[..., 0]) if mode in ("L", "LA", "La") else colour
    if mode in ("P", "PA"):
        image = image.quantize(64)
        plain = np.array(image.getpalette(), np.uint8).reshape(-1, 3)[np.asarray(image)]
    if mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        image = image.convert("PA") if mode == "PA" else image
        image.putalpha(Image.fromarray(alpha))
        plain = plain if name in DROP_ALPHA else over_white(plain, alpha)
    if mode == "LAB":
        return ImageCms.applyTransform(image, to_lab()), plain
    return image if image.mode == mode else image.convert(mode), plain


@cache
def to_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")


def deep(mode: str, depth: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """depth (H, W) in 0..1 as grey of 16 bits or as floats."""
    values = np.rint(65535 * depth)
    if mode == "F":
        return Image.fromarray(depth.astype(np.float32)), three(255 * depth)
    kind = {"I": np.int32, "I;16": "<u2", "I;16B": ">u2"}[mode]
    return Image.fromarray(values.astype(kind)), three(values / 257)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return share * colour + (1 - share) * 255


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None].astype(float), 3, -1)


def cut(data: bytes, number: int) -> bytes:
    """Only the beginning, at most four tenths: behind that some formats have nothing but a palette or a trailer."""
    return data[: len(data) * (number % 41) // 100]


def beheaded(data: bytes, number: int) -> bytes:
    """The first bytes overwritten."""
    return bytes(0xA5 ^ (7 * i + number) & 0xFF for i in range(24)) + data[24:]


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([4 * x, 4 * y, 200 - 2 * (x + y)], -1).clip(0, 255).astype(np.uint8)


def colours(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(head: tuple[int, int, int, int], lines: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand. head: width, height, bits, type of colour; more: chunks before the pixels."""
    chunks = (b"IHDR", struct.pack(">IIBBBBB", *head, 0, 0, 0)), *more, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )

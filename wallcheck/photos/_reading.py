"""One reader for any image file: upright, 8 bits by value, composited on white, cropped first.

What is read how (`read_photo`), whatever the file is called, since the content decides:

* upright: the EXIF orientation is obeyed. Of several frames or pages the first is read.
* 8 bits by value: 16-bit grey is v / 257, 12-bit TIFF v / 4095 of white. 32-bit integers are taken for 16-bit values, 0
  to 65535, and floats for 0 (black) to 1 (white); what does not fit is refused, and so are 32-bit integers up to 255, which
  may be 8 bits as well as 16. TIFF's "white is zero" is obeyed. Of 16-bit colour Pillow keeps the upper byte.
* alpha, palettes with transparency and colour keys are composited on `BACKGROUND`.
* the centre square is cut out before anything is converted or resized (bilinear, antialiased).
* JPEGs of more than `DRAFT_ABOVE` pixels are decoded at 1/2, 1/4 or 1/8 of their size, never below twice the size wanted.
* more than `MOST_PIXELS` to decode are refused; the environment's WALLCHECK_MAX_PIXELS, or PIL.Image.MAX_IMAGE_PIXELS, raises that.
"""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from numbers import Integral
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

BACKGROUND = (255, 255, 255)  # behind whatever is transparent: white, as a page
MOST_PIXELS = 1 << 28  # 1 GiB, as Pillow keeps four bytes for a pixel
DRAFT_ABOVE = 1 << 26
MOST_TEXT = 1 << 28  # bytes of PNG texts and profiles once unpacked
# Formats that Pillow names but does not decode, or only by way of another program; DDS it fills up where the file is cut.
NO_PHOTOS = {"BUFR", "DDS", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}

HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of the file's first box
TRANSPARENT = {"LA", "La", "PA", "RGBA", "RGBa"}
ORIENTATION, BITS, PHOTOMETRIC = 0x0112, 258, 262  # EXIF's and TIFF's tags
YCBCR = 6  # a value of the last
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LIMITS = threading.RLock()


class _Refused(ValueError):
    """Why a sound file is not read; the file is named by read_photo."""


def read_photo(path: str | Path, size: int | None) -> np.ndarray:
    """One image file as uint8: the upright photograph's centre square, resized, (size, size, 3); with size None the whole of
    it, (H, W, 3), as it is.

    Raises ValueError naming the file if it is damaged, no image or no regular file, or if the rules above refuse it.
    """
    path, size = expanded(path), None if size is None else checked_side(size)
    if not path.is_file():
        raise ValueError(f"{path} is no readable image (not a file that can be opened); remove or repair it")
    try:
        with _own_limits() as most, _opened(path) as photo:
            _load(photo, size, most)
            return np.array(_upright(photo, size))
    except _Refused as refusal:
        raise ValueError(f"{path} {refusal}") from None
    except Exception as error:  # Pillow's decoders answer damage with whatever they stumble over
        if _is_heic(path):
            raise ValueError(
                f"{path} is HEIC, whatever it is called, which is not read; convert it to JPEG or PNG"
            ) from None
        said = str(error) or type(error).__name__
        raise ValueError(f"{path} is no readable image ({said}); remove or repair it") from None


def checked_side(size: int) -> int:
    """A square's side in pixels; raises ValueError for what is none, before a photograph is blamed for it."""
    if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
        raise ValueError(f"size is {size!r}; give a side in pixels, a whole number from 1 on")
    return int(size)


def _is_heic(path: Path) -> bool:
    """Does the content say that it is a phone's HEIC? Many are renamed to .jpg on their way."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(12)
        return head[4:8] == b"ftyp" and head[8:12] in HEIC
    return False


def expanded(path: str | Path) -> Path:
    """A path with ~ for the home folder, as a shell reads it. Raises ValueError for no path at all."""
    if path == "":
        raise ValueError("a path is empty; write it out, . for the folder you are in")
    return Path(os.path.expanduser(path))


@cache
def formats() -> tuple[str, ...]:
    """Pillow's formats that are read, in its order."""
    Image.init()
    return tuple(name for name in Image.ID if name in Image.OPEN and name not in NO_PHOTOS)


@contextmanager
def _own_limits() -> Iterator[float]:
    """Pillow's limits on pixels and texts lifted, its warnings silent; yields the most pixels to decode instead.

    They are Pillow's globals, so one thread reads at a time, and all are put back.
    """
    wanted = {
        (Image, "MAX_IMAGE_PIXELS"): None,
        (PngImagePlugin, "MAX_TEXT_CHUNK"): MOST_TEXT,
        (PngImagePlugin, "MAX_TEXT_MEMORY"): MOST_TEXT,
        (TiffImagePlugin, "READ_LIBTIFF"): TiffImagePlugin.READ_LIBTIFF,  # which _opened may set
    }
    with _LIMITS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {(module, name): getattr(module, name) for module, name in wanted}
        try:
            for (module, name), value in wanted.items():
                setattr(module, name, value)
            yield _most_pixels(found[Image, "MAX_IMAGE_PIXELS"])
        finally:
            for (module, name), value in found.items():
                setattr(module, name, value)


def _opened(path: Path) -> Image.Image:
    """The file's first frame, not yet decoded."""
    photo = Image.open(path, formats=formats())
    if _tag(photo, PHOTOMETRIC) == YCBCR and photo.tile and photo.tile[0][0] == "raw":
        # Up to version 12 Pillow's own decoder takes these for RGB, and it never knew of subsampling.
        photo.close()
        TiffImagePlugin.READ_LIBTIFF = True
        photo = Image.open(path, formats=formats())
    return photo


def _most_pixels(pillow: int | None) -> float:
    """The most pixels to decode: the environment's word, else ours, or twice Pillow's limit (where it raises) if that is more."""
    asked = os.environ.get("WALLCHECK_MAX_PIXELS")
    if asked is None:
        return float("inf") if pillow is None else max(MOST_PIXELS, 2 * pillow)
    if not asked.isdecimal():
        raise _Refused(f"is not read: WALLCHECK_MAX_PIXELS is {asked!r}, expected a whole number of pixels")
    return int(asked)


def _load(photo: Image.Image, size: int | None, most: float) -> None:
    """Decode the first frame, at reduced scale where that is cheap and needed."""
    width, height = photo.size
    if size and width * height > DRAFT_ABOVE and photo.format in ("JPEG", "MPO"):
        photo.draft(None, (2 * size, 2 * size))
    # A progressive JPEG is kept whole in the decoder, whatever the scale.
    pixels = width * height if photo.info.get("progressive") else photo.width * photo.height
    if pixels > most:
        raise _Refused(
            f"has {width} x {height} pixels; {pixels / 1e6:.0f} million are to be decoded, and the limit is "
            f"{most / 1e6:.0f} million; make it smaller, or, if it is sound and {4 * pixels / 2**30:.1f} GiB of memory "
            f"are free, set WALLCHECK_MAX_PIXELS={pixels} in the environment"
        )
    _scale_key(photo)
    photo.load()


def _scale_key(photo: Image.Image) -> None:
    """PNG's grey of 2 or 4 bits comes to 8 when it is loaded; its colour key Pillow leaves as it was."""
    tiles = getattr(photo, "tile", ()) if photo.format == "PNG" else ()
    bits = {"L;2": 2, "L;4": 4}.get(tiles[0][3]) if tiles else None
    key = photo.info.get("transparency")
    if bits and isinstance(key, int) and key < 1 << bits:
        photo.info["transparency"] = key * 255 // ((1 << bits) - 1)


def _upright(photo: Image.Image, size: int | None) -> Image.Image:
    """A loaded image, upright, RGB: its centre at (size, size), or the whole."""
    turn, white = _orientation(photo), _white(photo)
    shown = photo.crop(_centre(photo.size, turn)) if size and photo.width != photo.height else photo
    shown = _rgb(shown if white is None else _eight_bits(shown, white, _is_negative(photo)))
    shown = shown.resize((size, size), Image.Resampling.BILINEAR) if size else shown
    return shown.transpose(TURNS[turn]) if turn in TURNS else shown


def _orientation(photo: Image.Image) -> int:
    """EXIF's orientation of what was loaded; 1 if there is none that can be read."""
    if photo.format == "TIFF":  # Pillow turns it on loading, and version 10.0 leaves the tag
        return 1
    try:
        turn = photo.getexif().get(ORIENTATION)
    except Exception:  # damaged EXIF data beside sound pixels: shown as stored, as viewers do
        return 1
    return turn if turn in TURNS else 1


def _centre(shape: tuple[int, int], turn: int) -> tuple[int, int, int, int]:
    """The box of the stored image (width, height) that is its upright centre square.

    An odd margin is one pixel wider at the upright right or bottom, so the side matters on which the upright image begins.
    """
    side = min(shape)
    begins_last = turn in (2, 3, 7, 8), turn in (3, 4, 6, 7)  # stored x, stored y run against the upright axis
    left, top = (
        (length - side + last) // 2 if length > side else 0 for length, last in zip(shape, begins_last, strict=True)
    )
    return left, top, left + side, top + side


# Values


def _white(photo: Image.Image) -> int | None:
    """The value of white in a loaded grey image of more than 8 bits; None for all others. Raises _Refused without a rule."""
    if photo.mode.startswith("I;16"):
        return 4095 if _tag(photo, BITS) == (12,) else 65535
    if photo.mode == "F":
        low, high = _extremes(photo)
        if not np.isfinite(np.asarray(photo)).all():
            raise _Refused("has float values that are NaN or infinite, expected 0 (black) to 1 (white); fill them")
        if not (low >= 0 and high <= 1):
            raise _Refused(f"has float values from {low:g} to {high:g}, expected 0 (black) to 1 (white); rescale them")
        return 1
    if photo.mode != "I":
        return None
    low, high = _extremes(photo)
    if low < 0 or high > 65535:
        raise _Refused(f"has 32-bit values from {low} to {high}, expected 0 to 65535; save it with 16 bits or 8")
    if 0 < high <= 255 and photo.format not in ("PNG", "PPM"):  # whose grey of mode I has 16 bits
        raise _Refused(f"has 32-bit values from {low} to {high}, which may be 8 bits or 16; save it with 16 bits or 8")
    return 65535


def _extremes(photo: Image.Image) -> tuple[float, float]:
    """Of an image with one channel."""
    low, high = photo.getextrema()
    if isinstance(low, tuple) or isinstance(high, tuple):
        raise _Refused(f"has {len(photo.getbands())} channels, expected one")
    return low, high


def _eight_bits(grey: Image.Image, white: int, negative: bool) -> Image.Image:
    """Grey of more than 8 bits as mode L, or LA where a colour key makes a value transparent."""
    values = np.asarray(grey)
    scaled = np.rint(values.astype(np.float32) * np.float32(255 / white)).clip(0, 255).astype(np.uint8)
    shown = Image.fromarray(255 - scaled if negative else scaled)
    key = grey.info.get("transparency")
    if isinstance(key, int):
        shown.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return shown


def _is_negative(photo: Image.Image) -> bool:
    """TIFF's WhiteIsZero, which Pillow obeys up to 8 bits only."""
    return _tag(photo, PHOTOMETRIC) == 0


def _tag(photo: Image.Image, number: int) -> object:
    return getattr(photo, "tag_v2", {}).get(number) if photo.format == "TIFF" else None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode not in TRANSPARENT and image.info.get("transparency") is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":  # premultiplied grey knows one way out
        image = image.convert("LA")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image).convert("RGB")

"""Photographs as people have them: each is read as a viewer shows it, or the message names the file and the way out."""

import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from data_gen.photographs import read_square
from tests.odd_files import DEEP, beheaded, colours, cut, over_white, png, smooth, three, written
from wallcheck.photos import BACKGROUND, read_photo


def centre(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def test_a_thousand_files_of_every_mode_and_format_are_read_right_or_named(tmp_path):
    """Five rounds of sound files, two cut short and one with its first bytes overwritten."""
    path, files, modes = tmp_path / "photo", 0, set()
    rounds = (None, cut, None, beheaded, None, cut, None, None)
    for number, damage in enumerate(rounds):
        for file in written(number):
            path.write_bytes(file.data if damage is None else damage(file.data, 11 * number))
            files, modes = files + 1, modes | {file.kind.split()[1]}
            try:
                error = np.abs(read_photo(path, 32) - centre(file.shown))
            except ValueError as refusal:
                assert str(path) in str(refusal), file.kind
                assert damage is not None or may_be_refused(file.kind, str(refusal)), (file.kind, refusal)
                continue
            assert error.mean() < 5 if file.exact is None else error.max() <= file.exact, (file.kind, damage)
    assert files >= 1000
    assert modes >= {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", *DEEP}


def may_be_refused(kind: str, refusal: str) -> bool:
    """Formats that are not read at all, and SPIDER, which holds every grey as floats up to 255 or 65535."""
    name = kind.split()[0]
    return (name in ("DDS", "EPS") and "cannot identify" in refusal) or (name == "SPIDER" and "float values" in refusal)


# Values


@pytest.mark.parametrize(
    ("name", "kind", "white"),
    [
        ("x.png", "<u2", 65535),
        ("x.tif", "<u2", 65535),
        ("x.tif", ">u2", 65535),
        ("x.tif", "<i4", 65535),
        ("x.pgm", "<u2", 65535),
        ("x.tif", "<f4", 1),
    ],
)
def test_deep_grey_is_read_by_value(tmp_path, name, kind, white):
    values = np.linspace(0, white, 64 * 64).reshape(64, 64)
    values = values.astype(kind) if white == 1 else np.rint(values).astype(kind)
    if name.endswith("pgm"):  # which Pillow writes from 10.1 on
        (tmp_path / name).write_bytes(b"P5 64 64 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(tmp_path / name)
    right = np.rint(values.astype(float) / white * 255)
    assert len(np.unique(right)) == 256
    assert (read_photo(tmp_path / name, 64) == right[..., None]).all()


def test_twelve_bits_have_their_own_white(tmp_path):
    values = np.linspace(0, 4095, 256).round().astype(int).reshape(16, 16)
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:].reshape(16, -1)
    write_tiff(tmp_path / "x.tif", 16, 16, (12,), 1, np.packbits(bits, axis=1).tobytes())
    assert (read_photo(tmp_path / "x.tif", 16)[..., 0] == np.rint(values / 4095 * 255)).all()


@pytest.mark.parametrize(("bits", "kind"), [(8, "u1"), (16, "<u2")])
def test_white_may_be_zero(tmp_path, bits, kind):
    """As in many an X-ray."""
    values = np.linspace(0, 2**bits - 1, 256).astype(kind).reshape(16, 16)
    write_tiff(tmp_path / "x.tif", 16, 16, (bits,), 0, values.tobytes())
    assert (read_photo(tmp_path / "x.tif", 16)[..., 0] == 255 - np.rint(values / (2**bits - 1) * 255)).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.int32([[0, 70_000]]),
            r"x\.tif has 32-bit values from 0 to 70000, expected 0 to 65535; save it with 16 bits",
        ),
        (np.int32([[-4, 9]]), r"x\.tif has 32-bit values from -4 to 9, expected 0 to 65535"),
        (np.int32([[0, 255]]), r"from 0 to 255, which may be 8 bits or 16; save it with 16 bits or 8"),
        (
            np.float32([[0, 255]]),
            r"x\.tif has float values from 0 to 255, expected 0 \(black\) to 1 \(white\); rescale",
        ),
        (np.float32([[-0.1, 1]]), r"float values from -0\.1 to 1, expected"),
        (np.float32([[0, np.nan]]), r"float values that are NaN or infinite, expected"),
        (np.float32([[0, np.inf]]), r"float values that are NaN or infinite, expected"),
    ],
)
def test_values_without_a_rule_are_refused(tmp_path, values, message):
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=message):
        read_photo(tmp_path / "x.tif", 8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_white_is_white_in_every_mode(tmp_path, mode):
    Image.new("RGB", (30, 20), (255, 255, 255)).convert(mode).save(tmp_path / "photo.tiff")
    assert (read_photo(tmp_path / "photo.tiff", 12) == 255).all()


def test_uncompressed_ycbcr_with_subsampling(tmp_path):
    """Pillow's own decoder takes it for RGB, or for a truncated file."""
    blocks = bytes([150] * 4 + [100, 180]) * 64  # four lumas, then Cb and Cr
    write_tiff(tmp_path / "x.tif", 16, 16, (8, 8, 8), 6, blocks, {530: (2, 2)})
    right = np.array([150 + 1.402 * 52, 150 - 0.344 * -28 - 0.714 * 52, 150 + 1.772 * -28])
    assert np.abs(read_photo(tmp_path / "x.tif", 16) - right).max() < 1
    assert TiffImagePlugin.READ_LIBTIFF is False


def write_tiff(path, width, height, bits, photometric, data, more=()):
    """One uncompressed strip, little endian, short tags alone."""
    tags = {256: (width,), 257: (height,), 258: bits, 259: (1,), 262: (photometric,), 277: (len(bits),), 278: (height,)}
    tags |= {273: (0,), 279: (len(data),)} | dict(more)
    long = {tag: struct.pack(f"<{len(v)}H", *v) for tag, v in tags.items() if len(v) > 2}
    after, places = 8 + 2 + 12 * len(tags) + 4, {}
    for tag, packed in long.items():
        places[tag] = after
        after += len(packed)
    entries, tags[273] = b"", (after,)
    for tag, values in sorted(tags.items()):
        short = struct.pack(f"<{len(values)}H", *values).ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, 3, len(values)) + (struct.pack("<I", places[tag]) if tag in long else short)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + b"".join(long.values())
    path.write_bytes(head + data)


# Transparency


def test_transparency_is_composited_on_one_colour(tmp_path):
    assert BACKGROUND == (255, 255, 255)
    colour, alpha = colours(16, 16), colours(16, 17)[:, :16, 0]
    grey = colour[..., 0]
    Image.fromarray(np.dstack([colour, alpha])).save(tmp_path / "rgba.png")
    Image.fromarray(np.dstack([grey, alpha])).save(tmp_path / "la.png")
    for name, plain in (("rgba", colour), ("la", three(grey))):
        assert np.abs(read_photo(tmp_path / f"{name}.png", 16) - over_white(plain, alpha)).max() <= 1, name


@pytest.mark.parametrize("kind", [np.uint8, "<u2"])
def test_a_colour_key_is_transparent(tmp_path, kind):
    grey = np.full((16, 16), 40, kind)
    grey[4:8] = 90
    Image.fromarray(grey).save(tmp_path / "x.png", transparency=90)
    got = read_photo(tmp_path / "x.png", 16)
    assert (got[4:8] == 255).all()
    assert (got[:4] == (40 if kind is np.uint8 else 0)).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_colour_key_of_few_bits_is_a_value_before_it_is_scaled(tmp_path, bits):
    """Pillow scales the grey to 8 bits and leaves the key."""
    count = 1 << bits
    values = np.arange(count).repeat(16 // count)[None].repeat(16, 0)
    for key in range(count):
        grey = values * 255 // (count - 1)
        (tmp_path / "x.png").write_bytes(png_of_grey(values, bits, key))
        assert (read_photo(tmp_path / "x.png", 16)[..., 0] == np.where(values == key, 255, grey)).all(), key


def png_of_grey(values: np.ndarray, bits: int, key: int) -> bytes:
    """(H, W) below 2 ** bits, written by hand, since Pillow writes no such key."""
    height, width = values.shape
    unpacked = (values[..., None] >> np.arange(bits)[::-1] & 1).reshape(height, -1).astype(np.uint8)
    lines = b"".join(b"\0" + line.tobytes() for line in np.packbits(unpacked, axis=1))
    return png((width, height, bits, 0), lines, (b"tRNS", struct.pack(">H", key)))


def test_a_palette_may_be_transparent(tmp_path):
    image = Image.fromarray(np.repeat(np.arange(4, dtype=np.uint8), 64).reshape(16, 16), "P")
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    image.save(tmp_path / "x.png", transparency=bytes([255, 255, 0, 51]))
    image.save(tmp_path / "x.gif", transparency=2)
    rows = [(0, 0, 0), (200, 0, 0), (255, 255, 255)]
    assert read_photo(tmp_path / "x.gif", 16)[::4, 0].tolist() == [list(row) for row in [*rows, (0, 0, 200)]]
    assert read_photo(tmp_path / "x.png", 16)[::4, 0].tolist() == [list(row) for row in [*rows, (204, 204, 244)]]


# Orientation, shape, frames


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF", "MPO"])
@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 55), (53, 40)])
def test_photographs_stand_upright(tmp_path, format, height, width):
    """What reader and viewer show is one picture, to the pixel where the format keeps it, odd margins included."""
    Image.init()
    if format not in Image.SAVE:  # AVIF came with Pillow 11.3
        format = "PNG"
    upright = colours(height, width) if format not in ("JPEG", "MPO", "AVIF") else smooth(height, width)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.fromarray(stored(upright, turn)).save(
            tmp_path / "photo", format, exif=exif, **({"lossless": True} if format == "WEBP" else {"quality": 95})
        )
        error = np.abs(read_photo(tmp_path / "photo", 40).astype(int) - centre(upright))
        assert error.max() <= (0 if format in ("PNG", "TIFF", "WEBP") else 30), turn


def stored(upright: np.ndarray, turn: int) -> np.ndarray:
    """The array that orientation `turn` turns upright, by EXIF's words: where row 0 and column 0 of it are shown."""
    return {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: upright.swapaxes(0, 1)[::-1], 7: upright.swapaxes(0, 1)[::-1, ::-1],
        8: upright.swapaxes(0, 1)[:, ::-1],
    }[turn]  # fmt: skip


@pytest.mark.parametrize("exif", [b"Exif\0\0damaged", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(9), b"\0"])
def test_damaged_exif_data_do_not_hide_sound_pixels(tmp_path, exif):
    pixels = colours(20, 20)
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    assert (read_photo(tmp_path / "x.png", 20) == pixels).all()


def test_both_packages_read_with_one_reader():
    assert read_square is read_photo


def test_the_first_of_several_frames_is_read(tmp_path):
    first, second = (Image.fromarray(smooth(32, 32)), Image.fromarray(255 - smooth(32, 32)))
    for name in ("x.tiff", "x.webp", "x.png", "x.gif"):
        first.save(
            tmp_path / name, save_all=True, append_images=[second], **({"lossless": True} if "webp" in name else {})
        )
        error = np.abs(read_photo(tmp_path / name, 32).astype(int) - smooth(32, 32))
        assert error.mean() < (8 if "gif" in name else 1e-9), name


def test_a_thin_strip_takes_no_memory(tmp_path):
    """60,000 x 1 pixels once took 1.2 GB: every pixel became a column of 96."""
    for number, shape in enumerate([(1, 60_000), (60_000, 1)]):
        Image.fromarray(np.full((*shape, 3), 77, np.uint8)).save(tmp_path / f"{number}.png")
    code = (
        "import sys; from wallcheck.photos import read_photo\n"
        "assert all((read_photo(path, 96) == 77).all() for path in sys.argv[1:])\n"
        "print(*(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    files = [str(tmp_path / f"{number}.png") for number in range(2)]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300_000  # KiB

"""Photographs that are large, or carry much beside their pixels, and sizes that are none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.odd_files import colours, png, smooth
from wallcheck.photos import read_photo


def pillow_limits() -> tuple:
    return Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY


def test_a_panorama_is_read_without_a_word(tmp_path, recwarn):
    """100 million pixels, more than Pillow's limit for a warning; the JPEG is decoded at an eighth."""
    before = pillow_limits()
    image = Image.new("L", (20_000, 5_000), 60)
    image.save(tmp_path / "x.jpg")
    image.save(tmp_path / "x.png", compress_level=1)
    for name in ("x.jpg", "x.png"):
        assert (read_photo(tmp_path / name, 96) == 60).all()
    assert pillow_limits() == before
    assert not recwarn.list


def test_an_eighth_of_a_photograph_shows_the_same(tmp_path, monkeypatch):
    Image.fromarray(np.repeat(np.repeat(smooth(40, 60), 16, 0), 16, 1)).save(tmp_path / "x.jpg", quality=97)
    whole = read_photo(tmp_path / "x.jpg", 40).astype(int)
    monkeypatch.setattr("wallcheck.photos._reading.DRAFT_ABOVE", 100_000)
    assert np.abs(read_photo(tmp_path / "x.jpg", 40) - whole).max() <= 3


def huge(path: Path, width: int, height: int) -> Path:
    """A tiny PNG that claims to be of this size."""
    path.write_bytes(png((width, height, 8, 2), b"0"))
    return path


def test_too_many_pixels_are_refused_with_the_way_to_raise_the_limit(tmp_path, monkeypatch):
    path, before = huge(tmp_path / "x.png", 60_000, 60_000), pillow_limits()
    with pytest.raises(
        ValueError, match=r"x\.png has 60000 x 60000 pixels; 3600 million .* limit is 268 million; .*13\.4 GiB .*"
        r"set WALLCHECK_MAX_PIXELS=3600000000 in the environment$",
    ):  # fmt: skip
        read_photo(path, 96)
    assert pillow_limits() == before
    Image.new("RGB", (50, 50)).save(tmp_path / "small.png")
    monkeypatch.setenv("WALLCHECK_MAX_PIXELS", "2499")
    with pytest.raises(ValueError, match=r"small\.png has 50 x 50 pixels; .*WALLCHECK_MAX_PIXELS=2500"):
        read_photo(tmp_path / "small.png", 96)
    monkeypatch.setenv("WALLCHECK_MAX_PIXELS", "2500")
    assert not read_photo(tmp_path / "small.png", 96).any()
    monkeypatch.setenv("WALLCHECK_MAX_PIXELS", "many")
    with pytest.raises(ValueError, match="WALLCHECK_MAX_PIXELS is 'many', expected a whole number"):
        read_photo(tmp_path / "small.png", 96)


def test_pillows_own_limit_raises_ours(tmp_path, monkeypatch):
    monkeypatch.setattr("wallcheck.photos._reading.MOST_PIXELS", 100)
    path = huge(tmp_path / "x.png", 20, 20)
    for theirs, word in ((None, "no readable image"), (200, "no readable image"), (199, "has 20 x 20 pixels")):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", theirs)
        with pytest.raises(ValueError, match=word):
            read_photo(path, 8)
        assert theirs == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("where", ["text", "international", "profile"])
def test_long_texts_and_profiles_beside_the_pixels_do_not_matter(tmp_path, where):
    pixels, info, more = colours(20, 20), PngImagePlugin.PngInfo(), {}
    if where == "text":
        info.add_text("workflow", "x" * 2_000_000, zip=True)
    elif where == "international":
        for number in range(40):
            info.add_itxt(f"note {number}", "x" * 2_000_000, zip=True)
    else:
        more = dict(icc_profile=bytes(3_000_000))
    Image.fromarray(pixels).save(tmp_path / "x.png", pnginfo=info, **more)
    assert (read_photo(tmp_path / "x.png", 20) == pixels).all()


@pytest.mark.parametrize("size", [0, -3, "48", 48.5, True])
def test_a_size_that_is_none_is_not_blamed_on_the_photograph(tmp_path, size):
    Image.fromarray(colours(16, 16)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"^size is .*; give a side in pixels"):
        read_photo(tmp_path / "x.png", size)


def test_the_whole_of_a_photograph_is_upright_too(tmp_path):
    stored = np.zeros((20, 30, 3), np.uint8)
    stored[:, :15, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: what is left belongs on top
    Image.fromarray(stored).save(tmp_path / "p.png", exif=exif)
    whole = read_photo(tmp_path / "p.png", None)
    assert whole.shape == (30, 20, 3)
    assert (whole[:15, :, 0] == 255).all() and not whole[15:].any()


def test_a_phones_heic_under_another_name_is_called_that(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    with pytest.raises(ValueError, match=r"a.jpg is HEIC, whatever it is called.*convert it"):
        read_photo(tmp_path / "a.jpg", 24)

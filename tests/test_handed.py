"""Which view a map is, is measured: enlarging is undone, a lifted zero is taken off, and neither is called leakage."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from tests.nets import photos, tiny
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.handed import one_value, seen
from wallcheck.maps import stretched
from wallcheck.metrics import LEAKAGE
from wallcheck.numerics import unit_range
from wallcheck.regions import regions_on

MASS = LEAKAGE["leak_mass"]
SIZE = (24, 24)


@pytest.fixture(scope="module")
def net():
    return tiny()


@pytest.fixture(scope="module")
def raw(net):
    """Signed, and exactly 0 on unseen cells."""
    return METHODS["hirescam"](Evidence(net, photos(3, seed=5)[0]))


def by_opencv(maps):
    return torch.from_numpy(np.stack([cv2.resize(one.numpy(), SIZE) for one in maps]))


HOW = {
    "opencv": by_opencv,
    "bilinear": lambda maps: interpolate(maps[:, None], SIZE, mode="bilinear")[:, 0],
    "aligned": lambda maps: interpolate(maps[:, None], SIZE, mode="bilinear", align_corners=True)[:, 0],
    "bicubic": lambda maps: interpolate(maps[:, None], SIZE, mode="bicubic")[:, 0],
}


@pytest.mark.parametrize("how", HOW)
def test_enlarging_is_undone_and_an_exact_zero_stays_one(net, raw, how):
    found = seen(HOW[how](raw), net)
    assert found.grid.unit == "cells" and "undone here" in found.facts[0]
    torch.testing.assert_close(found.own, raw, rtol=0, atol=1e-5 * float(raw.abs().max()))
    assert torch.count_nonzero(found.own[:, found.grid.unseen]) == 0
    assert found.leakage(MASS).tolist() == [0, 0, 0]


def test_what_pytorch_grad_cam_makes_of_a_map_is_seen_through(net, raw):
    shown = unit_range(by_opencv(unit_range(raw.clamp(min=0))))
    found = seen(shown, net)
    assert found.facts[0].startswith("enlarged from the 12 x 12 cells") and "stretched to [0, 1]" in found.facts
    assert found.leakage(MASS).tolist() == [0, 0, 0]


def test_a_stretched_signed_map_is_an_artefact_and_no_leakage(net, raw):
    """0.4 of it lies on unseen pixels as it came, none as the method says it."""
    found = seen(stretched(raw, SIZE), net)
    parts = found.parts(MASS, SIZE, regions_on(net, SIZE))
    assert found.leakage(MASS).tolist() == [0, 0, 0]
    assert (found.lift > 0.1).all()
    assert (parts["artefact"] > 0.1).all() and (parts["came"] > 0.1).all()


def test_what_varies_on_unseen_cells_is_leakage_however_it_was_stretched(net):
    raw = METHODS["gradcam"](Evidence(net, photos(3, seed=5)[0]))
    found = seen(unit_range(raw), net)
    assert (found.lift == 0).all()
    assert torch.equal(found.own, unit_range(raw))
    assert (found.leakage(MASS) > 0.1).all()


def test_an_offset_of_a_map_that_is_not_stretched_is_leakage(net, raw):
    assert (seen(raw + raw.abs().max(), net).leakage(MASS) > 0.1).all()


def test_bleed_is_what_enlarging_shows_where_there_is_no_halo(net, raw):
    pixels = regions_on(net, SIZE)
    found = seen(HOW["bilinear"](raw), net)
    halo = found.parts(MASS, SIZE, pixels)["bleed"]
    assert halo.tolist() == [0, 0, 0]  # half a cell past the wall: all of it in the halo
    below = torch.zeros(24, 24, dtype=torch.bool)
    below[10:] = True  # as behind a trunk wall: the unseen pixels begin with the unseen cells
    bare = type(pixels)("pixels", below, torch.ones_like(below), SIZE)
    assert (found.parts(MASS, SIZE, bare)["bleed"] > 0).all()


def test_maps_of_pixels_and_of_tiles_are_not_taken_for_enlarged_ones(net):
    draw = torch.Generator().manual_seed(0)
    for maps in (
        torch.randn(2, 24, 24, generator=draw),
        torch.randn(2, 6, 6, generator=draw).repeat_interleave(4, 1).repeat_interleave(4, 2),
        torch.ones(2, 24, 24),
    ):
        found = seen(maps, net)
        assert found.facts[0] == "on pixels"
        assert torch.equal(found.own, found.came)


def test_a_coarse_map_is_not_blamed_for_its_coarseness(net):
    """Of 5 x 5 positions on 24 px, those that lie over a pixel that counts as seen or halo are the seen ones' alone."""
    maps = torch.zeros(1, 5, 5)
    unseen = regions_on(net, SIZE).unseen
    first = int(unseen[:, 0].nonzero()[0])
    straddling = first * 5 // 24
    maps[0, [0, straddling]] = 1
    found = seen(maps, net)
    assert "5 x 5, laid over the 24 x 24 pixels" in found.facts[0]
    assert found.leakage(MASS).tolist() == [0]
    maps[0, 4] = 1
    assert seen(maps, net).leakage(MASS).item() > 0.2


def test_later_maps_must_be_of_the_kind_of_the_first(net):
    with pytest.raises(ValueError, match="maps of the first images were on cells"):
        seen(torch.randn(2, 24, 24), net, "cells")


@pytest.mark.parametrize(
    ("given", "shape", "fact"),
    [
        (torch.ones(2, 1, 5, 5), (2, 5, 5), ()),
        (torch.ones(2, 7, 5, 5), (2, 5, 5), ("summed over 7 channels",)),
        (np.ones((2, 24, 24, 3), np.float32), (2, 24, 24), ("summed over 3 channels",)),
        (np.ones((2, 24, 24), np.uint8), (2, 24, 24), ()),
        ([torch.ones(2, 4, 4)], (2, 4, 4), ()),
        ([Image.new("F", (4, 4)), Image.new("F", (4, 4))], (2, 4, 4), ()),
    ],
)
def test_one_value_a_position(given, shape, fact):
    maps, told = one_value(given, 2, SIZE)
    assert (tuple(maps.shape), told) == (shape, fact)
    assert maps.is_floating_point()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (None, "got NoneType"),
        ((torch.ones(2, 4, 4), torch.ones(2)), "got tuple"),
        (torch.ones(2, 4, 4, dtype=torch.complex64), "complex64"),
        (torch.ones(3, 4, 4), r"got \(3, 4, 4\) for 2 images"),
        (torch.ones(2, 16), r"got \(2, 16\) for 2 images"),
        (
            [Image.new("RGBA", (4, 4)), Image.new("RGBA", (4, 4))],
            "got a picture of mode RGBA, expected a value at each",
        ),
        (Image.new("P", (4, 4)), r"got a picture of mode P, .* return it as \.convert\('L'\)"),
    ],
)
def test_what_is_no_map(given, error):
    with pytest.raises((TypeError, ValueError), match=error):
        one_value(given, 2, SIZE)

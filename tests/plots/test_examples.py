"""Kept maps as they are drawn: raw and as displayed, each with its share, the wall and the unseen region."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.plots.made import SOME, made_examples
from wallcheck import plots
from wallcheck.plots._regions import border, hatch, on_image


def test_examples_know_class_leakage_and_display(examples):
    assert examples.explained(1) == "cone"
    assert examples.leaked_cells("layercam", 0) == 0.0
    assert np.isnan(examples.leaked_cells("scorecam", 0)) and np.isnan(examples.leaked_pixels("scorecam", 0))
    raw = examples.maps["gradcam"][0].clip(min=0).astype(float)
    assert examples.leaked_cells("gradcam", 0) == pytest.approx(raw[2:].sum() / raw.sum())
    for method in ("gradcam", "zoomcam"):  # the halo, rows 8 to 11, does not count
        pixels = examples.shown(method, 0)
        wanted = pixels[12:].sum() / (pixels[:8].sum() + pixels[12:].sum())
        assert examples.leaked_pixels(method, 0) == pytest.approx(wanted)
    assert examples.leaked_cells("zoomcam", 0) is None
    assert examples.shown("gradcam", 0).shape == (24, 24)
    assert examples.shown("gradcam", 0).max() == 1.0
    assert np.count_nonzero(examples.shown("scorecam", 0)) == 0


def test_the_main_figure_shows_raw_maps_and_shares(examples):
    figure = plots.main_figure(examples, 1, ["gradcam", "layercam", "scorecam"])
    first, *others = figure.axes
    assert first.get_title() == "explained: cone"
    raw, shown = others[::2], others[1::2]
    assert [axes.get_title() for axes in raw] == ["Grad-CAM", "Layer-CAM", "Score-CAM"]
    counted = examples.leaked_cells("gradcam", 1), examples.leaked_pixels("gradcam", 1)
    assert [axes.get_xlabel() for axes in raw] == [f"{counted[0]:.0%}", "0", "empty"]
    assert [axes.get_xlabel() for axes in shown] == [f"{counted[1]:.0%}", "0", "empty"] and counted[0] != counted[1]
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"unseen pixels", "the wall, between cells", "below 0 (raw map)", "the map's highest value"} < set(key)
    for axes, method in zip(raw, ("gradcam", "layercam", "scorecam"), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), examples.maps[method][1])
        low, high = axes.images[0].get_clim()
        assert -low == high == np.abs(examples.maps[method][1]).max()


def test_the_gallery_has_a_panel_for_each_method_and_image(examples):
    assert len(plots.gallery(examples).axes) == 2 * (1 + len(SOME) - 1 + 1)  # images, no constant, zoomcam too
    with pytest.raises(ValueError, match="image 2 was not kept, only 0 to 1"):
        plots.gallery(examples, images=[0, 2])
    with pytest.raises(ValueError, match="no maps of rise were kept"):
        plots.gallery(examples, methods=["rise"])


def test_damaged_examples_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no examples at"):
        plots.Examples.load(tmp_path / "none.npz")
    np.savez(tmp_path / "whole.npz", **made_examples())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:2000])
    with pytest.raises(ValueError, match="is damaged"):
        plots.Examples.load(tmp_path / "cut.npz")


def test_a_region_of_any_shape_has_its_border():
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True
    assert sorted(border(mask)) == [
        [(0.5, 0.5), (0.5, 2.5)], [(0.5, 0.5), (2.5, 0.5)], [(0.5, 2.5), (2.5, 2.5)], [(2.5, 0.5), (2.5, 2.5)],
    ]  # fmt: skip
    axes = Figure().subplots()
    hatch(axes, mask, "//", "white")
    hatch(axes, np.zeros((4, 4), bool), "//", "white")
    assert len(axes.patches) == 1
    assert on_image(mask, (8, 8)).sum() == 16

"""Repairs and what they cost: pairs from the registry, paired differences, the page and its figure."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments import repairs
from tests.nets import CLASSES, SIZE, photos, trained_tiny
from wallcheck import models, plots
from wallcheck.cams import METHODS
from wallcheck.data import to_display
from wallcheck.plots.repairs import PANELS
from wallcheck.statistics import interval


def test_every_repair_knows_what_it_repairs():
    found = {(repair.name, base.name) for repair, base in repairs.pairs()}
    assert {repair for repair, _ in found} >= {name for name, method in METHODS.items() if method.family == "repair"}
    assert found >= {
        ("sealed_gradcam", "gradcam"),
        ("reciprocam_subtracted", "reciprocam"),
        ("eigengradcam_uncentred", "eigengradcam"),
        ("rise_centred", "rise"),
        ("lift_elementwise", "liftcam"),
    }
    assert all(repair.grid == base.grid for repair, base in repairs.pairs())


@pytest.mark.parametrize(
    ("metric", "low", "high", "said"),
    [
        ("leak_mass", -0.2, -0.1, "better"),
        ("average_drop", 0.1, 0.2, "worse"),
        ("insertion", 0.1, 0.2, "better"),
        ("insertion", -0.2, -0.1, "worse"),
        ("insertion", -0.1, 0.2, "same"),
        ("insertion", 0.0, 0.0, "same"),
        ("insertion", np.nan, np.nan, "too few"),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(metric, low, high, said):
    assert repairs.verdict(dict(mean=(low + high) / 2, low=low, high=high), metric) == said


def test_differences_are_paired_by_image_and_leave_empty_maps_out():
    values = {"gradcam": [0.5, 0.7, 0.9], "sealed_gradcam": [0.1, np.nan, 0.3]}
    rows = pd.DataFrame(
        [
            dict(method=method, metric="leak_mass", image=image, value=value)
            for method, column in values.items()
            for image, value in reversed([*enumerate(column)])
        ]
    )
    found = repairs.difference(rows, METHODS["sealed_gradcam"], "leak_mass")
    assert found == interval(np.array([0.1 - 0.5, np.nan, 0.3 - 0.9]))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The whole command on four images of the tiny net; its object is the bright patch above the wall."""
    folder = tmp_path_factory.mktemp("repairs")
    images, labels = photos(4, seed=7)
    masks = np.zeros((4, SIZE, SIZE), np.uint8)
    for mask, label in zip(masks, labels.tolist(), strict=True):
        mask[2:7, 5 * label + 1 : 5 * label + 5] = repairs.SEEN_OBJECT
    (folder / "set").mkdir()
    pixels = (255 * to_display(images)).round().astype(np.uint8)
    for name, array in (("images", pixels), ("labels", labels.numpy()), ("masks", masks)):
        np.save(folder / "set" / f"{name}.npy", array)
    (folder / "set" / "set.json").write_text(json.dumps(dict(name="patches", classes=[*"abcd"][:CLASSES])))
    models.save(trained_tiny(), folder / "model.safetensors")
    where = dict(out=str(folder / "run"), docs=str(folder / "docs"))
    repairs.main(repairs.RepairRun(str(folder / "model.safetensors"), str(folder / "set"), batch_size=3, **where))
    return folder


def test_the_command_leaves_rows_figure_and_page(study):
    rows = pd.read_parquet(study / "run" / "repairs.parquet")
    methods = {method.name for method in repairs.compared(trained_tiny())}
    assert set(rows["method"]) == methods
    assert len(rows) == len(methods) * len(repairs.MEASURED) * 4
    assert {path.name for path in (study / "run" / "figures").iterdir()} == {"repairs.pdf", "repairs.png"}
    page = (study / "docs" / "repairs.md").read_text()
    assert "| sealed Grad-CAM − Grad-CAM |" in page and "leak_mass (pixels) ↓" in page
    assert "first 4 images of `patches`" in page
    assert (study / "docs" / "repairs.png").is_file()


def test_what_is_sealed_leaks_nothing_and_what_is_constant_drops_nothing(study):
    rows = pd.read_parquet(study / "run" / "repairs.parquet")
    sealed = rows[rows["method"].str.startswith("sealed_") & (rows["metric"] == "leak_mass")]["value"].dropna()
    assert len(sealed)
    assert (sealed == 0).all()
    assert (repairs.values_of(rows, "constant", "average_drop") == 0).all()
    area = 4 * 5 / SIZE**2
    np.testing.assert_allclose(repairs.values_of(rows, "constant", "energy_inside"), area, rtol=1e-6)


def test_rows_do_not_depend_on_the_batch(study):
    rows = pd.read_parquet(study / "run" / "repairs.parquet")
    alone = repairs.RepairRun(images=str(study / "set"), count=1)
    again = repairs.measured(trained_tiny(), repairs.open_images(alone.images, SIZE), alone)
    both = again.merge(rows, on=["method", "metric", "image"], suffixes=("", "_before"))
    assert len(both) == len(again)
    np.testing.assert_allclose(both["value"], both["value_before"], rtol=1e-3, atol=1e-4)


def test_the_figure_draws_means_and_an_arrow_for_each_repair(study):
    rows = pd.read_parquet(study / "run" / "repairs.parquet")
    means = rows.groupby(["method", "metric"], observed=True)["value"].mean()
    names = set(rows["method"])
    for axes, measure in zip(plots.repairs(rows).axes, PANELS, strict=True):
        drawn = {str(line.get_gid()).removeprefix("mean:"): line for line in axes.lines if line.get_gid()}
        assert set(drawn) == names
        for name, line in drawn.items():
            assert line.get_xydata()[0].tolist() == [means[name, "leak_mass"], means[name, measure]]
        arrows = [text for text in axes.texts if getattr(text, "arrow_patch", None)]
        assert len(arrows) == sum(METHODS[name].repairs in names for name in names)
    with pytest.raises(ValueError, match="no column insertion"):
        plots.repairs(rows[rows["metric"] != "insertion"])


def test_photographs_have_no_objects(study, tmp_path):
    Image.new("RGB", (30, 30)).save(tmp_path / "one.png")
    options = repairs.RepairRun(str(study / "model.safetensors"), str(tmp_path), out=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="has no object masks; give a set made by python -m data_gen"):
        repairs.main(options)

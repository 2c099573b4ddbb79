"""Two audits, image by image: what is paired, what is refused."""

import numpy as np
import pytest

from tests.nets import tiny, trained_tiny
from tests.sets import write_photographs
from wallcheck.comparing import compared, listing
from wallcheck.data import PhotoFolder
from wallcheck.results import merge
from wallcheck.running import run
from wallcheck.statistics import paired
from wallcheck.study import Study
from wallcheck.terminal import stacked

METHODS = ["gradcam", "hirescam", "gradient"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    images = PhotoFolder(write_photographs(folder / "photos", 8), 24)
    quick = dict(metrics=["leak_mass", "leak_l2"], examples=0)
    run(Study({"trained": trained_tiny()}, [images], METHODS, **quick), folder / "one")
    run(Study({"untrained": tiny()}, [images], METHODS[:2], **quick), folder / "two")
    run(Study({"trained": trained_tiny(), "untrained": tiny()}, [images], METHODS[:2], **quick), folder / "both")
    return folder


def test_two_runs_are_compared_image_by_image(runs):
    found = compared(runs / "one", runs / "two").set_index("method")
    assert list(found.index) == ["gradcam", "hirescam"]  # what both have
    rows = [
        merge(runs / name, metric="leak_mass", method="gradcam", view="rectified", on="grid") for name in ("one", "two")
    ]
    expected = paired(*(table.sort_values("image")["value"].to_numpy() for table in rows))
    for name, value in expected.items():
        assert found.loc["gradcam", name] == pytest.approx(value, nan_ok=True)
    assert found.loc["gradcam", ["first", "second"]].tolist() == ["trained", "untrained"]
    assert found.loc["hirescam", "difference"] == 0 and found.loc["gradcam", "p_holm"] >= found.loc["gradcam", "p"]


def test_two_nets_of_one_run_and_the_same_the_other_way(runs):
    one, other = compared(runs / "both"), compared(runs / "both", nets=("untrained", "trained"))
    across = compared(runs / "one", runs / "two")
    np.testing.assert_allclose(one["difference"], across["difference"])
    np.testing.assert_allclose(one["difference"], -other["difference"])
    assert compared(runs / "one", runs / "both", nets=("trained", "trained"))["difference"].tolist() == [0, 0]


def test_a_pixel_map_is_compared_on_pixels_and_l2_as_displayed(runs):
    found = compared(runs / "one", runs / "one", methods=["gradient"])
    assert found["method"].tolist() == ["gradient"] and found["difference"].tolist() == [0]
    shown = merge(runs / "one", metric="leak_l2", view="displayed", on="image", method="gradcam")["value"]
    assert compared(runs / "one", runs / "one", metric="leak_l2", methods=["gradcam"])["mean_first"][0] == shown.mean()


def test_the_table_reads(runs):
    text = stacked(listing(compared(runs / "both"), "leak_mass"), 60)
    assert "leak_mass: trained less untrained" in text and "difference: +0.000 [" in text


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    with pytest.raises(ValueError, match=r"that run holds 1 nets \(trained\); name two with --nets"):
        compared(runs / "one")
    with pytest.raises(ValueError, match="no net 'x' was audited there, only trained"):
        compared(runs / "one", runs / "two", nets=("x", "untrained"))
    with pytest.raises(ValueError, match="share no image and method with leak_mass"):
        compared(runs / "one", runs / "two", methods=["gradient"])
    with pytest.raises(ValueError, match=r"leak_any was not measured in .*one; audit it there"):
        compared(runs / "one", runs / "two", metric="leak_any")
    with pytest.raises(FileNotFoundError, match="holds no rows; audit into it first"):
        compared(tmp_path)


def test_other_images_of_the_same_name_are_refused(runs, tmp_path):
    folder = write_photographs(tmp_path / "photos", 8)
    first = sorted(folder.rglob("*.*"))[0]
    first.unlink()  # every image moves one number up
    run(
        Study({"untrained": tiny()}, [PhotoFolder(folder, 24)], ["gradcam"], metrics=["leak_mass"], examples=0),
        tmp_path / "run",
    )
    with pytest.raises(ValueError, match="image 0 of photos is not the same in both runs"):
        compared(runs / "one", tmp_path / "run")

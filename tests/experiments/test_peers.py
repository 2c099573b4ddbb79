"""The page of other libraries' explainers, from measured rows to table and figure."""

import numpy as np
import pandas as pd
import pytest

from experiments import flags, peers
from tests.nets import photos, trained_tiny
from wallcheck import adapters, plots
from wallcheck.evidence import Evidence

NAMES = (
    "pytorch_grad_cam.HiResCAM",
    "pytorch_grad_cam.GradCAM",
    "torchcam.CAM",
    "captum.LayerGradCam",
    "zennit.Gradient",
)


@pytest.fixture(scope="module")
def rows():
    ev = Evidence(trained_tiny(), photos(6, seed=5)[0])
    return pd.concat([peers.row(name, adapters.Peer.of(name), ev) for name in NAMES], ignore_index=True)


def test_a_row_says_what_was_measured(rows):
    of = rows.set_index(["library", "name"])
    assert of.loc[("grad-cam", "HiResCAM"), "value"] == 0
    assert of.loc[("grad-cam", "GradCAM"), "value"] > 0.1
    assert of.loc[("grad-cam", "GradCAM"), "left"].startswith("gradients on ")
    assert of.loc[("zennit", "Gradient"), "left"] == ""
    for library, name, ours in (
        ("grad-cam", "HiResCAM", "hirescam"),
        ("captum", "LayerGradCam", "gradcam"),
        ("zennit", "Gradient", "gradient"),
    ):
        assert of.loc[(library, name), "ours"] == ours
        assert of.loc[(library, name), "parity"] <= peers.EQUAL
    assert "does not support" in of.loc[("torchcam", "CAM"), "error"]
    assert np.isnan(of.loc[("torchcam", "CAM"), "value"])


def test_the_page_has_a_line_for_each_and_says_what_does_not_apply(rows):
    page = peers.page(rows, peers.PeersRun(), "a net")
    assert "**2 of the 4 that apply put positive attribution where the net provably" in page
    (line,) = [line for line in page.splitlines() if line.startswith("| `HiResCAM`")]
    assert line.startswith("| `HiResCAM` | cells | 0 | 0 | 0 | 0 | hirescam = | gradients on ")
    assert "| torchcam | `CAM` | This CAM method does not support" in page


def test_the_figure_has_a_line_for_each_that_applies(rows):
    figure = plots.peers(rows)
    names = [label.get_text() for axes in figure.axes if axes.axison for label in axes.get_yticklabels()]
    assert sorted(names) == ["GradCAM", "Gradient", "HiResCAM", "LayerGradCam"]


def test_the_config_is_the_default():
    assert flags.read(peers.PeersRun, ["--config", "experiments/configs/peers.yaml"]) == peers.PeersRun()
    assert set(peers.OURS) <= set(adapters.peers())


def test_the_whole_study_on_what_the_package_ships(tmp_path):
    given = dict(model="assets:plain", images="assets:stack_mix")
    places = dict(out=str(tmp_path / "run"), docs=str(tmp_path / "docs"))
    peers.main(peers.PeersRun(count=2, methods=["captum.Saliency"], **given, **places))
    page = (tmp_path / "docs" / "peers.md").read_text()
    assert "1 explainers of 1 libraries on a net for 64 px" in page
    assert "right on all 30 images of the set), of which 50% of the pixels and 75% of the cells are unseen" in page
    assert "**0 of the 1 that apply" in page

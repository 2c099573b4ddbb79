"""Conceptor-CAM's claim, small: what is compared, counted and told."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import conceptor_claim as claim
from experiments import conceptor_forms as forms
from tests.nets import photos, trained_tiny
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence


@pytest.fixture(scope="module")
def evidence():
    return Evidence(trained_tiny(), photos(3)[0])


@pytest.mark.parametrize("base", ["gradcam", "gradcampp", "hirescam", "liftcam"])
def test_the_plain_form_is_the_registered_method(evidence, base):
    maps = dict(forms.maps_of(evidence, METHODS[base]))
    assert torch.equal(maps[forms.BASE], METHODS[base](evidence))
    assert torch.equal(maps[forms.PLAIN], METHODS[f"conceptor_{base}"](evidence))
    assert set(maps) == {forms.BASE, *forms.FORMS}


def test_every_form_of_a_map_that_is_shared_differs_from_the_others(evidence):
    maps = dict(forms.maps_of(evidence, METHODS["eigencam"]))
    names = [forms.PLAIN, "inter", "intra", "both, no Boolean", "aperture x 4"]
    assert not [
        (a, b) for a in names for b in names if a < b and torch.equal(maps[a], maps[b]) and b != "both, no Boolean"
    ]


def test_all_methods_on_cells_are_bases_but_controls_conceptors_and_repairs(evidence):
    found = {base.name for base in forms.bases_of(evidence.net, [], dear=False)}
    assert {"gradcam", "scorecam", "eigencam", "hirescam"} <= found
    assert not found & {"constant", "conceptor_gradcam", "sealed_gradcam", "opticam", "gradient"}
    assert "opticam" in {base.name for base in forms.bases_of(evidence.net, [], dear=True)}


def made(base: list[float], form: list[float]) -> pd.DataFrame:
    """Rows of one base, three equal nets, one form that changes it and others that do not."""
    tables = []
    for name in (forms.BASE, *forms.FORMS):
        values = np.array(form if name == forms.PLAIN else base)
        for seed in range(3):
            tables.append(
                pd.DataFrame(dict(image=range(len(values)), average_drop=values, average_increase=values > 0.5))
                .assign(form=name, seed=seed, base="gradcam", average_increase=lambda t: t["average_increase"] * 1.0)
            )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def test_gains_by_hand():
    values = claim.values_of(made([0.8] * 7 + [np.nan], [0.4] * 8))  # an empty map is a drop of 1
    table = claim.summary(values).set_index(["form", "measure"])
    line = table.loc[(forms.PLAIN, "average_drop")]
    assert line["of_base"] == pytest.approx(0.825)
    assert line["difference"] == pytest.approx(-0.425)
    assert line["gain_mean"] == pytest.approx(0.825 / 0.4 - 1)
    assert line["gain_low"] < line["gain_mean"] < line["gain_high"]
    assert table.loc[(forms.PLAIN, "average_increase"), "gain_mean"] == pytest.approx(-1)
    tested = claim.tests(values).set_index(["form", "measure"])
    assert tested.loc[(forms.PLAIN, "average_drop"), "rank_biserial"] == -1
    assert tested.loc[("inter", "average_drop"), "p_holm"] == 1


def test_the_run_keeps_every_image_of_every_net_and_tells_them(tmp_path):
    options = claim.ConceptorRun(
        bases=["gradcam", "hirescam"], seeds=3, images=6, train_count=64, epochs=0,
        nets=str(tmp_path / "nets"), out=str(tmp_path / "run"), docs=str(tmp_path / "docs"),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claim.small_nets, "HELD_OUT", 20)
        claim.main(options)
    rows = pd.read_parquet(tmp_path / "run" / "rows.parquet")
    assert len(rows) == 2 * 3 * 6 * (1 + len(forms.FORMS))
    assert not rows.duplicated(["base", "form", "seed", "image"]).any()
    found = json.loads((tmp_path / "docs" / "conceptor_claim.json").read_text())["found"]
    assert len(found["forms"]["gain_mean"]) == len(found["tests"]["p_holm"]) == 2 * 2 * len(forms.FORMS)
    page = (tmp_path / "docs" / "conceptor_claim.md").read_text()
    assert "168.15 %" in page
    assert "| HiResCAM |" in page

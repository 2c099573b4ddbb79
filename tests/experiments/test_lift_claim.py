"""LIFT-CAM's claim, small: the reference is SHAP, weights are the methods' own, and what is kept and told."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import lift_claim as claim
from experiments.small_nets import Recipe
from tests.experiments.kept import keeps_what_is_finished
from tests.nets import photos, tiny
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.numerics import weighted_sum

NAMES = {
    "Grad-CAM": "gradcam",
    "XGrad-CAM": "xgradcam",
    "Ablation-CAM": "ablationcam",
    "LIME, 1 K samples": "limecam",
    "LRP": "lrpcam",
    "LIFT": "liftcam",
    "SHAP, 64 orders": "shapcam",
}


@pytest.fixture(scope="module")
def evidence():
    return Evidence(tiny(), photos(3)[0])


def test_weights_are_those_of_the_methods(evidence):
    functions = claim.weight_functions(8)
    for told, name in NAMES.items():
        assert torch.equal(weighted_sum(functions[told](evidence), evidence.activations), METHODS[name](evidence)), name


def test_halves_of_the_reference_are_independent_and_near_the_exact_sum(evidence):
    first, second = claim.converged(evidence, orders=128)
    exact = claim.exact_shap_weights(evidence).double()
    assert not torch.equal(first, second)
    torch.testing.assert_close((first + second) / 2, exact, rtol=0, atol=0.03 * float(exact.abs().max()))


def test_agreement_by_hand():
    weights, truth = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [3.0, 4.0]])
    found = claim.compared(weights, truth, "mine")
    assert found["cosine"].tolist() == pytest.approx([0.5**0.5, np.nan], nan_ok=True)
    assert found["error"].tolist() == pytest.approx([1.0, 1.0])
    assert np.isnan(found["correlation"][1])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("claim")
    options = claim.LiftRun(
        channels=4, many=[], seeds=3, images=4, train_count=64, epochs=1,
        nets=str(folder / "nets"), out=str(folder / "run"), docs=str(folder / "docs"),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claim, "HEADS", {"linear": claim.HEADS["linear"]})
        patch.setattr(claim.small_nets, "HELD_OUT", 20)
        claim.main(options)
        yield options, folder


def test_with_a_linear_head_lift_lrp_and_ablation_are_shap(run):
    _, folder = run
    rows = pd.read_parquet(folder / "run" / "rows.parquet")
    assert len(rows) == 2 * 3 * 4 * 10
    exact = rows[rows["method"].isin(["LIFT", "LRP", "Ablation-CAM"])]
    assert (exact["error"] < 1e-4).all()
    page = (folder / "docs" / "lift_claim.md").read_text()
    found = json.loads((folder / "docs" / "lift_claim.json").read_text())
    mean = rows.query("method == 'Grad-CAM' and state == 'trained'").groupby("seed")["cosine"].mean().mean()
    found = pd.DataFrame(found["found"]["agreement"]).set_index(["method", "state", "measure"])
    assert found.loc[("Grad-CAM", "trained", "cosine"), "mean"] == pytest.approx(mean, rel=1e-3)
    assert f"Grad-CAM {mean:.3f}." in page
    assert "--train_count 64" in page


def test_what_is_finished_is_kept_and_other_settings_are_refused(run):
    options, folder = run
    keeps_what_is_finished(claim, options, folder / "docs" / "lift_claim.md", told="channels: ", channels=5)


def test_a_recipe_names_a_net():
    one, other = Recipe(), Recipe(seed=1)
    assert one.digest != other.digest
    assert one.digest == Recipe().digest
    assert one.with_last(10).built().channels == 10

"""The studies' own claims on small nets: paint, seals, what is below the wall; and what all studies share."""

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import (
    blind_metrics,
    conceptor_claim,
    dependence,
    flags,
    gradient_training,
    lift_claim,
    quadrants,
    sealing,
    study,
    two_sided,
)
from experiments.measured_maps import measure
from tests.nets import photos, trained_tiny
from wallcheck import plots
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.maps import SEALED, displayed
from wallcheck.masking import asked
from wallcheck.metrics import FAITHFULNESS
from wallcheck.numerics import probabilities

BLIND = ("average_drop", "average_increase", "average_gain", "drop_in_deletion")
STUDIES = {
    "blind_metrics": blind_metrics.BlindMetricsRun,
    "conceptor_claim": conceptor_claim.ConceptorRun,
    "dependence": dependence.DependenceRun,
    "gradient_training": gradient_training.GradientTrainingRun,
    "lift_claim": lift_claim.LiftRun,
    "quadrants": quadrants.QuadrantRun,
    "sealing": sealing.SealingRun,
    "two_sided": two_sided.TwoSidedRun,
}


@pytest.fixture(scope="module")
def evidence():
    return Evidence(trained_tiny(), photos(6)[0])


@pytest.fixture(scope="module")
def inside(evidence):
    region = torch.zeros(evidence.images[:, 0].shape, dtype=torch.bool)
    region[:, 2:7, 1:12] = True
    return region


@pytest.mark.parametrize("paint", blind_metrics.PAINTS[:-1])
@pytest.mark.parametrize("method", ["gradcam", "gradcampp"])
def test_paint_on_unseen_pixels_moves_leakage_and_no_blind_metric_by_a_bit(evidence, inside, method, paint):
    shown = displayed(METHODS[method](evidence), evidence.net.image_size)
    before = measure(evidence, shown, shown, inside)
    other = blind_metrics.painted(evidence, shown, paint)
    after = measure(evidence, other, other, inside)
    for name in BLIND:
        assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["leak_mass"], after["leak_mass"])
    seen = torch.from_numpy(~evidence.regions.unseen)
    assert torch.equal(shown[:, seen], other[:, seen])


def test_brighter_than_all_costs_because_the_rest_is_dimmed(evidence, inside):
    shown = displayed(METHODS["hirescam"](evidence), evidence.net.image_size)
    dimmed = blind_metrics.painted(evidence, shown, blind_metrics.PAINTS[-1])
    before, after = (measure(evidence, m, m, inside, imputed=False)["average_drop"] for m in (shown, dimmed))
    assert not torch.equal(before, after)


@pytest.mark.parametrize("method", ["gradcam", "gradcampp", "eigencam", "constant", "unseen_only"])
def test_a_sealed_display_costs_no_average_drop_unless_nothing_is_left(evidence, method):
    raw, unseen = METHODS[method](evidence), torch.from_numpy(evidence.regions.unseen)
    shown, closed = displayed(raw, evidence.net.image_size), SEALED.alter(raw, unseen, evidence.net.image_size)
    assert torch.count_nonzero(closed[:, unseen]) == 0
    assert torch.equal(closed[:, ~unseen], shown[:, ~unseen])
    before = evidence.of_target(probabilities(evidence.logits.double()))
    left = (closed > 0).flatten(1).any(1)
    for name in BLIND[:3]:
        drop, kept = (FAITHFULNESS[name](before, asked(evidence, m, names=["kept"])["kept"]) for m in (shown, closed))
        assert torch.equal(drop[left], kept[left]), name
        assert kept[~left].isnan().all()


def test_other_pixels_below_the_wall_change_activations_and_no_logit(evidence):
    for level in dependence.BELOW[1:]:
        images = dependence.below(evidence.images, evidence.net, level)
        other = evidence.at(images)
        assert torch.equal(other.logits, evidence.logits), level
        assert not torch.equal(other.activations, evidence.activations), level


def test_classes_explained_are_what_they_are_called(evidence):
    found = dependence.classes(evidence.net, evidence.images, torch.zeros(6, dtype=torch.long))
    assert torch.equal(evidence.logits.gather(1, found["least"][:, None])[:, 0], evidence.logits.amin(1))
    assert torch.equal(evidence.logits.gather(1, found["second"][:, None])[:, 0], evidence.logits.sort(1).values[:, -2])


def test_ranks_of_methods_by_hand():
    tables = []
    for method, leak in (("gradcam", 0.5), ("xgradcam", 0.25), ("hirescam", 0.0)):
        for metric, value in (("leak_mass", leak), ("average_drop", -leak), ("insertion", 0.5)):
            tables.append(pd.DataFrame([(s, i, method, metric, value) for s in range(3) for i in range(6)]))
    rows = pd.concat(tables).set_axis(["seed", "image", "method", "metric", "value"], axis=1)
    found = blind_metrics.ranked(rows).set_index("metric")
    assert found.loc["average_drop", "mean"] == -1
    assert np.isnan(found.loc["insertion", "mean"])


def test_a_ratio_of_means_and_its_interval():
    top, bottom = pd.DataFrame([[1.0, 1.2, 0.8]] * 6), pd.DataFrame([[2.0, 2.0, 2.0]] * 6)
    found = study.ratio_of_means(top, bottom)
    assert found["mean"] == pytest.approx(0.5)
    assert found["low"] == pytest.approx(0.5 - 0.1 * 4.3027 / 3**0.5, abs=1e-3)  # three nets: t of 2 degrees
    assert np.isnan(study.ratio_of_means(top, 0 * bottom)["mean"])


def test_the_front_is_what_no_other_point_beats():
    assert plots.undominated(np.array([[0.0, 2.0], [1.0, 1.0], [1.0, 2.0], [2.0, 0.0]])).tolist() == [
        True,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("name", STUDIES)
def test_a_studys_config_is_its_default_and_full_takes_no_value(name):
    cls = STUDIES[name]
    assert flags.read(cls, ["--config", f"experiments/configs/{name}.yaml"]) == cls()
    assert flags.read(cls, ["--full"]).full
    assert not flags.read(cls, []).full

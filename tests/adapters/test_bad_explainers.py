"""Bad explainers among good ones: each is told as what it is, and costs itself alone."""

import copy
import warnings

import numpy as np
import pytest
import torch

from tests.adapters.explainers import BAD
from tests.nets import tiny
from wallcheck.adapters import LeftBehind
from wallcheck.auditing import Incomplete, audit

GOOD = ["gradcam", "hirescam"]


@pytest.fixture(scope="module")
def audited(images):
    net = tiny()
    before = copy.deepcopy(net.state_dict())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = audit(net, images, [*GOOD, *BAD], batch_size=4)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in [*net.modules(), *net.model.modules()])
    failures = {one["method"]: one for one in table.attrs["failures"]}
    return table, failures, caught


def test_the_others_results_are_kept(audited, images):
    table = audited[0]
    alone = audit(tiny(), images, GOOD, batch_size=4)
    kept = table[table["method"].isin(GOOD)].reset_index(drop=True)
    assert kept["value"].equals(alone["value"])
    (told,) = [one for one in audited[2] if one.category is Incomplete]
    assert all(name in str(told.message) for name in audited[1])
    assert told.filename == __file__


def rows_of(audited, name):
    return audited[0][audited[0]["method"] == name]


def test_a_method_that_mutates_the_model(audited):
    failure = audited[1]["mutates"]
    assert failure["count"] == 12
    assert failure["error"] == "mutates changed features_0.weight; work on copies, x.clone()"
    assert rows_of(audited, "mutates").empty


def test_a_method_that_leaves_a_hook(audited):
    told = {str(one.message) for one in audited[2] if one.category is LeftBehind}
    assert told == {"leaves_a_hook left behind: hooks on target. All was put back"}
    assert rows_of(audited, "leaves_a_hook")["image"].nunique() == 12


def test_a_method_that_returns_nan(audited):
    failure = audited[1]["nan"]
    assert (failure["count"], failure["error"]) == (12, "nan gave NaN or infinity; are the weights finite?")
    assert rows_of(audited, "nan").empty


def test_a_method_that_returns_a_wrong_shape(audited):
    failure = audited[1]["wrong_shape"]
    assert failure["count"] == 12 and "got (5, 12, 12) for 4 images" in failure["error"]


def test_a_method_that_returns_a_constant(audited):
    found = rows_of(audited, "constant_map")
    assert set(found.loc[found["metric"] == "bright_area", "value"]) == {1}  # bright everywhere: the table says it
    mass = found[(found["metric"] == "leak_mass") & (found["on"] == "grid") & (found["view"] == "raw")]["value"]
    assert np.allclose(mass, 7 / 12)


def test_a_method_that_raises_on_the_third_batch(audited):
    failure = audited[1]["ThirdBatch"]
    assert (failure["image"], failure["count"], failure["error"]) == (8, 4, "RuntimeError: out of luck")
    assert set(rows_of(audited, "ThirdBatch")["image"]) == set(range(8))

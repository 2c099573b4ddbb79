"""Means with intervals."""

import numpy as np
import pandas as pd
import pytest

from tests.results.tables import rows
from wallcheck.results import KEY, interval, sorted_rows, summary

NAN = float("nan")


def test_mean_interval_and_shares_by_hand():
    found = interval(np.array([1.0, NAN, 3.0, NAN]))
    assert (found["mean"], found["count"], found["empty"]) == (2.0, 4, 0.5)
    assert found["std"] == pytest.approx(2**0.5)  # unbiased: sqrt(((1 - 2)^2 + (3 - 2)^2) / 1)
    assert (found["low"], found["high"]) == (1.0, 3.0)  # a quarter of the resamples is (1, 1), another (3, 3)


@pytest.mark.parametrize(
    ("values", "mean", "empty"), [([NAN, NAN], NAN, 1.0), ([], NAN, 1.0), ([5.0], 5.0, 0.0), ([2.0, 2.0], 2.0, 0.0)]
)
def test_intervals_of_few_or_equal_values_are_points(values, mean, empty):
    found = interval(np.array(values))
    np.testing.assert_equal((found["mean"], found["low"], found["high"]), (mean, mean, mean))
    assert found["empty"] == empty


def test_the_interval_covers_at_its_rate():
    """Means of 60 exponential values, 400 times: 95 % intervals by percentile bootstrap cover 92 % to 95 % there."""
    draw = np.random.default_rng(0)
    found = [interval(draw.exponential(size=60), seed=s, resamples=400) for s in range(400)]
    covered = np.mean([one["low"] <= 1 <= one["high"] for one in found])
    assert 0.90 < covered < 0.97


def test_summary_repeats_by_seed_and_leaves_empty_maps_out_of_the_mean():
    table = rows(range(40), methods=("a",))
    table.loc[(table["image"] < 10) & (table["metric"] == "leak_mass"), "value"] = NAN
    table = sorted_rows([table])
    one = summary(table, seed=1)
    pd.testing.assert_frame_equal(one, summary(table, seed=1))
    mass = one[one["metric"] == "leak_mass"].iloc[0]
    kept = table[(table["metric"] == "leak_mass") & (table["image"] >= 10)]["value"]
    assert mass["mean"] == pytest.approx(kept.mean(), rel=1e-12)
    assert mass["std"] == pytest.approx(kept.std(), rel=1e-12)
    assert (mass["count"], mass["empty"]) == (40, 0.25)
    assert mass["low"] < mass["mean"] < mass["high"]
    assert one[one["metric"] == "leak_any"]["empty"].item() == 0
    assert list(one.columns) == [*(k for k in KEY if k != "image"), "mean", "low", "high", "std", "count", "empty"]


def test_summary_by_one_column():
    table = sorted_rows([rows()])
    by = summary(table, by=["method"])
    assert by["method"].tolist() == ["a", "b"]
    assert by["count"].tolist() == [12, 12]
    assert by["mean"].tolist() == pytest.approx(table.groupby("method", observed=True)["value"].mean().tolist())

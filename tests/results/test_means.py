"""Means with intervals."""

import pytest

from tests.results.tables import rows
from wallcheck.results import KEY, sorted_rows, summary

NAN = float("nan")


def test_summary_leaves_empty_maps_out_of_the_mean():
    table = rows(range(40), methods=("a",))
    table.loc[(table["image"] < 10) & (table["metric"] == "leak_mass"), "value"] = NAN
    table = sorted_rows([table])
    one = summary(table)
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

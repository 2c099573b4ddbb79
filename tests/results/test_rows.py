"""Rows: merging, order, and what was measured twice or not at all."""

import numpy as np
import pandas as pd
import pytest

from tests.results.tables import rows
from wallcheck.results import COLUMNS, KEY, Failure, MeasuredTwice, sorted_rows, told, unresolved


def test_rows_stand_in_the_order_of_their_key():
    table = sorted_rows([rows(range(12), methods=("zz", "a", "m"))])
    keys = [(*map(str, key[:2]), key[2], *map(str, key[3:])) for key in table[KEY].to_numpy().tolist()]
    assert keys == sorted(keys)
    assert list(table.columns) == COLUMNS
    assert table["image"].dtype.kind == "i"
    assert len(table) == 12 * 3 * 2


def test_what_was_measured_twice_with_one_result_is_kept_once():
    """To rounding: batches of two sizes agree to 5e-7."""
    one, two = rows(), rows(range(2, 9), seed=1)
    two["value"] += 5e-7
    table = sorted_rows([one, two])
    assert len(table) == len(sorted_rows([rows(range(9))]))
    pd.testing.assert_frame_equal(table, sorted_rows([two, one]), check_exact=True)
    pd.testing.assert_frame_equal(
        table[table["image"] < 6].reset_index(drop=True), sorted_rows([one]), check_exact=True
    )


@pytest.mark.parametrize(
    "change",
    [lambda t: t.assign(value=t["value"] + 1e-3), lambda t: t.assign(value=np.nan), lambda t: t.assign(target=9)],
    ids=["another value", "an empty map", "another class"],
)
def test_a_double_measurement_with_two_results_is_refused(change):
    with pytest.raises(
        MeasuredTwice, match=r"'image': 2, 'method': 'a'.* was measured twice, .*; were two runs written"
    ):
        sorted_rows([rows(), change(rows([2]))])


def test_empty_maps_measured_twice_are_one_result():
    one = rows([0]).assign(value=np.nan)
    assert sorted_rows([one, one])["value"].isna().tolist() == [True] * 4


def test_failures_are_told_by_method_until_their_rows_are_there():
    failures = [Failure("net", "mix", image, "a", ("leak_mass", "leak_any"), f"no {image}") for image in (5, 3)]
    table = sorted_rows([rows(range(3))])
    (found,) = unresolved(failures, table)
    assert found == dict(net="net", images="mix", method="a", image=3, count=2, error="no 3")
    assert told(found) == "a gave no map for 2 images of mix on net; image 3: no 3"
    assert unresolved(failures, sorted_rows([rows([3, 5])])) == []
    half = rows([3, 5]).query("metric == 'leak_any'")
    assert unresolved(failures, sorted_rows([half]))[0]["count"] == 2

"""Pairs, nets and ranks: by hand, against scipy, and how often an interval over nets covers the truth."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare, wilcoxon

from wallcheck.statistics import (
    DIFFERENCE,
    SHARE,
    compare,
    hall,
    holm,
    over_nets,
    paired,
    ranking,
    summary_over_nets,
)
from wallcheck.statistics.ranking import runs

NAN = float("nan")


# -- pairs ----------------------------------------------------------------------------------------


def test_a_pair_by_hand():
    found = paired(np.array([3.0, 4, 5, 6, 7, 8, NAN, 1]), np.array([1.0, 3, 2, 2, 2, 9, 5, NAN]))
    # differences 2, 1, 3, 4, 5, -1; ranks 3, 1.5, 4, 5, 6, 1.5
    assert found["difference"] == pytest.approx(14 / 6)
    assert found["rank_biserial"] == pytest.approx((19.5 - 1.5) / 21)
    assert found["d"] == pytest.approx(np.mean([2, 1, 3, 4, 5, -1]) / np.std([2, 1, 3, 4, 5, -1], ddof=1))
    assert (found["larger"], found["smaller"], found["count"], found["left_out"]) == (5, 1, 6, 2)


def test_the_p_value_is_scipys():
    draw = np.random.default_rng(0)
    first, second = draw.random(40), draw.random(40)
    first[:8] = second[:8]  # equal pairs
    assert paired(first, second)["p"] == wilcoxon(first - second, zero_method="pratt").pvalue


def test_zeros_and_ones_have_mcnemars_exact_test():
    """6 images leak for the first alone, 1 for the second alone: 2 (C(7,0) + C(7,1)) / 2^7 = 16 / 128."""
    first = np.array([1.0] * 6 + [0.0] + [1.0] * 20 + [0.0] * 9)
    second = np.array([0.0] * 6 + [1.0] + [1.0] * 20 + [0.0] * 9)
    assert paired(first, second)["p"] == pytest.approx(16 / 128)


def test_equal_methods_and_few_images():
    same = paired(np.full(20, 0.3), np.full(20, 0.3))
    assert (same["p"], same["rank_biserial"], same["difference"]) == (1.0, 0.0, 0.0)
    assert same["low"] < 0 < same["high"]
    few = paired(np.arange(5.0), np.zeros(5))
    assert np.isnan([few["p"], few["low"], few["high"]]).all() and few["count"] == 5
    none = paired(np.full(9, NAN), np.zeros(9))
    assert np.isnan([none["p"], none["difference"], none["rank_biserial"], none["d"]]).all()
    assert (none["count"], none["left_out"]) == (0, 9)


def test_swapping_turns_the_sign_and_nothing_else():
    draw = np.random.default_rng(1)
    first, second = draw.random(30), draw.beta(0.5, 2, 30)
    one, other = paired(first, second), paired(second, first)
    assert one["p"] == other["p"]
    for name in ("difference", "rank_biserial", "d"):
        assert one[name] == pytest.approx(-other[name], rel=1e-12)
    assert one["low"] == pytest.approx(-other["high"], rel=1e-12)


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    np.testing.assert_equal(holm(np.array([NAN, 0.02, NAN])), [NAN, 0.02, NAN])
    assert holm(np.zeros(0)).tolist() == []


def test_corrected_tests_rarely_find_what_is_not_there():
    """300 times, ten pairs of equal methods: some raw p below 0.05 in a quarter of them, some corrected one in 5 %."""
    draw, raw, corrected = np.random.default_rng(2), 0, 0
    for _ in range(300):
        table = compare(pd.DataFrame(draw.random((25, 5)), columns=[*"abcde"]))
        assert len(table) == 10
        raw, corrected = raw + (table["p"] < 0.05).any(), corrected + (table["p_holm"] < 0.05).any()
    assert raw / 300 > 0.2
    assert corrected / 300 < 0.08


def test_only_the_pairs_asked_for_are_compared_and_corrected():
    values = pd.DataFrame(np.random.default_rng(3).random((20, 3)), columns=["sealed", "base", "other"])
    table = compare(values, [("sealed", "base")])
    assert table[["first", "second"]].to_numpy().tolist() == [["sealed", "base"]]
    assert table["p_holm"].item() == table["p"].item()
    with pytest.raises(LookupError, match="no values of absent, only of sealed, base, other"):
        compare(values, [("sealed", "absent")])
    assert list(compare(values, []).columns) == list(table.columns)


# -- nets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("nets", "images", "rest"), [(0.1, 0.1, 0.1), (0.02, 0.1, 0.1), (0.1, 0.0, 0.1), (0, 0, 0.1)])
def test_an_interval_over_nets_covers_what_new_nets_and_images_would_give(nets, images, rest):
    draw, covered, pooled = np.random.default_rng(0), 0, 0
    for _ in range(500):
        values = 0.5 + nets * draw.standard_normal(5) + images * draw.standard_normal((40, 1))
        values = values + rest * draw.standard_normal((40, 5))
        found = over_nets(values)
        covered += found["low"] <= 0.5 <= found["high"]
        low, high = hall(values.ravel())
        pooled += low <= 0.5 <= high
    assert covered / 500 > 0.92
    assert nets == 0 or pooled < covered  # pooling images of different nets forgets that they share the net


def test_nets_by_hand():
    values = np.add.outer(np.arange(10) / 10, [0.0, 0.1, 0.3])  # no rest: the layout is additive
    found = over_nets(values)
    assert found["mean"] == pytest.approx(0.45 + 0.4 / 3)
    assert found["between"] == pytest.approx(np.std([0.0, 0.1, 0.3], ddof=1))
    assert (found["nets"], found["count"], found["empty"]) == (3, 10, 0.0)
    variance = np.var([0.0, 0.1, 0.3], ddof=1) / 3 + np.var(np.arange(10) / 10, ddof=1) / 10
    half = (found["high"] - found["low"]) / 2
    assert 1.96 * variance**0.5 < half < 4.31 * variance**0.5  # Student's quantile, 2 degrees of freedom or more


def test_empty_maps_and_few_nets():
    values = np.random.default_rng(1).random((20, 5))
    values[:5, 2] = NAN
    found = over_nets(values)
    assert found["empty"] == 0.05
    assert found["mean"] == pytest.approx(np.mean([np.nanmean(values[:, k]) for k in range(5)]))
    assert found["low"] < found["mean"] < found["high"]
    values[:, :3] = NAN
    assert np.isnan([over_nets(values)["low"], over_nets(values)["high"]]).all()
    assert over_nets(values)["nets"] == 2
    nothing = over_nets(np.full((4, 2), NAN))
    assert (nothing["nets"], nothing["empty"]) == (0, 1.0) and np.isnan(nothing["mean"])


def test_an_interval_over_nets_is_cut_at_the_ends_of_its_scale():
    """Student's t on three nets that differ reaches beyond what a share can be; a difference has other ends, a sum none."""
    values = np.tile([0.0, 0.02, 0.9], (10, 1))
    open_, cut, off = (over_nets(values, scale) for scale in (None, SHARE, DIFFERENCE))
    assert open_["low"] < -0.9 and open_["high"] > 1.5
    assert (cut["low"], cut["high"]) == (0.0, 1.0) and over_nets(values) == cut
    assert (off["low"], off["high"]) == (open_["low"], 1.0)
    assert open_["mean"] == cut["mean"] == off["mean"] == pytest.approx(values.mean())
    above = over_nets(values + 0.5)
    assert above["high"] == 1.4  # a value beyond the scale says where its end is
    assert over_nets(0.5 + values / 1e3) == over_nets(0.5 + values / 1e3, None)
    rows = pd.DataFrame([(n, i, values[i, n]) for n in range(3) for i in range(10)], columns=["net", "image", "value"])
    for scale, found in ((SHARE, cut), (None, open_)):
        assert dict(summary_over_nets(rows.assign(all=0), ["all"], scale).iloc[0]) == dict(all=0) | found


def test_summary_over_nets_groups_rows():
    draw = np.random.default_rng(2)
    keys = [(net, image, method) for net in "abc" for image in range(8) for method in ("one", "two")]
    rows = pd.DataFrame(keys, columns=["net", "image", "method"]).assign(value=draw.random(48))
    table = summary_over_nets(rows.sample(frac=1, random_state=0), ["method"]).set_index("method")
    wide = rows[rows["method"] == "two"].pivot_table(index="image", columns="net", values="value").to_numpy()
    assert dict(table.loc["two"]) == over_nets(wide)


# -- ranks ----------------------------------------------------------------------------------------


def test_ranks_by_hand():
    values = pd.DataFrame({"a": [0.1] * 6 + [NAN], "b": [0.2] * 6 + [0.0], "c": [0.2] * 6 + [0.0]})
    values.loc[0, "b"] = 0.05
    found = ranking(values, "low")
    assert found.methods == ("a", "b", "c")
    assert found.ranks == pytest.approx(((2 + 5 * 1) / 6, (1 + 5 * 2.5) / 6, (3 + 5 * 2.5) / 6))
    assert (found.count, found.left_out) == (6, 1)
    assert ranking(values, "high").methods == ("c", "b", "a")


def test_demsars_critical_difference():
    """Demsar 2006, table 5: q = 2.569 for four methods; his example has 14 data sets: 2.569 sqrt(4 * 5 / (6 * 14)) = 1.25."""
    draw = np.random.default_rng(0)
    found = ranking(pd.DataFrame(draw.random((14, 4))), "low")
    assert found.critical == pytest.approx(1.25, abs=0.005)
    values = draw.random((30, 5))
    assert ranking(pd.DataFrame(values), "high").p == pytest.approx(friedmanchisquare(*values.T).pvalue, rel=1e-9)


def test_runs_by_hand():
    assert runs(np.array([1.0, 1.2, 3.0, 3.1, 3.9, 6.0]), 1.0) == ((0, 1), (2, 4))
    assert runs(np.array([1.0, 3.0, 5.0]), 1.0) == ()
    assert runs(np.array([1.0, 1.1, 1.2]), 1.0) == ((0, 2),)


def test_a_ranking_says_what_it_needs():
    with pytest.raises(ValueError, match="2 methods have values on all of 9 images; a ranking needs 3 methods and 6"):
        ranking(pd.DataFrame(np.ones((9, 2))), "low")
    with pytest.raises(
        ValueError, match=r"3 methods have values on all of 0 images; .* leave out methods that are empty"
    ):
        ranking(pd.DataFrame(np.ones((9, 3))).assign(empty=NAN)[[0, 1, "empty"]], "low")
    with pytest.raises(ValueError, match="better is 'up'; give the metric's: low or high"):
        ranking(pd.DataFrame(np.ones((9, 3))), "up")
    assert ranking(pd.DataFrame(np.ones((9, 3))), "low").p == 1.0

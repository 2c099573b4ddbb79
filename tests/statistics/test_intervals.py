"""Means with intervals: by hand, against scipy, and how often they cover the truth."""

import time
import tracemalloc

import numpy as np
import pytest
from scipy.stats import binomtest, t

from wallcheck.statistics import DIFFERENCE, FLOOR, hall, interval, told, wilson

NAN = float("nan")


def ends(found: dict) -> tuple[float, float]:
    return found["low"], found["high"]


def test_mean_std_and_shares_by_hand():
    found = interval(np.array([1.0, NAN, 3.0, NAN]))
    assert (found["mean"], found["count"], found["empty"]) == (2.0, 4, 0.5)
    assert found["std"] == pytest.approx(2**0.5)  # unbiased: sqrt(((1 - 2)^2 + (3 - 2)^2) / 1)


@pytest.mark.parametrize(("values", "mean", "empty"), [([NAN, NAN], NAN, 1.0), ([], NAN, 1.0), ([5.0], 5.0, 0.0)])
def test_too_few_values_have_no_interval(values, mean, empty):
    found = interval(np.array(values))
    np.testing.assert_equal((found["mean"], *ends(found), found["empty"]), (mean, NAN, NAN, empty))


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.2, 0.4, 0.7], [0.0]])
def test_the_floor_is_where_it_is_said_to_be(values):
    many = np.resize(values, FLOOR)
    assert np.isnan(ends(interval(many[1:]))).all()
    assert np.isfinite(ends(interval(many))).all()
    assert np.isnan(ends(interval(np.append(many[1:], NAN)))).all()  # an empty map is no value


@pytest.mark.parametrize(("hits", "count"), [(0, 100), (1, 100), (7, 9), (50_000, 50_000), (3, 50_000)])
def test_zeros_and_ones_have_wilsons_interval(hits, count):
    values = np.zeros(count)
    values[:hits] = 1
    p, z = hits / count, 1.959963984540054
    middle, half = (p + z * z / 2 / count), z * np.sqrt(p * (1 - p) / count + z * z / 4 / count**2)
    wanted = ((middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count))
    np.testing.assert_allclose(ends(interval(values)), wanted, rtol=1e-9, atol=1e-12)


def test_without_skewness_halls_interval_is_students():
    values = np.array([-3.0, -1.0, 0.0, 1.0, 3.0, -2.0, 2.0]) + 10
    wanted = t.interval(0.95, 6, loc=10, scale=values.std(ddof=1) / np.sqrt(7))
    np.testing.assert_allclose(hall(values), wanted, rtol=1e-12)
    np.testing.assert_allclose(hall(np.append(values, 10 + 1e-4)), hall(np.append(values, 10 + 1.0001e-4)), rtol=1e-6)


def test_halls_interval_solves_his_equation():
    """g(T) at either end is the quantile, with g as printed."""
    values = np.random.default_rng(0).exponential(size=30)
    a = np.mean((values - values.mean()) ** 3) / values.std() ** 3 / np.sqrt(30)
    T = np.sqrt(30) * (values.mean() - np.array(hall(values))) / values.std(ddof=1)
    np.testing.assert_allclose(T + a * (T**2 / 3 + 1 / 6) + a**2 * T**3 / 27, t.ppf([0.975, 0.025], 29), rtol=1e-12)


def test_a_share_that_is_never_met_is_not_said_to_be_impossible():
    assert ends(interval(np.zeros(100))) == wilson(0, 100)
    assert ends(interval(np.full(100, 1.0))) == wilson(100, 100)
    low, high = ends(interval(np.zeros(100), DIFFERENCE))
    assert (-low, high) == (wilson(0, 100)[1],) * 2
    assert ends(interval(np.full(100, 0.491))) == (0.491, 0.491)  # to the bit the same on every image is no chance


def test_a_leak_met_once_is_as_large_as_it_was_and_as_frequent_as_it_may_be():
    values = np.zeros(100)
    values[3] = 0.5
    low, high = ends(interval(values))
    assert low == 0 and high == pytest.approx(0.5 * wilson(1, 100)[1], rel=1e-12)


DRAWN = {
    "uniform": (lambda draw, n: draw.random(n), 1 / 2),
    "skewed": (lambda draw, n: draw.beta(0.3, 2, n), 0.3 / 2.3),
    "leaks in 1 of 100": (lambda draw, n: (draw.random(n) < 0.01) * draw.random(n), 0.005),
    "leaks in 1 of 10": (lambda draw, n: (draw.random(n) < 0.1) * draw.random(n), 0.05),
    "yes in 1 of 100": (lambda draw, n: (draw.random(n) < 0.01).astype(float), 0.01),
    "yes in 1 of 2": (lambda draw, n: (draw.random(n) < 0.5).astype(float), 0.5),
}


@pytest.mark.parametrize("count", [FLOOR, 20, 100])
@pytest.mark.parametrize("name", DRAWN)
def test_the_interval_covers_at_its_rate(name, count):
    """800 samples; at 0.92 their share varies by 0.01. A percentile bootstrap covers 0.58 of rare leaks at n = 100."""
    sample, truth = DRAWN[name]
    draw = np.random.default_rng(0)
    found = [ends(interval(sample(draw, count))) for _ in range(800)]
    assert np.mean([low <= truth <= high for low, high in found]) > 0.89
    assert all(high > low for low, high in found)


def test_scale_and_sign_change_nothing():
    values = np.random.default_rng(1).beta(0.5, 2, 50)
    low, high = hall(values)
    np.testing.assert_allclose(hall(-values), (-high, -low), rtol=1e-12)
    assert hall(values * 2.0**-100) == (low * 2.0**-100, high * 2.0**-100)


def test_fifty_thousand_images_take_no_time_and_little_memory():
    values = np.random.default_rng(0).beta(0.3, 2, 50_000)
    before = time.process_time()
    interval(values)
    assert time.process_time() - before < 1  # 14.8 s by bootstrap, 2.2 GiB
    tracemalloc.start()
    interval(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * values.nbytes


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.5] * 4, "0.500 (n = 4: no interval)"),
        ([0.5] * 10 + [NAN] * 90, "0.500 [0.500, 0.500], 90% empty"),
        ([0.0] * 999 + [NAN], "0.000 [0.000, 0.004], <1% empty"),
        ([NAN] * 3, "all empty"),
        ([], "none"),
    ],
)
def test_what_a_reader_is_told(values, said):
    assert told(interval(np.array(values))) == said


def test_wilson_is_scipys():
    found = binomtest(3, 17).proportion_ci(0.95, method="wilson")
    assert wilson(3, 17) == (found.low, found.high)

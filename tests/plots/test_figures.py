"""Figures draw what the rows say, nothing else, and leave no trace."""

import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from tests.plots.made import SETS, SOME, VIEWS, drawn, made_rows
from wallcheck import plots
from wallcheck.cams import FAMILIES, METHODS
from wallcheck.results import split, summary
from wallcheck.statistics import ranking


def test_leakage_draws_the_means_of_the_summary(rows):
    figure = plots.leakage(rows)
    means = summary(rows).set_index(["net", "images", "method", "view", "on", "metric"])["mean"]
    panels = [panel for panel in figure.axes if panel.get_title()]
    assert [panel.get_title() for panel in panels] == [
        "walled, STACK-MIX", "untrained, STACK-MIX", "walled, STACK-GEN", "untrained, STACK-GEN",
    ]  # fmt: skip
    for panel, (net, images) in zip(panels, [(n, s) for s in SETS[:2] for n in ("walled", "untrained")], strict=True):
        found = drawn(panel, "mean:")
        assert set(found) == set(SOME) - {"constant"}
        for method, ((x, _),) in found.items():
            assert x == means[net, images, method, "rectified", "grid", "leak_mass"]


def test_the_constant_map_is_a_line_in_every_panel(rows):
    for panel in plots.leakage(rows, "leak_l2", "displayed", "image").axes:
        assert any(set(np.ravel(line.get_xdata())) == {0.6} for line in panel.lines)


def test_controls_draw_the_means_of_the_summary(rows):
    means = summary(rows).set_index(["net", "images", "method", "view", "on", "metric"])["mean"]
    for panel in plots.controls(rows).axes:
        for method, points in drawn(panel, "means:").items():
            wanted = [means["walled", images, method, "rectified", "grid", "leak_mass"] for images in SETS]
            assert points[:, 1].tolist() == wanted


def test_bars_of_sources_add_up_to_the_stretched_leakage(rows):
    panel = plots.sources(split(rows)).axes[0]
    totals = np.sum([[bar.get_width() for bar in bars] for bars in panel.containers], axis=0)
    stretched = summary(rows[rows["view"] == "stretched"]).set_index(["net", "images", "method", "metric"])["mean"]
    names = [m for m in plots.in_order(SOME) if m != "constant"]
    wanted = [stretched["walled", "stack_mix", name, "leak_mass"] for name in names]
    np.testing.assert_allclose(totals, wanted, rtol=1e-12)


def test_every_method_has_its_place_in_the_overview():
    every = made_rows(methods=[*METHODS, "a_new_one"], nets=("walled",), sets=("stack_mix",), count=3, views=VIEWS[:2])
    figure = plots.families(every)
    found = {name: xy for panel in figure.axes for name, xy in drawn(panel, "mean:").items()}
    assert set(found) == {*METHODS, "a_new_one"}
    means = summary(every).set_index(["net", "method", "view", "on", "metric"])["mean"]
    for name, ((x, _),) in found.items():
        on = "grid" if name not in METHODS or METHODS[name].grid == "cells" else "image"
        assert x == means["walled", name, "rectified", on, "leak_mass"]


def test_no_family_is_without_a_look_of_its_own():
    assert {*FAMILIES, "own"} <= set(plots.FAMILY)
    assert len({(look.colour, look.marker, look.filled) for look in plots.FAMILY.values()}) == len(plots.FAMILY)
    assert len({(look.marker, look.filled) for look in plots.FAMILY.values()}) == len(plots.FAMILY)  # in grey


def test_order_is_by_family_with_controls_last():
    assert plots.in_order(["constant", "mine", "eigencam", "scorecam", "gradcampp", "gradcam", "layercam"]) == [
        "gradcam", "gradcampp", "layercam", "scorecam", "eigencam", "mine", "constant",
    ]  # fmt: skip


def test_a_method_has_one_mark_in_all_figures_and_no_two_of_one_figure_share_it():
    names = ["gradcam", "gradcampp", "xgradcam", "eigencam", "hirescam", "layercam", "ablationcam", "liftcam", "random"]
    marks = plots.marks(names)
    assert all(marks[name] == plots.look(name).mark for name in names)
    assert len({(mark["marker"], mark["mfc"] == "white") for mark in marks.values()}) == len(names)  # in grey too
    crowd = plots.marks(["hirescam", "normgrad", "iia", "zoomcam"])  # of one family, and none with a mark of its own
    assert (
        len({mark["marker"] for mark in crowd.values()}) == 4 and len({mark["color"] for mark in crowd.values()}) == 1
    )


def test_a_part_that_is_always_zero_is_told_and_not_drawn(rows):
    parts = split(rows)
    every = [text.get_text() for text in plots.sources(parts).legends[0].get_texts()]
    figure = plots.sources(parts.assign(bleed=0.0))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [e for e in every if "bleed" not in e]
    assert "bleed of upsampling: 0 for every method here" in figure.get_supxlabel()


def test_what_lies_below_the_wall_has_no_order_so_no_line_joins_it(rows):
    for panel in plots.controls(rows).axes:
        joined = [line for line in panel.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 2]
        assert joined == []


def texts_of(figure) -> list[str]:
    return [text.get_text().strip() for axes in figure.axes for text in axes.texts]


def test_the_share_of_empty_maps_stands_beside_every_mean(rows):
    """Grad-CAM is empty on the first of six images, in every figure that shows a mean."""
    some = rows[rows["method"].isin(["gradcam", "gradcampp"])].copy()
    some.loc[(some["method"] == "gradcam") & (some["image"] == 0), "value"] = np.nan
    told = [text for figure in (plots.controls(some), plots.sources(split(some))) for text in texts_of(figure)]
    assert sum(text == "∅17%" for text in told) == len(SETS) + 2
    assert all(text.endswith("∅17%") for text in texts_of(plots.families(some)) if "∅" in text)
    names = ["leak_mass", "energy_inside", "average_drop", "insertion"]
    keys = [(m, n, i) for m in ("gradcam", "sealed_gradcam") for n in names for i in range(4)]
    costs = pd.DataFrame(keys, columns=["method", "metric", "image"]).assign(value=0.5)
    costs.loc[costs["image"] == 0, "value"] = np.nan
    assert sum("∅25%" in text for text in texts_of(plots.repairs(costs))) == 2 * 3
    course = pd.DataFrame([(s, i, "gradcam", n) for s in (0, 1) for i in range(4) for n in ("leak_mass", "leak_l2")])
    course.columns = ["step", "image", "method", "metric"]
    course = course.assign(measured=0.5, predicted=0.4)
    course.loc[(course["image"] == 0) & (course["step"] == 1), "measured"] = np.nan
    assert [text for text in texts_of(plots.prediction(course)) if text] == ["∅25%"] * 2


def test_a_diagram_of_ranks_joins_what_is_not_told_apart():
    draw = np.random.default_rng(0)
    values = pd.DataFrame(
        draw.random((40, 4)) + np.array([0.0, 0.02, 2.0, 4.0]), columns=["gradcam", "layercam", "eigencam", "mine"]
    )
    values.loc[:4, "mine"] = np.nan
    found = ranking(values, "low")
    figure = plots.ranks(found)
    assert set(drawn(figure.axes[0], "group:")) == {"0-1"}
    places = {name: xy[0, 0] for name, xy in drawn(figure.axes[0], "rank:").items()}
    assert places == dict(zip(found.methods, found.ranks, strict=True))
    assert "mean rank over 35 images, 5 more left out" in figure.axes[0].get_xlabel()


def test_an_empty_map_is_counted_and_not_drawn_as_clean(rows):
    empty = rows.copy()
    empty.loc[(empty["method"] == "gradcam") & (empty["image"] == 0), "value"] = np.nan
    texts = [text.get_text() for text in plots.leakage(empty).axes[0].texts]
    assert sum("∅17%" in text for text in texts) == 1


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_equal_rows_give_equal_files(rows, tmp_path, kind):
    files = []
    for name in ("one", "two"):
        plots.save(plots.leakage(rows.copy(), nets=["walled"], sets=["stack_mix"]), tmp_path / name)
        files.append((tmp_path / f"{name}.{kind}").read_bytes())
    assert files[0] == files[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.pdf", "one.png", "two.pdf", "two.png"]


def test_drawing_leaves_no_trace(rows, examples):
    before = dict(matplotlib.rcParams)
    for figure in (plots.leakage(rows), plots.main_figure(examples), plots.families(rows)):
        assert isinstance(figure, Figure)
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


@pytest.mark.parametrize("column", ["net", "method", "view", "value"])
def test_a_missing_column_is_named(rows, column):
    with pytest.raises(ValueError, match=f"no column {column}"):
        plots.leakage(rows.drop(columns=column))


def test_what_the_rows_do_not_hold_is_refused(rows):
    with pytest.raises(ValueError, match="metric leak_peak, view rectified"):
        plots.leakage(rows, "leak_peak")
    with pytest.raises(ValueError, match="no rows of a net named other"):
        plots.families(rows, net="other")
    with pytest.raises(ValueError, match="net other"):
        plots.controls(rows, net="other")
    with pytest.raises(ValueError, match="named other"):
        plots.sources(split(rows), net="other")
    with pytest.raises(ValueError, match="no column bleed"):
        plots.sources(split(rows).drop(columns="bleed"))


def test_prediction_draws_means_of_measured_and_predicted_by_step():
    steps, images = (0, 1, 10), range(4)
    table = pd.DataFrame([
        dict(step=s, image=i, method=m, metric=k, measured=0.1 * i + 0.01 * s, predicted=0.5 + 0.01 * s)
        for s in steps for i in images for m in ("gradcam", "eigencam") for k in ("leak_mass", "leak_l2")
    ])  # fmt: skip
    mass, _ = plots.prediction(table).axes
    lines = {line.get_label(): line.get_ydata() for line in mass.lines}
    np.testing.assert_allclose(lines["predicted (T3)"], [0.5, 0.51, 0.6])
    drawn = [container.lines[0].get_ydata() for container in mass.containers]
    np.testing.assert_allclose(drawn, [[0.15, 0.16, 0.25]] * 2)

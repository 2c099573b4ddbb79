"""Figures draw what the rows say, nothing else, and leave no trace."""

import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from experiments import figures
from wallcheck import plots
from wallcheck.cams import FAMILIES, METHODS
from wallcheck.plots._regions import border, hatch, on_image
from wallcheck.results import COLUMNS, Manifest, sorted_rows, split, summary, write_shard
from wallcheck.statistics import ranking

SOME = ("gradcam", "gradcampp", "layercam", "scorecam", "ablationcam", "eigencam", "constant")
SETS = ("stack_mix", "stack_gen", "mix_noise")
VIEWS = (("rectified", "grid"), ("rectified", "image"), ("confined", "image"), ("stretched", "image"),
         ("displayed", "image"))  # fmt: skip


def made_rows(methods=SOME, nets=("walled", "untrained"), sets=SETS, count=6, views=VIEWS) -> pd.DataFrame:
    """Rows of a small audit that never was: local methods at 0, the constant map at 0.6, others anywhere."""
    draw, pieces = np.random.default_rng(0), []
    for net in nets:
        for images in sets:
            for name in methods:
                on_cells = name not in METHODS or METHODS[name].grid == "cells"
                for view, on in views if on_cells else [v for v in views if v[1] == "image" and v[0] != "confined"]:
                    for metric in ("leak_mass", "leak_l2"):
                        local = name in METHODS and METHODS[name].family == "local" and view != "stretched"
                        values = 0.6 if name == "constant" else 0.0 if local else draw.uniform(0.2, 1, count)
                        row = (net, images, np.arange(count), name, view, on, metric, 0, values)
                        pieces.append(pd.DataFrame(dict(zip(COLUMNS, row, strict=True))))
    return sorted_rows(pieces)


def made_examples(count=2) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    cells, pixels = np.zeros((6, 6), bool), np.zeros((24, 24), bool)
    cells[2:], pixels[12:] = True, True
    halo = on_image(cells, (24, 24)) & ~pixels
    maps = {f"map:{name}": draw.normal(size=(count, 6, 6)).astype(np.float32) for name in SOME}
    maps["map:layercam"] = np.where(cells, 0, np.abs(maps["map:layercam"]))
    maps["map:scorecam"] = -np.ones((count, 6, 6), np.float32)
    maps["map:zoomcam"] = draw.normal(size=(count, 24, 24)).astype(np.float32)
    images = draw.integers(0, 256, (count, 24, 24, 3)).astype(np.uint8)
    targets = np.arange(count)
    return dict(
        pixels=images,
        targets=targets,
        labels=targets,
        classes=np.array(["cube", "cone"]),
        unseen_cells=cells,
        unseen_pixels=pixels,
        halo=halo,
        **maps,
    )


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return made_rows()


@pytest.fixture
def examples(tmp_path) -> plots.Examples:
    np.savez(tmp_path / "walled--stack_mix.npz", **made_examples())
    return plots.Examples.load(tmp_path / "walled--stack_mix.npz")


@pytest.fixture
def audited(tmp_path, rows):
    """A run folder with rows, manifest and examples."""
    run = tmp_path / "audit"
    (run / "rows").mkdir(parents=True)
    for (_net, _images), part in rows.groupby(["net", "images"], observed=True):
        write_shard(run, part)
    Manifest(config={}).save(run)
    (run / "examples").mkdir()
    np.savez(run / "examples" / "walled--stack_mix.npz", **made_examples())
    return run


def drawn(panel, prefix: str) -> dict[str, np.ndarray]:
    """Coordinates of the artists whose gid starts with `prefix`."""
    lines = [line for line in panel.lines if str(line.get_gid()).startswith(prefix)]
    return {line.get_gid().removeprefix(prefix): np.asarray(line.get_xydata()) for line in lines}


def log(path, columns="epoch,step,train_accuracy_step,train_loss_step,val_accuracy,val_loss"):
    path.mkdir(parents=True)
    lines = ["0,19,0.1,2.3,,", "0,39,0.4,1.5,,", "0,39,,,0.5,1.2", "1,59,0.9,0.4,,", "1,79,,,0.97,0.1"]
    (path / "metrics.csv").write_text("\n".join([columns, *lines]) + "\n")
    return path


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


def test_examples_know_class_leakage_and_display(examples):
    assert examples.explained(1) == "cone"
    assert examples.leaked_cells("layercam", 0) == 0.0
    assert np.isnan(examples.leaked_cells("scorecam", 0)) and np.isnan(examples.leaked_pixels("scorecam", 0))
    raw = examples.maps["gradcam"][0].clip(min=0).astype(float)
    assert examples.leaked_cells("gradcam", 0) == pytest.approx(raw[2:].sum() / raw.sum())
    for method in ("gradcam", "zoomcam"):  # the halo, rows 8 to 11, does not count
        pixels = examples.shown(method, 0)
        wanted = pixels[12:].sum() / (pixels[:8].sum() + pixels[12:].sum())
        assert examples.leaked_pixels(method, 0) == pytest.approx(wanted)
    assert examples.leaked_cells("zoomcam", 0) is None
    assert examples.shown("gradcam", 0).shape == (24, 24)
    assert examples.shown("gradcam", 0).max() == 1.0
    assert np.count_nonzero(examples.shown("scorecam", 0)) == 0


def test_the_main_figure_shows_raw_maps_and_shares(examples):
    figure = plots.main_figure(examples, 1, ["gradcam", "layercam", "scorecam"])
    first, *others = figure.axes
    assert first.get_title() == "explained: cone"
    raw, shown = others[::2], others[1::2]
    assert [axes.get_title() for axes in raw] == ["Grad-CAM", "Layer-CAM", "Score-CAM"]
    counted = examples.leaked_cells("gradcam", 1), examples.leaked_pixels("gradcam", 1)
    assert [axes.get_xlabel() for axes in raw] == [f"{counted[0]:.0%}", "0", "empty"]
    assert [axes.get_xlabel() for axes in shown] == [f"{counted[1]:.0%}", "0", "empty"] and counted[0] != counted[1]
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"unseen pixels", "the wall, between cells", "below 0 (raw map)", "the map's highest value"} < set(key)
    for axes, method in zip(raw, ("gradcam", "layercam", "scorecam"), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), examples.maps[method][1])
        low, high = axes.images[0].get_clim()
        assert -low == high == np.abs(examples.maps[method][1]).max()


def test_the_gallery_has_a_panel_for_each_method_and_image(examples):
    assert len(plots.gallery(examples).axes) == 2 * (1 + len(SOME) - 1 + 1)  # images, no constant, zoomcam too
    with pytest.raises(ValueError, match="image 2 was not kept, only 0 to 1"):
        plots.gallery(examples, images=[0, 2])
    with pytest.raises(ValueError, match="no maps of rise were kept"):
        plots.gallery(examples, methods=["rise"])


def test_damaged_examples_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no examples at"):
        plots.Examples.load(tmp_path / "none.npz")
    np.savez(tmp_path / "whole.npz", **made_examples())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:2000])
    with pytest.raises(ValueError, match="is damaged"):
        plots.Examples.load(tmp_path / "cut.npz")


def test_a_region_of_any_shape_has_its_border():
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True
    assert sorted(border(mask)) == [
        [(0.5, 0.5), (0.5, 2.5)], [(0.5, 0.5), (2.5, 0.5)], [(0.5, 2.5), (2.5, 2.5)], [(2.5, 0.5), (2.5, 2.5)],
    ]  # fmt: skip
    axes = Figure().subplots()
    hatch(axes, mask, "//", "white")
    hatch(axes, np.zeros((4, 4), bool), "//", "white")
    assert len(axes.patches) == 1
    assert on_image(mask, (8, 8)).sum() == 16


def test_training_logs_are_read_with_their_gaps(tmp_path):
    read = plots.read_training(log(tmp_path / "walled"))
    assert read["train_loss"].count() == 3
    assert read["val_accuracy"].dropna().tolist() == [0.5, 0.97]
    accuracy = plots.training({"walled": read}).axes[1]
    assert accuracy.get_legend().get_texts()[0].get_text() == "walled: 97.0%"
    with pytest.raises(FileNotFoundError, match="no training log"):
        plots.read_training(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no column val_loss"):
        plots.read_training(log(tmp_path / "other", "epoch,step,train_accuracy,train_loss,val_accuracy,what"))
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match="is no CSV log"):
        plots.read_training(tmp_path / "empty.csv")


def test_one_command_draws_all_that_the_inputs_allow(audited, tmp_path, capsys):
    theory = tmp_path / "theory" / "figures"
    theory.mkdir(parents=True)
    (theory / "map.png").touch()
    flags = [
        "--training",
        str(log(tmp_path / "walled")),
        "--theory",
        str(theory.parent),
        "--out",
        str(tmp_path / "figures"),
    ]
    figures.main(["--run", str(audited), *flags])
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    for name in ("main", "gallery", "leakage", "leakage_displayed", "controls", "sources", "families", "training"):
        assert {f"{name}.pdf", f"{name}.png"} <= names
    assert "theory_map.png" in names
    assert "families.pdf" in capsys.readouterr().out


def test_without_kept_maps_the_rows_are_still_drawn(audited, tmp_path, capsys):
    (audited / "examples" / "walled--stack_mix.npz").unlink()
    inputs = figures.Inputs.read(str(audited), 0)
    assert figures.figures_of_examples(inputs) == {}
    assert "no main figure" in capsys.readouterr().out
    assert "leakage" in figures.figures_of_rows(inputs)


def test_a_folder_that_is_no_run_is_refused(tmp_path, audited):
    with pytest.raises(FileNotFoundError, match="so it is no run folder"):
        figures.main(["--run", str(tmp_path)])
    with pytest.raises(FileNotFoundError, match="python -m theory"):
        figures.copy_theory(str(tmp_path), tmp_path)
    with pytest.raises(ValueError, match="image 9 was not kept"):
        figures.main(["--run", str(audited), "--image", "9", "--out", str(tmp_path / "figures")])


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

"""The study of training for interpretable gradients, small: what it keeps, tells and repeats."""

import json

import numpy as np
import pandas as pd
import pytest

from experiments import interpretable_gradients as study
from tests.experiments.kept import keeps_what_is_finished
from wallcheck import plots

OPTIONS = dict(seeds=2, train_count=128, val_count=30, epochs=1, timed=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    options = study.GradientRun(**OPTIONS, out=str(folder / "run"), docs=str(folder / "docs"))
    study.main(options)
    return options, folder


def test_every_image_of_every_net_is_a_row_and_the_page_is_made_of_them(run):
    _, folder = run
    rows = pd.read_parquet(folder / "run" / "held_out.parquet")
    assert len(rows) == 2 * 2 * 30
    assert not rows.duplicated(["pixels", "weight", "seed", "image"]).any()
    assert rows["cosine"].between(-1, 1).all()
    means = rows.groupby(["weight", "seed"])["cosine"].mean()
    found = {
        line["weight"]: line
        for line in json.loads((folder / "docs" / "interpretable_gradients.json").read_text())["found"]
    }
    assert found[0.0075]["cosine_by_seed"] == pytest.approx(means[0.0075].tolist())
    assert found[0.0075]["cosine_change"] == pytest.approx((means[0.0075] - means[0.0]).mean())
    assert found[0.0]["cosine_change"] == 0
    assert found[0.0]["cost"] == 1
    page = (folder / "docs" / "interpretable_gradients.md").read_text()
    assert f"{found[0.0075]['cosine']:.3f} (" in page
    assert "--train_count 128" in page
    assert (folder / "docs" / "interpretable_gradients.png").stat().st_size < 150_000


def test_what_is_finished_is_kept_and_other_settings_are_refused(run):
    options, folder = run
    page = folder / "docs" / "interpretable_gradients.md"
    keeps_what_is_finished(study, options, page, ("trained", "step"), "epochs: ", epochs=2)


def test_a_weight_of_nothing_is_asked_for(run):
    options, _ = run
    with pytest.raises(ValueError, match="weights need 0"):
        study.main(study.GradientRun(weights=[0.1], out=options.out))


def test_the_figure_shows_every_weight_and_net():
    draw = np.random.default_rng(0)
    rows = pd.DataFrame([(p, w, s, i, draw.uniform(), draw.integers(2)) for p in (32, 96) for w in (0.0, 0.1) for s in range(3) for i in range(5)], columns=["pixels", "weight", "seed", "image", "cosine", "correct"])  # fmt: skip
    figure = plots.gradients(rows)
    shares, nets = figure.axes[:2]
    assert len(figure.axes) == 4
    assert [len(line.get_xdata()) for line in shares.lines] == [15, 15]
    assert [len(line.get_xdata()) for line in nets.lines] == [3, 3]
    of = rows[(rows["pixels"] == 32) & (rows["weight"] == 0.1)]
    assert np.array_equal(np.sort(of["cosine"]), shares.lines[1].get_xdata())
    with pytest.raises(ValueError, match="no column cosine"):
        plots.gradients(rows.drop(columns="cosine"))

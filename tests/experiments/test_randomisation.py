"""The whole command on a tiny net: rows, figure and page."""

import numpy as np
import pandas as pd
import pytest

from experiments import randomisation
from tests.nets import SIZE, photos, trained_tiny
from wallcheck import models, plots
from wallcheck.data import to_display
from wallcheck.randomising import MODES, layers

SOME = ["gradcam", "hirescam", "eigencam", "random"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("randomisation")
    images, labels = photos(7, seed=7)
    (folder / "set").mkdir()
    np.save(folder / "set" / "images.npy", (255 * to_display(images)).round().astype(np.uint8))
    np.save(folder / "set" / "labels.npy", labels.numpy())
    np.save(folder / "set" / "masks.npy", np.zeros((7, SIZE, SIZE), np.uint8))
    (folder / "set" / "set.json").write_text('{"name": "patches", "classes": ["a", "b", "c", "d"]}')
    models.save(trained_tiny(), folder / "model.safetensors")
    where = dict(out=str(folder / "run"), docs=str(folder / "docs"), batch_size=4, methods=SOME)
    options = randomisation.RandomisationRun(str(folder / "model.safetensors"), str(folder / "set"), **where)
    randomisation.main(options)
    return folder, pd.read_parquet(folder / "run" / "randomisation.parquet")


def test_every_stage_method_measure_and_image_has_its_row(study):
    rows = study[1]
    names = ["trained", *layers(trained_tiny())]
    key = ["mode", "stage", "method", "measure", "image"]
    assert not rows.duplicated(key).any()
    assert len(rows) == len(MODES) * len(names) * len(SOME) * 5 * 7
    assert rows.drop_duplicates("stage").sort_values("stage")["layer"].tolist() == names


def test_the_trained_net_is_like_itself_and_chance_is_like_chance(study):
    rows = study[1][study[1]["measure"] != "leak_mass"]
    same = rows[(rows["stage"] == 0) | (rows["method"] == "random")]["value"]
    np.testing.assert_allclose(same, 1, rtol=0, atol=1e-6)
    head = rows[(rows["layer"] == "head.3") & (rows["measure"] == "spearman")].groupby("method")["value"].mean()
    assert head["eigencam"] == pytest.approx(1)  # it does not ask the head
    assert head["hirescam"] < 0.9


def test_local_methods_stay_blind(study):
    rows = study[1]
    leaks = rows[(rows["measure"] == "leak_mass") & (rows["method"] == "hirescam")]["value"].dropna()
    assert len(leaks) and (leaks == 0).all()


def test_figure_and_page_say_what_the_rows_say(study):
    folder, rows = study
    figure = plots.randomisation(rows)
    assert len(figure.axes) == 2 * 5
    part = rows[(rows["mode"] == "cascading") & (rows["measure"] == "spearman") & (rows["method"] == "gradcam")]
    (line,) = [line for line in figure.axes[0].lines if line.get_gid() == "means:gradcam"]
    np.testing.assert_allclose(line.get_ydata(), part.groupby("stage")["value"].mean(), rtol=1e-12)
    page = (folder / "docs" / "randomisation.md").read_text()
    assert "| random | 1.000 [1.000, 1.000]" in page
    assert (folder / "docs" / "randomisation.png").is_file()
    assert (folder / "run" / "figures" / "randomisation.pdf").is_file()

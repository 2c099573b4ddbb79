"""Published figures are drawn anew from what stands beside them."""

import shutil

import pytest
from PIL import Image

from experiments import redraw
from tests.plugging import ROOT

RESULTS = ROOT / "docs" / "results"


@pytest.mark.parametrize("name", redraw.FIGURES)
def test_a_published_study_holds_its_figure(name):
    figure = redraw.FIGURES[name](redraw.tables_of(RESULTS / f"{name}.json"))
    with Image.open(RESULTS / f"{name}.png") as published:
        width, height = figure.get_size_inches()
        assert published.height / published.width == pytest.approx(height / width, rel=2e-3)


def test_it_is_put_in_the_place_of_the_old_one(tmp_path):
    shutil.copy(RESULTS / "scale.json", tmp_path)
    (tmp_path / "scale.png").write_bytes(b"old")
    redraw.main(redraw.Redraw(results=str(tmp_path)))
    with Image.open(tmp_path / "scale.png") as drawn, Image.open(RESULTS / "scale.png") as published:
        assert drawn.size == published.size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scale.json", "scale.png"]


def test_what_cannot_be_drawn_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"quadrants cannot be drawn from its JSON file; one of blind_metrics, "):
        redraw.main(redraw.Redraw(only=["quadrants"]))
    with pytest.raises(FileNotFoundError, match="has no study that can be drawn anew"):
        redraw.main(redraw.Redraw(results=str(tmp_path)))

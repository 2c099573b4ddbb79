"""The measurement of large run folders, on small ones."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from experiments import scale
from wallcheck import plots
from wallcheck.results import merge

ROOT = Path(__file__).parents[2]


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "alone", scale.measured)  # not in a process each
    return scale.ScaleRun(
        [60, 120], ["gradcam", "hirescam"], 7, keep=True, out=str(tmp_path / "out"), docs=str(tmp_path / "docs")
    )


def test_every_size_is_written_resumed_and_asked(options, tmp_path):
    scale.main(options)
    rows = merge(tmp_path / "out" / "rows-120")
    assert len(rows) == 120 * 74 and rows["image"].nunique() == 120
    assert rows[rows["method"] == "hirescam"]["value"].dropna().eq(0).all()
    assert 0 < rows["value"].isna().mean() < 0.1
    page = (tmp_path / "docs" / "scale.md").read_text()
    assert "| 60 | 4,440 |" in page and "| 120 | 8,880 |" in page and "for comparison" in page
    found = json.loads((tmp_path / "docs" / "scale.json").read_text())["found"]["steps"]
    assert set(found["step"]) == set(scale.TOLD) and min(found["gib"]) > 0
    before = (tmp_path / "out" / "60.parquet").read_bytes()
    scale.main(options)
    assert (tmp_path / "out" / "60.parquet").read_bytes() == before


def test_a_folder_that_is_not_whole_is_told(options, tmp_path):
    scale.write(tmp_path / "rows", 0, 20, options)
    with pytest.raises(RuntimeError, match="20 images are left of 40, expected 10; the rows are not whole"):
        scale.resume(tmp_path / "rows", 40, 30, options)


def test_the_figure_has_a_line_for_each_step():
    table = pd.DataFrame(
        dict(images=[10, 100] * 2, step=["write"] * 2 + ["summary"] * 2, processor=[1, 9, 1, 5], gib=1.0)
    )
    for axes in plots.scale(table, 2).axes:
        lines = [line.get_gid() for line in axes.get_lines() if line.get_gid()]
        assert [line.split(":")[1] for line in lines] == ["write", "summary"]


def test_a_second_process_on_a_folder_is_refused_and_removes_nothing(options, tmp_path):
    rows = Path(options.out) / f"rows-{options.images[0]}" / "rows"
    scale.study.claimed(options)
    rows.mkdir(parents=True)
    held = (
        "import sys; from pathlib import Path; from experiments.scale import alone_in\n"
        "with alone_in(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", held, options.out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RuntimeError, match=r"another process is measuring in .*choose another --out"):
            scale.main(options)
        assert rows.is_dir()
        other.kill()
    with scale.alone_in(Path(options.out)):  # what a killed process held is free
        pass

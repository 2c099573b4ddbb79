"""The matrix of versions: which combinations are chosen, what is asked of uv, and what its end says."""

import signal
import subprocess
from itertools import combinations, product

import pytest

from tests import matrix


def test_every_two_versions_meet_and_the_newest_come_first():
    chosen = matrix.covering(matrix.AXES)
    for one, other in combinations(matrix.AXES, 2):
        met = {(found[one], found[other]) for found in chosen}
        assert met == set(product(matrix.AXES[one], matrix.AXES[other]))
    assert list(chosen[0].values()) == [values[-1] for values in matrix.AXES.values()]
    assert len(chosen) == 9  # three by three: fewer cannot do


def test_versions_asked_for_that_no_chosen_combination_has_together_get_one():
    chosen = matrix.covering(matrix.AXES)
    assert matrix.only(chosen, []) == chosen
    assert {one["torch"] for one in matrix.only(chosen, ["torch=2.6"])} == {"2.6"}
    wanted = ["python=3.11", "torch=2.6", "pillow=12", "pandas=2"]
    (found,) = matrix.only(chosen, wanted)
    assert found not in chosen
    assert [f"{name}={value}" for name, value in found.items()] == wanted
    with pytest.raises(ValueError, match=r"--only torch=1.0 names no version of the matrix; it has python=3.11 or"):
        matrix.only(chosen, ["torch=1.0"])


@pytest.mark.parametrize(
    ("fails", "status"),
    [("venv", matrix.NOT_MADE), ("pip", matrix.NOT_MADE), ("pytest", matrix.FAILED), ("", matrix.PASSED)],
)
def test_what_cannot_be_made_is_told_apart_from_what_fails(tmp_path, monkeypatch, fails, status):
    asked = []

    def run(command, stdout, **_):
        asked.append(command)
        if command[1] == "venv":
            (tmp_path / "python3.12-torch2.6" / "bin").mkdir(parents=True)
        stdout.write("error: no such version\n" if fails in command and fails else "7 passed\n")
        stdout.flush()
        return subprocess.CompletedProcess(command, int(bool(fails) and fails in command))

    monkeypatch.setattr(matrix.subprocess, "run", run)
    found = matrix.try_out({"python": "3.12", "torch": "2.6"}, ["tests/test_maps.py"], tmp_path, keep=False)
    assert (found.status, found.note) == (status, "error: no such version" if fails else "7 passed")
    assert asked[0][:5] == ["uv", "venv", "--clear", "--python", "3.12"]
    assert all("torch==2.6.*" in command for command in asked if command[1] == "pip")
    assert (tmp_path / "python3.12-torch2.6").is_dir() == (status == matrix.FAILED)  # what failed can be looked into
    assert matrix.report([found]).splitlines()[-1].count("1 ") == 1
    assert matrix.status_of([found]) == (status != matrix.PASSED)


def test_what_somebody_stopped_has_not_failed(tmp_path, monkeypatch, capsys):
    def stopped(command, **_):
        return subprocess.CompletedProcess(command, -signal.SIGTERM)

    monkeypatch.setattr(matrix.subprocess, "run", stopped)
    monkeypatch.setattr(matrix.shutil, "which", lambda name: name)
    page = tmp_path / "matrix.md"
    assert matrix.main(["--out", str(tmp_path), "--page", str(page), "--only", "torch=2.6", "python=3.12"]) == 130
    assert "stopped at python 3.12, torch 2.6" in capsys.readouterr().err
    assert not page.exists()


def test_the_page_tells_what_ran_beside_what_ran_before_and_what_did_not(tmp_path):
    page, (newest, second, *_) = tmp_path / "docs/matrix.md", matrix.covering(matrix.AXES)
    matrix.keep(matrix.Outcome(newest, matrix.FAILED, 7.0, "1 failed"), matrix.FAST, page)
    matrix.keep(matrix.Outcome(newest, matrix.PASSED, 7.0, "8 passed | 1 skipped"), matrix.FAST, page)
    matrix.keep(matrix.Outcome(second, matrix.NOT_MADE, 1.0, "no such version"), matrix.ALL, page)
    matrix.keep(
        matrix.Outcome({"python": "3.11", "torch": "2.6"}, matrix.PASSED, 1.0, "2 passed"), ["tests/a.py"], page
    )
    told = page.read_text()
    rows = [line for line in told.splitlines() if line.startswith("| python")]
    assert "2 of 9 combinations" in told and len(rows) == 9 + 1
    assert rows[0].startswith(f"| {matrix.named(newest)} | passed | the selection |")
    assert rows[0].endswith(r"| 8 passed \| 1 skipped |") and "| could not be made | all |" in rows[1]
    assert sum("| not run |" in row for row in rows) == 7 and "| tests/a.py |" in rows[-1]
    assert sorted(path.name for path in page.parent.iterdir()) == ["matrix.json", "matrix.md"]


def test_what_ran_a_selection_of_other_tests_is_said_to_have(tmp_path, monkeypatch):
    page, (newest, second, *_) = tmp_path / "matrix.md", matrix.covering(matrix.AXES)
    matrix.keep(matrix.Outcome(newest, matrix.PASSED, 7.0, "8 passed"), matrix.FAST, page)
    monkeypatch.setattr(matrix, "FAST", (*matrix.FAST, "tests/more.py"))
    matrix.keep(matrix.Outcome(second, matrix.PASSED, 7.0, "9 passed"), matrix.FAST, page)
    rows = [line for line in page.read_text().splitlines() if line.startswith("| python")]
    assert "| passed | an earlier selection |" in rows[0] and "| passed | the selection |" in rows[1]


def test_pythons_that_pyenv_keeps_are_found(tmp_path, monkeypatch):
    (tmp_path / "versions/3.13.0/bin").mkdir(parents=True)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", "/first")
    assert matrix.places_of_pythons() == ["/first", str(tmp_path / "versions/3.13.0/bin")]


def test_one_that_cannot_be_made_is_no_failure_beside_one_that_passed():
    passed, absent, failed = (
        matrix.Outcome({}, status, 1.0, "") for status in (matrix.PASSED, matrix.NOT_MADE, matrix.FAILED)
    )
    assert matrix.status_of([passed, absent]) == 0
    assert matrix.status_of([passed, absent, failed]) == 1
    assert matrix.status_of([absent]) == 1


def test_the_selection_exists_and_without_uv_it_says_how_to_get_it(monkeypatch, capsys):
    assert all((matrix.ROOT / path).exists() for path in matrix.FAST)
    monkeypatch.setattr(matrix.shutil, "which", lambda name: None)
    assert matrix.main([]) == 1
    assert "pip install uv" in capsys.readouterr().err
    assert matrix.main(["--list", "--only", "python=3.13", "torch=2.6"]) == 0
    assert "1 combinations" in capsys.readouterr().out

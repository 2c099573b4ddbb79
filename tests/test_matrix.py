"""The matrix of versions: which combinations are chosen, what is asked of uv, and what its end says."""

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

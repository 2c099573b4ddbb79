"""`python -m theory`: one quick run to the end, and what happens when a claim fails."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from theory import __main__ as cli
from theory.claims import CLAIMS
from theory.proofs import Check
from theory.runs import Outcome
from theory.statistics import ZScores

ROOT = Path(__file__).parents[1]


def test_quick_run_proves_all_and_writes_results_and_figures(tmp_path):
    command = [sys.executable, "-m", "theory", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CLAIMS)} of {len(CLAIMS)} claims hold" in done.stdout
    assert "\r" not in done.stdout and "\x1b" not in done.stdout, "a progress bar where there is no terminal"
    results = json.loads((tmp_path / "results.json").read_text())
    assert [claim["claim"] for claim in results["claims"]] == list(CLAIMS)
    assert all(claim["z"]["count"] >= 20 for claim in results["claims"])
    assert (tmp_path / "table.md").read_text().count("\n") == len(CLAIMS) + 2
    pictures = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert {"local_contrast", "predicted_class", "before_relu", "families", "beyond", "z_scores"} <= pictures
    assert {path.stem for path in (tmp_path / "figures").glob("*.svg")} == pictures


class Broken:
    """A claim that is proved but does not agree with its simulation."""

    TITLE = "two and two are five"

    @staticmethod
    def prove():
        return [Check("2 + 2 = 4", True)]

    @staticmethod
    def simulate(run):
        return Outcome(ZScores(np.array([9.0, 8.0, 10.0])))


def test_a_failed_claim_fails_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(CLAIMS, "T1", Broken)
    assert cli.main(["--quick", "--claims", "T1", "--out", str(tmp_path), "--no_figures"]) == 1
    printed = capsys.readouterr().out
    assert "T1  two and two are five: FAILS" in printed
    assert "BROKEN  count 3" in printed
    assert json.loads((tmp_path / "results.json").read_text())["claims"][0]["holds"] is False


def test_an_unknown_claim_is_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--claims", "T12"])
    assert "T12" in capsys.readouterr().err


def test_one_seed_one_result(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "QUICK", replace(cli.QUICK, geometries=4, draws=500))
    for name in ("first", "second"):
        cli.main(["--quick", "--claims", "T1", "T4", "--seed", "5", "--out", str(tmp_path / name), "--no_figures"])
    first, second = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("first", "second"))
    assert [c["z"] for c in first["claims"]] == [c["z"] for c in second["claims"]]
    assert first["seed"] == 5

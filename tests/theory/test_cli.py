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

ROOT = Path(__file__).parents[2]


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
    assert {
        "local_contrast",
        "predicted_class",
        "before_relu",
        "families",
        "attention_walls",
        "beyond",
        "z_scores",
    } <= pictures
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


def test_one_seed_one_result_on_one_core_or_two(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "QUICK", replace(cli.QUICK, geometries=4, draws=500))
    results = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        chosen = ["--quick", "--claims", "T1", "T4", "--seed", "5", "--out", str(out), "--workers", workers]
        cli.main([*chosen, "--no_figures"])
        results.append(json.loads((out / "results.json").read_text()))
    for one, two in zip(results[0]["claims"], results[1]["claims"], strict=True):
        assert one["claim"] == two["claim"]
        # sums of float32 depend on the number of threads, chance does not
        assert one["z"]["values"] == pytest.approx(two["z"]["values"], abs=1e-3)
    assert results[0]["seed"] == 5

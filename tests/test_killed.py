"""Two audits of one folder at once, killed at random moments: the folder ends whole."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.nets import trained_tiny
from tests.sets import write_photographs
from wallcheck import models
from wallcheck.results import merge

ROOT = Path(__file__).parents[1]
KILLS = 5  # 30 have been run by hand: python -m tests.killing FOLDER 30 SEED


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_two_audits_killed_at_random_moments_leave_a_whole_folder(tmp_path):
    models.save(trained_tiny(), tmp_path / "model.safetensors")
    write_photographs(tmp_path / "photographs", 40)
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    command = [sys.executable, "-m", "tests.killing", str(tmp_path), str(KILLS), "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    whole, killed = merge(tmp_path / "whole"), merge(tmp_path / "killed")
    pd.testing.assert_frame_equal(killed.drop(columns="value"), whole.drop(columns="value"))
    np.testing.assert_allclose(killed["value"], whole["value"], rtol=0, atol=5e-6)  # batches of 2 and of 3
    assert not [path for path in (tmp_path / "killed").rglob("*") if path.suffix in (".partial", ".aside")]
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }

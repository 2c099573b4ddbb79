"""Folder names agree, hints are harmless, and short or small runs are no errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console

from experiments import audit, figures, flags, prediction, presets, readme, repairs, stages, train
from tests.nets import trained_tiny
from tests.sets import write_set
from wallcheck import guarding, models
from wallcheck.data import ImageSet
from wallcheck.plots import read_training
from wallcheck.running import run
from wallcheck.study import Study

ROOT = Path(__file__).parents[2]


def settings_of(*arguments) -> dict:
    command = [sys.executable, "-m", "experiments.train", "fit", *arguments, "--print_config"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return yaml.safe_load(done.stdout)


def test_what_training_writes_is_what_the_others_read_and_what_reproduce_makes():
    made = Path(presets.PRESETS["vgg_small"].out)
    assert made == train.DEFAULT_OUT
    assert Path(audit.AuditRun().walled) == made / "walled" / "model.safetensors" == Path(repairs.RepairRun().model)
    assert Path(prediction.PredictionRun().snapshots) == made / "walled" / "snapshots"


def test_data_are_looked_for_beside_the_net_and_then_here(tmp_path):
    options = audit.AuditRun(walled=str(tmp_path / "walled" / "model.safetensors"))
    assert audit.data_of(options) == Path("data")
    (tmp_path / "data").mkdir()
    assert audit.data_of(options) == tmp_path / "data"


def test_no_hint_trains_for_a_thousand_epochs(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        models.load(tmp_path / "none.safetensors")
    assert "train fit" not in str(raised.value)  # it leads a user of the wheel somewhere, and starts no training
    assert yaml.safe_load((ROOT / "experiments/configs/vgg_small.yaml").read_text())["trainer"]["max_epochs"] == 6
    assert settings_of()["trainer"]["max_epochs"] == 6  # without one, too


def test_reproduce_leaves_a_net_trained_by_hand_alone(tmp_path):
    models.save(trained_tiny(), tmp_path / "walled" / "model.safetensors")
    with pytest.raises(
        FileExistsError, match="walled holds a net that this command did not train; choose another --out"
    ):
        stages.Stages(tmp_path, {"seed": 0}, Console(quiet=True))
    (tmp_path / "stages.json").write_text('{"settings": {"seed": 0}}')
    assert stages.Stages(tmp_path, {"seed": 0}, Console(quiet=True)).seconds == {}
    (tmp_path / "stages.json").write_text('{"settings"')
    with pytest.raises(ValueError, match=r"stages\.json is damaged"):
        stages.Stages(tmp_path, {"seed": 0}, Console(quiet=True))


def test_a_stage_that_misses_something_is_tried_again(tmp_path):
    kept, told = stages.Stages(tmp_path, {}, Console(quiet=True)), []
    for status in (3, 0, 0):
        kept.run("audit", lambda status=status: told.append(status) or status)
    assert told == [3, 0]


@pytest.mark.parametrize("steps", [1, 5])
def test_short_trainings(tmp_path, steps):
    """5 steps are those of which a fifth is one."""
    for name in ("train", "val"):
        write_set(tmp_path / "data" / name, 2 * steps, size=96)
    command = [sys.executable, "-m", "experiments.train", "fit", "--config", "experiments/configs/vgg_small.yaml"]
    command += ["--data.folder", str(tmp_path / "data"), "--data.batch_size", "2", "--trainer.max_epochs", "1"]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    command += ["--out", str(tmp_path / "out"), "--trainer.accelerator", "cpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-1000:]
    assert torch.isfinite(models.load(tmp_path / "out" / "model.safetensors").head[1].weight).all()
    assert len(read_training(tmp_path / "out"))


def test_figures_of_one_image(tmp_path, capsys):
    sets = [ImageSet(write_set(tmp_path / name, 1, seed)) for seed, name in enumerate(("stack_mix", "stack_gen"))]
    run(Study({"walled": trained_tiny()}, sets, ["gradcam", "hirescam", "constant"], count=1), tmp_path / "run")
    figures.main(["--run", str(tmp_path / "run"), "--out", str(tmp_path / "figures")])
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn >= {f"{name}.png" for name in ("main", "gallery", "leakage", "sources", "families", "controls")}


def test_a_readme_is_brought_up_to_date_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = "<!-- paper-table -->\nold\n<!-- /paper-table -->\n"
    (tmp_path / "README.md").write_text(before)
    (tmp_path / "run" / "figures").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="is missing; figures are drawn by"):
        readme.main(readme.Update(run="run"))
    assert (tmp_path / "README.md").read_text() == before
    assert not (tmp_path / "docs").exists()
    for name in readme.FIGURES:
        (tmp_path / "run" / "figures" / f"{name}.png").write_bytes(name.encode())
    readme.main(readme.Update(run="run"))
    assert {path.stem for path in (tmp_path / "docs").iterdir()} == set(readme.FIGURES)


def test_flags_know_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = flags.read(audit.AuditRun, ["--out=~/runs/x", "--images", "~/a", "b~", "--walled=~/m.safetensors"])
    assert (options.out, options.walled) == (str(tmp_path / "runs/x"), str(tmp_path / "m.safetensors"))
    assert options.images == [str(tmp_path / "a"), "b~"]


@pytest.mark.parametrize(("status", "ended"), [(None, None), (0, 0), (3, 3)])
def test_a_script_ends_with_the_status_of_its_work(monkeypatch, status, ended):
    monkeypatch.setattr(sys, "argv", ["script"])
    with pytest.raises(SystemExit) as raised:
        flags.script("script", lambda options: status, audit.AuditRun)
    assert raised.value.code == ended


def test_an_audit_that_misses_something_says_so_by_its_status(tmp_path, monkeypatch, capsys):
    model = models.save(trained_tiny(), tmp_path / "walled" / "model.safetensors")
    write_set(tmp_path / "data" / "mix", 2)
    flags_given = dict(walled=str(model), untrained=False, sets=["mix"], out=str(tmp_path / "run"))
    assert audit.main(audit.AuditRun(methods=["hirescam"], **flags_given)) == 0
    sound = guarding.maps_of
    monkeypatch.setattr(guarding, "maps_of", lambda m, ev: sound(m, ev) / (m.name != "gradcam"))
    with pytest.warns(UserWarning, match="gradcam gave no map for 2 images"):
        assert audit.main(audit.AuditRun(methods=["hirescam", "gradcam"], **flags_given)) == 3
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["config"]["methods"]["walled"] == [
        "hirescam",
        "gradcam",
    ]

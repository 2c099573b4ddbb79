"""The paper's network: what is asked of a GPU, how much is audited, and the whole flow in small."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console

from experiments import audit, figures, flags, paper, presets, reproduce, stages, twins
from tests.nets import SIZE, tiny, trained_tiny
from tests.sets import write_set
from wallcheck import models
from wallcheck.cams import CONTROLS, METHODS, PAPER

BIG = presets.PRESETS["vgg16_walls"]


@pytest.fixture
def gpu(monkeypatch):
    def there_is(answer: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: answer)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return there_is


def test_a_gpu_is_asked_for_unless_the_work_is_small_or_a_cpu_is_insisted_on(gpu):
    gpu(False)
    with pytest.raises(
        ValueError, match=r"this wants a GPU.*128,000 training images.*--count 1; to insist: --accelerator cpu"
    ):
        presets.device_for(BIG, "auto", 128_000, 100)
    with pytest.raises(ValueError, match="asked for by --accelerator gpu"):
        presets.device_for(BIG, "gpu", 64, 1)
    assert presets.device_for(BIG, "auto", 64, 1) == presets.device_for(BIG, "cpu", 128_000, 100) == "cpu"
    gpu(True)
    assert presets.device_for(BIG, "auto", 64, 1) == "gpu"
    assert presets.device_for(presets.PRESETS["vgg_small"], "auto", 60_000, 100) == "cpu"  # not unasked


def test_the_device_reaches_training_and_audit():
    given = reproduce.Reproduction(preset="vgg16_walls", train_count=8_000, epochs=8)
    training = reproduce.training_for(BIG, given, "gpu")
    command = " ".join(twins.training_of(training, Path("out/walled"), Path("out/data")))
    assert "experiments.train fit --config experiments/configs/vgg16_rendered.yaml" in command
    assert "--trainer.accelerator gpu --trainer.devices 1 --trainer.precision bf16-mixed" in command
    assert training.steps == 1_000
    part = paper.Part("paper", ["gradcam"], 50, with_twin=True)
    options = flags.read(audit.AuditRun, paper.audit_of(part, Path("out"), Path("out/data"), 3, "gpu")[3:])
    assert (options.accelerator, str(options.devices), options.count, options.seed) == ("gpu", "1", 50, 3)
    assert (options.unwalled, options.untrained) == ("out/unwalled/model.safetensors", False)


def test_every_method_is_audited_once_and_what_costs_more_on_fewer_images():
    net = trained_tiny()
    parts = paper.parts_of(net, 100)
    assert [(part.name, part.count) for part in parts] == [("paper", 100), ("every", 20), ("costly", 4), ("tenfold", 2)]
    named = [method for part in parts for method in part.methods]
    assert sorted(named) == sorted(name for name, method in METHODS.items() if not method.refuses(net))
    assert parts[3].methods == ["sscam", "sscam_input", "iscam", "iscam_torchcam"]
    assert {"rise", "polycam", "opticam", "sess_gradcam"} <= set(parts[2].methods)
    assert parts[0].methods == [*PAPER, *CONTROLS]
    assert [part.name for part in paper.parts_of(net, 4)] == ["paper"]


@pytest.fixture
def in_small(monkeypatch):
    """The same flow with tiny nets: commands are parsed as given and run here."""
    small = replace(BIG, size=SIZE, wall_row=SIZE // 2, wants_gpu=False, train_count=8, val_count=4, count=5, epochs=1)
    monkeypatch.setitem(presets.PRESETS, "vgg16_walls", small)
    called = []

    def call(module, quiet=False, **given):
        called.append(module)
        if module == "data_gen":
            for name in given["sets"]:
                write_set(Path(given["out"]) / name, given["count"])
        else:
            figures.main(stages.command_of(module, **given)[3:])

    def train_both(options, out, console, beside):
        called.append("training")
        nets = {"walled": trained_tiny(), "unwalled": tiny(seed=3, wall=None)}
        for name, net in nets.items():
            models.save(net, out / name / "model.safetensors")
            (out / name / "metrics.csv").write_text("epoch,step,val_accuracy,val_loss\n0,1,0.75,1.0\n")

    def at_once(jobs):
        called.extend(jobs)
        return max(audit.main(flags.read(audit.AuditRun, job.command[3:])) for job in jobs.values())

    monkeypatch.setattr(reproduce, "call", call)
    monkeypatch.setattr(reproduce, "train_both", train_both)
    monkeypatch.setattr(paper, "at_once", at_once)
    return called


def test_the_whole_flow_in_small(tmp_path, monkeypatch, in_small, capsys):
    few = ["gradcam", "scorecam", *CONTROLS]
    monkeypatch.setattr(paper, "PAPER", few[:2])
    monkeypatch.setattr(paper, "METHODS", {name: METHODS[name] for name in [*few, "normgrad", "gradient"]})
    options = reproduce.Reproduction(preset="vgg16_walls", out=str(tmp_path / "run"), docs=str(tmp_path / "docs"))
    assert reproduce.main(options) == 0
    assert in_small == ["data_gen", "training", "audit paper", "audit every", "experiments.figures"]
    page, found = (tmp_path / "docs" / f"vgg16_walls.{kind}" for kind in ("md", "json"))
    text, kept = page.read_text(), json.loads(found.read_text())
    assert "| gradcam, STACK-GEN, walled, L2 share as displayed | 0.22 ± 0.12 | 0." in text
    assert "| NormGrad | local | zero | 1F+1b | 1 | 0.000" in text
    assert "75.0% walled, 75.0% unwalled" in text
    table = kept["found"]["table"]
    assert {"walled", "unwalled"} == set(table["net"])
    assert kept["config"]["count"] == 5 and kept["config"]["epochs"] == 1
    assert set(kept["found"]["seconds"]) == {"data", "training", "audits", "figures"}
    for name in paper.FIGURES:
        assert (tmp_path / "docs" / "vgg16_walls" / f"{name}.png").stat().st_size < 1e6
    assert not list((tmp_path / "docs").rglob("*.safetensors"))

    in_small.clear()
    assert reproduce.main(options) == 0  # all is there: nothing is done again
    assert in_small == []


def test_jobs_at_once_end_together_and_the_one_that_failed_is_named(tmp_path):
    def job(name: str, code: str) -> stages.Job:
        return stages.Job([sys.executable, "-c", code], tmp_path / f"{name}.log")

    assert stages.at_once({"one": job("one", "print(1)"), "two": job("two", "raise SystemExit(3)")}) == 3
    assert (tmp_path / "one.log").read_text() == "1\n"
    later = stages.Job(
        [sys.executable, "-c", f"print(open(r'{tmp_path / 'one.log'}').read())"], tmp_path / "later.log", after="one"
    )
    assert stages.at_once({"later": later, "one": job("one", "print(7)")}) == 0
    assert (tmp_path / "later.log").read_text() == "7\n\n"
    jobs = {"long": job("long", "import time; time.sleep(60)"), "bad": job("bad", "raise SystemExit('no room')")}
    with pytest.raises(RuntimeError, match=r"bad failed; the end of .*bad.log:\nno room"):
        stages.at_once(jobs)


def test_a_report_tells_wall_and_processor_seconds(tmp_path, capsys):
    kept = stages.Stages(tmp_path, {}, Console(quiet=True))
    kept.run("data", lambda: None)
    kept.run("audit", lambda: 3)
    kept.report({"walled": 0.5})
    told = capsys.readouterr().out
    assert "processor seconds" in told and "audit (not whole)" in told and "walled: 50.0%" in told
    assert set(json.loads((tmp_path / "stages.json").read_text())["seconds"]) == {"data"}


def test_one_image_has_no_spread():
    alone = dict(mean=0.266, low=math.nan, high=math.nan, std=math.nan, count=1, empty=0.0)
    named = dict(net="walled", images="stack_gen", metric="leak_l2")
    table = pd.DataFrame([named | alone | dict(method=name) for name in ("gradcam", "constant")])
    assert "| 0.22 ± 0.12 | 0.27 | 0.266 (n = 1: no interval) |" in paper.beside_the_paper(table)

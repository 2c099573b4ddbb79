"""The command line: what it prints, what it leaves, and the status it ends with."""

import errno
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.nets import tiny, trained_tiny
from tests.sets import write_photographs, write_set
from wallcheck import models
from wallcheck.auditing import audit
from wallcheck.cams import METHODS, cam_method
from wallcheck.certificate import Certificate
from wallcheck.cli import main
from wallcheck.data import PhotoFolder
from wallcheck.metrics import KINDS
from wallcheck.results import Manifest, merge

ROOT = Path(__file__).parents[2]


KIND = dict(family="local", source="mine", cost="0", verdict="may_leak")


@contextmanager
def own_methods():
    """METHODS are put back as they were."""
    before = dict(METHODS)
    try:
        yield
    finally:
        METHODS.clear()
        METHODS.update(before)


@pytest.fixture
def model(tmp_path):
    return models.save(trained_tiny(), tmp_path / "model.safetensors")


def test_methods_lists_every_method_with_its_facts(wallcheck):
    status, printed, _ = wallcheck("methods", "--json")
    listed = json.loads(printed)
    assert status == 0
    assert [one["name"] for one in listed] == list(METHODS)
    for one in listed:
        method = METHODS[one["name"]]
        assert (one["family"], one["cost"], one["verdict"], one["source"], one["grid"]) == (
            method.family, method.cost, method.verdict, method.source, method.grid
        )  # fmt: skip


@pytest.mark.parametrize("width, shown", [(80, "may_leak"), (160, "1F+1b")])
def test_methods_prints_a_table(wallcheck, monkeypatch, width, shown):
    monkeypatch.setenv("COLUMNS", str(width))
    status, printed, _ = wallcheck("methods")
    assert status == 0
    assert f"{len(METHODS)} methods" in printed
    assert all(name in printed for name in ("gradcam", "hirescam", "pooled", shown))


def test_metrics_lists_every_metric_with_its_facts(wallcheck):
    status, printed, _ = wallcheck("metrics", "--json")
    listed = {one["name"]: one for one in json.loads(printed)}
    assert status == 0
    assert set(listed) == {name for registry in KINDS.values() for name in registry}
    assert listed["average_drop"] == dict(
        name="average_drop", kind="faithfulness", better="low", cost="1F", ends="0 nothing is lost, 1 all",
        what="relu(Y - O) / Y: the share of the probability that is lost with what the map leaves dark.",
        source="Chattopadhyay et al. 2018 (Grad-CAM++)",
    )  # fmt: skip
    status, printed, _ = wallcheck("metrics")
    assert status == 0 and f"{len(listed)} metrics" in printed


def test_certify_passes_and_keeps_the_certificate(wallcheck, model, tmp_path):
    status, printed, _ = wallcheck("certify", model, "--out", tmp_path / "certificate.json")
    assert status == 0
    assert printed.startswith("264 of 576 pixels unseen, graph ")
    assert "FAIL" not in printed
    assert Certificate.load(tmp_path / "certificate.json").raise_if_broken().raise_if_other(trained_tiny())


def test_certify_fails_with_status_1_and_says_where(wallcheck, tmp_path):
    net = tiny()
    net.head[1].weight.data[0, 0] = torch.inf
    status, printed, _ = wallcheck("certify", models.save(net, tmp_path / "model.safetensors"))
    assert status == 1
    assert "FAIL  finite_weights  eval   head.1.weight holds NaN or infinity" in printed


def test_audit_of_photographs(wallcheck, model, tmp_path):
    folder, out = write_photographs(tmp_path / "holiday", 7), tmp_path / "run"
    status, printed, errors = wallcheck(
        "audit", model, "--images", folder, "--out", out, "--methods", "gradcam", "hirescam", "--batch_size", 3
    )
    assert (status, errors) == (0, "")
    assert "model on holiday" in printed
    assert f"rows, manifest and table are in {out}" in printed
    rows = merge(out)
    images = PhotoFolder(folder, 24)
    direct = audit(trained_tiny(), images.images(), ["gradcam", "hirescam"], net_name="model", image_set="holiday")
    np.testing.assert_allclose(rows["value"], direct["value"], rtol=0, atol=5e-6)
    assert rows["image"].nunique() == 7
    table = pd.read_csv(out / "leakage.csv")
    mass = table[(table["metric"] == "leak_mass") & (table["on"] == "grid")].set_index("method")
    assert mass.loc["hirescam", "mean"] == 0
    assert mass.loc["gradcam", "low"] > 0
    manifest = Manifest.load(out)
    assert manifest.image_sets["holiday"]["count"] == 7
    assert manifest.config["methods"] == {"model": ["gradcam", "hirescam"]}
    assert manifest.certificates["model"]["fingerprint"]


def test_audit_explains_labels_when_asked(wallcheck, model, tmp_path):
    folder, out = write_set(tmp_path / "mix", 6), tmp_path / "run"
    assert (
        wallcheck("audit", model, "--images", folder, "--out", out, "--methods", "gradcam", "--targets", "label")[0]
        == 0
    )
    targets = merge(out).groupby("image")["target"].first().tolist()
    assert targets == np.load(folder / "labels.npy").tolist()


def test_audit_takes_the_certificate_it_is_given(wallcheck, model, tmp_path):
    certificate, out = tmp_path / "certificate.json", tmp_path / "run"
    wallcheck("certify", model, "--out", certificate)
    folder = write_photographs(tmp_path / "photos", 1)
    arguments = (
        "audit",
        model,
        "--images",
        folder,
        "--out",
        out,
        "--methods",
        "hirescam",
        "--certificate",
        certificate,
    )
    assert wallcheck(*arguments)[0] == 0


def test_a_bad_method_costs_itself_alone_and_the_status_tells(wallcheck, model, tmp_path):
    folder, out = write_photographs(tmp_path / "holiday", 5), tmp_path / "run"
    with own_methods():
        cam_method(**KIND, name="bad")(lambda ev: ev.activations[:, 0] / 0)
        status, printed, errors = wallcheck(
            "audit", model, "--images", folder, "--out", out, "--methods", "bad", "hirescam"
        )
        assert (status, errors.count("\n")) == (3, 1)
        why = "bad gave no map for 5 images of holiday on model; image 0: bad gave NaN or infinity"
        assert errors.startswith(f"wallcheck audit: {why}")
        assert "missing: bad gave no map for 5 images of holiday on model" in " ".join(printed.split())
        table = pd.read_csv(out / "leakage.csv").set_index("method")
        assert table.loc["bad", ["missing", "count"]].tolist() == [5, 0]
        assert set(table.loc["hirescam", "missing"]) == {0}
        METHODS.pop("bad")
        cam_method(**KIND, name="bad")(lambda ev: ev.activations[:, 0])
        assert wallcheck("audit", model, "--images", folder, "--out", out, "--methods", "bad", "hirescam")[::2] == (
            0,
            "",
        )
    assert set(merge(out)["method"].unique()) == {"bad", "hirescam"}


@pytest.mark.parametrize("arguments", [("methods",), ("methods", "--json")])
def test_a_reader_who_leaves_is_no_error(arguments):
    command = [sys.executable, "-m", "wallcheck", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)


def test_letters_that_a_terminal_lacks_are_spelled_out(model, tmp_path):
    """As on Windows, and on servers without a locale; files are in UTF-8 whatever the terminal is."""
    bare = dict(os.environ, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", COLUMNS="400")

    def ask(*arguments):
        command = [sys.executable, "-m", "wallcheck", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=bare)

    done = ask("methods")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2212" in done.stdout
    write_photographs(tmp_path / "photos", 2)
    out = tmp_path / "run"
    assert (
        main(["audit", str(model), "--images", str(tmp_path / "photos"), "--out", str(out), "--methods", "gradcam"])
        == 0
    )
    assert (ask("report", out).returncode, "\u25cf" in (out / "report.html").read_text(encoding="utf-8")) == (0, True)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_process_without_a_place_to_print_works_all_the_same(tmp_path, closed):
    out = tmp_path / "certificate.json"
    command = f'"{sys.executable}" -m wallcheck certify assets:plain --out "{out}" {closed}'
    assert subprocess.run(command, shell=True, cwd=ROOT).returncode == 0
    assert json.loads(out.read_text(encoding="utf-8"))


def test_a_full_disk_is_told_with_what_to_do(wallcheck, model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("wallcheck.certificate.write_text", full)
    status, _, errors = wallcheck("certify", model, "--out", tmp_path / "certificate.json")
    assert status == 2
    assert errors == (
        "wallcheck certify: [Errno 28] No space left on device; make room, and the same command goes on where it stopped\n"
    )


def test_the_home_folder_is_meant_by_its_sign_everywhere(wallcheck, model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_photographs(tmp_path / "photos", 2)
    assert wallcheck("certify", "~/model.safetensors", "--out=~/new/certificates/m.json")[0] == 0
    more = ("--methods", "hirescam", "--certificate=~/new/certificates/m.json")
    assert wallcheck("audit", "~/model.safetensors", "--images=~/photos", "--out=~/runs/x", *more)[0] == 0
    assert len(merge("~/runs/x")["image"].unique()) == 2
    assert not (tmp_path / "~").exists()


def test_no_command_prints_help(wallcheck):
    status, printed, _ = wallcheck()
    assert status == 2
    assert "methods" in printed
    assert "certify" in printed


@pytest.mark.parametrize(
    "arguments", [("audit", "MODEL"), ("certify",), ("methods", "--yaml"), ("explain",)], ids=lambda a: " ".join(a)
)
def test_wrong_usage_ends_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2
    assert "usage: wallcheck" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["layers", "certify"])
def test_a_word_that_names_no_model_is_answered_with_how_they_are_named(wallcheck, command):
    status, printed, errors = wallcheck(command, "resnet18")
    assert (status, printed) == (2, "")
    assert errors.startswith(f"wallcheck {command}: no model is named 'resnet18'; write torchvision:NAME")


@pytest.mark.parametrize("arguments", [("certify", "nowhere.safetensors"), ("certify", "nowhere.pt")])
def test_errors_are_one_line_and_status_2(wallcheck, arguments):
    status, printed, errors = wallcheck(*arguments)
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("wallcheck certify: ")


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta"])
def test_a_device_that_is_not_there_is_told_before_anything_is_written(wallcheck, model, tmp_path, device):
    images = write_photographs(tmp_path / "photographs", 2)
    status, printed, errors = wallcheck(
        "audit", str(model), "--images", str(images), "--out", str(tmp_path / "run"), "--device", device
    )
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert f"--device {device} cannot be used" in errors and "one of cpu, cuda, mps" in errors
    assert not (tmp_path / "run").exists()


def test_the_installed_command_and_the_module_are_one():
    for module in ("wallcheck", "wallcheck.cli"):
        done = subprocess.run([sys.executable, "-m", module], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stdout.startswith("usage: wallcheck")
    assert 'wallcheck = "wallcheck.cli:main"' in (ROOT / "pyproject.toml").read_text()

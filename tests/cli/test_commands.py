"""The commands and flags around an audit: settings from YAML, answers for machines, limits, comparison, what comes with wallcheck."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.nets import tiny, trained_tiny
from tests.sets import write_photographs
from wallcheck import cli, models, version
from wallcheck.cams import METHODS, cam_method
from wallcheck.cli import main
from wallcheck.results import merge

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A saved net, photographs, and an audit of it."""
    folder = tmp_path_factory.mktemp("place")
    models.save(trained_tiny(), folder / "model.safetensors")
    write_photographs(folder / "photos", 6)
    assert main(audit_of(folder)) == 0
    return folder


def audit_of(folder, *more, methods=("gradcam", "hirescam")):
    return [
        "audit", str(folder / "model.safetensors"), "--images", str(folder / "photos"), "--out", str(folder / "run"),
        "--methods", *methods, *more,
    ]  # fmt: skip


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out.strip() == f"wallcheck {version.__version__}"


def test_max_leakage_decides_the_status_and_names_who_broke_it(wallcheck, place):
    assert wallcheck(*audit_of(place, "--max_leakage", "0.01", methods=["hirescam"]))[0] == 0
    status, _, errors = wallcheck(*audit_of(place, "--max-leakage", "0.01"))
    assert status == 1 and errors.startswith("wallcheck audit: gradcam on photos (model) leaks 0.")
    assert "more than max_leakage 0.01" in errors and "hirescam" not in errors
    assert wallcheck(*audit_of(place, "--max-leakage", "1"))[0] == 0
    status, _, errors = wallcheck(*audit_of(place, "--max-leakage", "7"))
    assert status == 2 and "from 0 to 1" in errors


def test_an_empty_map_is_not_below_any_limit_and_a_control_counts_where_it_is_named(wallcheck, place):
    before = dict(METHODS)
    try:
        cam_method(family="local", source="mine", cost="0", verdict="may_leak", name="silent")(
            lambda ev: -ev.activations[:, 0].abs()
        )
        status, _, errors = wallcheck(*audit_of(place, "--max-leakage", "1", methods=["silent"]))
    finally:
        METHODS.clear()
        METHODS.update(before)
    assert status == 1 and "silent on photos (model): all 6 maps are empty" in errors
    assert wallcheck(*audit_of(place, "--max-leakage", "0.5", methods=["hirescam", "constant"]))[0] == 1


def test_yaml_and_flags_say_the_same(wallcheck, place, tmp_path):
    settings = {
        "model": str(place / "model.safetensors"), "images": str(place / "photos"), "methods": ["gradcam"],
        "out": str(tmp_path / "run"), "max_leakage": 0.01, "json": True,
    }  # fmt: skip
    (tmp_path / "audit.yaml").write_text(yaml.safe_dump(settings))
    status, printed, _ = wallcheck("audit", "--config", tmp_path / "audit.yaml")
    told = json.loads(printed)
    assert status == 1 and told["failures"] == [] and told["broken"][0].startswith("gradcam on photos")
    mass = [row for row in told["leakage"] if row["metric"] == "leak_mass" and row["on"] == "grid"]
    rows = merge(tmp_path / "run", metric="leak_mass", view="rectified", on="grid")
    assert mass[0]["mean"] == pytest.approx(rows["value"].mean())
    assert wallcheck("audit", "--config", tmp_path / "audit.yaml", "--max_leakage", "1")[0] == 0  # a later flag counts


def test_one_value_in_a_file_of_settings_is_a_list_of_one(wallcheck, place, tmp_path):
    settings = {
        "model": str(place / "model.safetensors"),
        "images": str(place / "photos"),
        "out": str(tmp_path / "run"),
    }
    alone = {"methods": "gradcam", "metrics": "leak_any"}
    (tmp_path / "audit.yaml").write_text(yaml.safe_dump(settings | alone))
    assert wallcheck("audit", "--config", tmp_path / "audit.yaml")[0] == 0
    assert set(merge(tmp_path / "run")["method"]) == {"gradcam"}
    assert set(merge(tmp_path / "run")["metric"]) == {"leak_any"}
    (tmp_path / "audit.yaml").write_text("methods: [gradcam")
    with pytest.raises(SystemExit, match="2"):  # the parser's own words, with the line
        wallcheck("audit", "--config", tmp_path / "audit.yaml")


def test_markdown_for_a_pull_request(wallcheck, place):
    status, printed, _ = wallcheck(*audit_of(place, "--markdown", "--max-leakage", "0.01"))
    assert status == 1 and printed.startswith("**model on photos**")
    assert "| hirescam | local | 0.000 [" in printed and "> **gradcam on photos (model) leaks 0." in printed


def test_names_are_whole_and_means_are_shown_at_80_columns(wallcheck, place, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    printed = wallcheck(*audit_of(place))[1]
    assert "gradcam" in printed and "mass on unseen cells" in printed and "…" not in printed
    mean = merge(place / "run", metric="leak_mass", view="rectified", on="grid", method="gradcam")["value"].mean()
    assert f"{mean:.3f} [" in printed
    for command in ("methods", "metrics"):
        printed = wallcheck(command)[1]
        names = [one["name"] for one in json.loads(wallcheck(command, "--json")[1])]
        assert all(name in printed for name in names) and max(map(len, printed.splitlines())) <= 80


def test_certify_answers_as_json_and_fails_where_nothing_is_unseen(wallcheck, place, tmp_path):
    status, printed, _ = wallcheck("certify", place / "model.safetensors", "--json")
    told = json.loads(printed)
    assert status == 0 and told["holds"] and told["problems"] == [] and told["fingerprint"]
    open_net = models.save(tiny(wall=None), tmp_path / "open.safetensors")
    status, printed, errors = wallcheck("certify", open_net, "--markdown")
    assert status == 1 and "nothing is unseen" in errors and "**The wall is broken:** nothing is unseen." in printed


def test_compare_two_runs_and_two_nets(wallcheck, place, tmp_path):
    models.save(tiny(), tmp_path / "untrained.safetensors")
    arguments = ["audit", tmp_path / "untrained.safetensors", "--images", place / "photos", "--out", tmp_path / "run"]
    assert wallcheck(*arguments, "--methods", "gradcam", "hirescam", "--metrics", "leak_mass")[0] == 0
    status, printed, _ = wallcheck("compare", place / "run", tmp_path / "run", "--json")
    found = {one["method"]: one for one in json.loads(printed)}
    assert status == 0 and found["hirescam"]["difference"] == 0 and found["gradcam"]["count"] == 6
    status, printed, _ = wallcheck("compare", place / "run", tmp_path / "run", "--markdown")
    assert printed.startswith("**leak_mass: model less untrained**") and "| photos | gradcam |" in printed
    status, _, errors = wallcheck("compare", place / "run")
    assert status == 2 and "name two with --nets, or give two runs" in errors


def test_report_writes_one_page_and_says_where(wallcheck, place, tmp_path):
    status, printed, _ = wallcheck("report", place / "run")
    path = place / "run" / "report.html"
    assert status == 0 and printed.strip() == f"the report is {path}"
    assert "hirescam" in path.read_text() and path.read_text().lower().startswith("<!doctype html>")
    assert json.loads(wallcheck("report", place / "run", "--out", tmp_path / "r.html", "--json")[1]) == {
        "report": str(tmp_path / "r.html")
    }


def test_what_comes_with_wallcheck_goes_by_name(wallcheck, tmp_path):
    status, printed, _ = wallcheck("certify", "assets:pooled")
    assert status == 0 and printed.startswith("2048 of 4096 pixels unseen")
    assert wallcheck("certify", "assets:pooled-unwalled")[0] == 1
    status, _, errors = wallcheck("certify", "assets:pooled", "--wall", "bottom:1/2")
    assert status == 2 and "assets:pooled tells its own" in errors
    assert wallcheck("demo", "--net", "torchvision:resnet18", "--out", tmp_path)[0] == 2
    arguments = ("audit", "assets:pooled", "--images", "assets:stack_gen", "--methods", "cam", "--metrics", "leak_mass")
    assert wallcheck(*arguments, "--out", tmp_path / "run", "--count", 4, "--targets", "label")[0] == 0
    assert np.unique(merge(tmp_path / "run")["target"]).max() < 10


def test_hints_lead_somewhere_without_the_source_repository(wallcheck, tmp_path):
    missing = wallcheck("certify", tmp_path / "none.safetensors")[2]
    assert "assets:plain" in missing and "wallcheck.blind" in missing


def test_the_step_of_the_action_runs_and_fails_where_a_method_leaks_too_much(tmp_path):
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    install, tests, audit = action["runs"]["steps"]
    used = {name for step in (install, tests, audit) for name in step.get("env", {}).values()}
    assert {f"${{{{ inputs.{name} }}}}" for name in action["inputs"]} - used == {"${{ inputs.package }}"}
    assert "--junitxml" in tests["run"] and "--wall-pictures" in tests["run"]

    defaults = {f"${{{{ inputs.{name} }}}}": given["default"] for name, given in action["inputs"].items()}
    given = {name: defaults[value] for name, value in audit["env"].items()} | {"LIMIT": "0.1"}
    places = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": "summary.md"}
    done = subprocess.run(
        ["bash", "-e", "-c", audit["run"]],
        cwd=tmp_path,
        env=os.environ | places | given,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    summary = (tmp_path / "summary.md").read_text()
    assert "| hirescam | local | 0.000" in summary
    assert "gradcam on stack_mix (plain) leaks" in summary and "more than max_leakage 0.1" in summary
    assert (tmp_path / "wallcheck-results" / "manifest.json").is_file()


BROKEN = {"text": "def x(:", "raises": "raise RuntimeError('no luck')", "leaves": "import sys\nsys.exit(4)"}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("command", ["audit", "certify"])
def test_a_module_that_cannot_be_imported_is_named_in_one_line(wallcheck, place, tmp_path, monkeypatch, text, command):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"bad_{abs(hash((text, command)))}"
    (tmp_path / f"{name}.py").write_text(text)
    asked = audit_of(place, methods=[f"{name}:x"]) if command == "audit" else ["certify", f"{name}:x"]
    status, _, errors = wallcheck(*asked)
    assert status == 2 and errors.count("\n") == 1 and f"{name} cannot be imported" in errors


def test_a_fault_that_nobody_foresaw_is_one_line_too(wallcheck, monkeypatch):
    def fails(options):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(cli, "_command", lambda name: fails)
    status, _, errors = wallcheck("methods")
    assert (status, errors.count("\n")) == (2, 1) and "RuntimeError: two lines; WALLCHECK_TRACEBACK=1" in errors
    monkeypatch.setenv("WALLCHECK_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="two"):
        main(["methods"])


def test_an_answer_is_alone_on_stdout_whatever_a_compiled_library_prints():
    code = "import os; from wallcheck.cli import _answer_alone\nwith _answer_alone(True):\n os.write(1, b'noise'); print('answer')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("answer\n", "noise")


def test_what_would_fail_after_the_work_is_refused_before_it(wallcheck, place, tmp_path):
    out = place / "run-of-nothing"
    asked = audit_of(place, "--max_leakage", "0.1", "--metrics", "leak_l2")
    asked[asked.index("--out") + 1] = str(out)
    status, _, errors = wallcheck(*asked)
    assert status == 2 and "leak_mass, which is not asked for" in errors and not out.exists()
    asked[asked.index("--out") + 1] = ""
    assert "the run folder has no name" in wallcheck(*asked[:-4])[2]
    status, _, errors = wallcheck("certify", str(place / "model.safetensors"), "--out", str(tmp_path))
    assert status == 2 and "is a folder; name a file" in errors


def test_settings_that_are_no_text_are_one_line(wallcheck, tmp_path):
    (tmp_path / "settings.yaml").write_bytes(b"\xff\xfe\x00")
    status, _, errors = wallcheck("methods", "--config", str(tmp_path / "settings.yaml"))
    assert status == 2 and errors.count("\n") == 1 and "check --config" in errors

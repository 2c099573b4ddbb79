"""The plugin costs other projects nothing; a stranger's project uses it, and reads what a failure shows."""

import re
import shutil
from xml.etree import ElementTree

import pytest
import torch

from tests.nets import photos, tiny
from tests.plugging import ROOT, installed, pytest_in
from wallcheck.pytest_plugin import pytest_assertrepr_compare
from wallcheck.reading import leakage

HEAVY = ("torch", "numpy", "pandas", "matplotlib", "scipy", "lightning", "rich", "jsonargparse")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory, path):
    """tests/third_party, run once, elsewhere: (what pytest printed, outcome of each test, its folder)."""
    project = tmp_path_factory.mktemp("stranger") / "glowmaps"
    shutil.copytree(ROOT / "tests" / "third_party", project)
    done = pytest_in(project, path, "-q", "--junitxml=junit.xml")
    cases = ElementTree.parse(project / "junit.xml").iter("testcase")
    outcomes = {case.get("name"): next((child.tag for child in case), "passed") for case in cases}
    return done.stdout, outcomes, project


def test_a_project_that_does_not_use_it_loads_nothing_of_it(tmp_path, path):
    """pytest with the plugin present, its options and its help: no heavy module."""
    (tmp_path / "test_light.py").write_text(
        f"import sys\ndef test_light():\n    assert 'wallcheck.pytest_plugin' in sys.modules\n"
        f"    assert not [name for name in {HEAVY!r} if name in sys.modules]\n"
    )
    done = pytest_in(tmp_path, path, "-q")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    told = pytest_in(tmp_path, path, "--help").stdout
    assert all(option in told for option in ("--wall-net", "--wall-images", "--wall-seed", "--wall-pictures"))


def test_one_passes_one_fails_one_is_expected_to(stranger):
    printed, outcomes, _ = stranger
    assert outcomes["test_pointwise_is_blind"] == "passed", printed
    assert outcomes["test_averaged_is_blind"] == "failure"
    assert outcomes["test_contrast_is_blind"] == "skipped"  # JUnit's word for an expected failure
    assert outcomes["test_others"] == "passed", printed


def test_a_stranger_understands_the_failure(stranger):
    printed, _, project = stranger
    told = printed[printed.index("leakage of averaged <= 0.01") :]
    assert re.search(r"averaged on assets:plain: leak_mass 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] over \d+ images", told)
    assert "0 is clean; a constant map scores 0.750" in told
    assert re.search(r"worst: image \d+, 0\.\d{3}; its brightest unseen place is cell \(\d, \d\)", told)
    # A set, since pytest's summary tells the failure again where it runs on a CI machine.
    (picture,) = set(re.findall(r"picture: (\S+averaged-\d+\.png)", told))
    assert picture.startswith(str(project)) and (project / "wallcheck-failures").is_dir()
    with open(picture, "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_a_comparison_the_other_way_round_is_told_the_same(request):
    explain = lambda model, images, targets: torch.ones(len(images), 8, 8)  # noqa: E731, its name is told
    reading = leakage(explain, tiny(), photos(2)[0])
    told = pytest_assertrepr_compare(request.config, "<=", reading, 0.01)
    assert told[0] == "leakage of lambda <= 0.01"
    assert told == pytest_assertrepr_compare(request.config, ">=", 0.01, reading)
    assert pytest_assertrepr_compare(request.config, "<=", 0.5, 0.01) is None


def test_the_checks_run_there_with_their_expected_failures(stranger):
    printed, outcomes, _ = stranger
    checks = {name: outcome for name, outcome in outcomes.items() if name.startswith("test_checks[")}
    assert len(checks) == 18
    expected = {"test_checks[averaged-zero_on_unseen]", "test_checks[contrast-zero_on_unseen]"}
    assert {name for name, outcome in checks.items() if outcome == "skipped"} == expected
    assert {outcome for name, outcome in checks.items() if name not in expected} == {"passed"}, printed

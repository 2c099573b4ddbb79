"""The disagreement table: what is stated of the installed libraries holds, on nets of the tests' size."""

import importlib
import json

import pytest
import torch

from experiments.disagreements import __main__ as disagreements
from experiments.disagreements import cases, comparisons, settling
from experiments.disagreements.__main__ import Disagreements, Finding, find
from tests.nets import photos, tiny, trained_tiny
from wallcheck.cams import METHODS

for library in disagreements.PACKAGES:
    importlib.import_module(library)

NAMES = [f"{c.ours} / {c.library}.{c.explainer} / {c.case}" for c in comparisons.COMPARISONS]


@pytest.fixture(scope="module")
def evidence():
    return cases.cases(cases.drawn(tiny()), photos(4, seed=5)[0])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("comparison", comparisons.COMPARISONS, ids=NAMES)
def test_statement_holds(comparison, evidence):
    found = find(comparison, evidence[comparison.case])
    assert found.holds, f"{found.measured} ({found.difference:.1e}, left {found.left}), stated {found.stated}"


def test_every_difference_has_a_cause_that_was_taken_out():
    assert len(set(NAMES)) == len(NAMES)
    for comparison in comparisons.COMPARISONS:
        different = comparison.stated in ("different", "equal up to sign")
        assert bool(comparison.cause) == different == (comparison.settled is not None)
        assert comparison.ours in METHODS


def test_comparing_leaves_the_net_as_it_was(evidence):
    net = evidence["plain"].net
    find(next(c for c in comparisons.COMPARISONS if c.explainer == "DeepLift"), evidence["plain"])
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(p.grad is None for p in net.parameters())


def test_a_statement_that_does_not_hold_is_told():
    wrong = Finding("gradcam", "torchcam", "0", "GradCAM", "plain", "displayed", "equal as shown", 0.5, None, "")
    unexplained = Finding("gradcam", "torchcam", "0", "GradCAM", "plain", "displayed", "different", 0.5, 0.1, "noise")
    assert not wrong.holds and not unexplained.holds
    page = disagreements.markdown([wrong, unexplained], "a test")
    assert page.count("does not hold") == 2


def test_gap_is_a_share_of_the_peak_of_each_map():
    one = torch.tensor([[[4.0, 1.0]], [[0.1, 0.0]]])
    other = torch.tensor([[[4.0, 0.0]], [[0.1, 0.05]]])
    assert settling.gap(one, other) == pytest.approx(0.5)
    assert settling.gap(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)) == 0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_command_writes_page_and_rows(tmp_path, monkeypatch, capsys):
    few = [c for c in comparisons.COMPARISONS if c.ours == "gradcam"]
    monkeypatch.setattr(disagreements, "COMPARISONS", few)
    monkeypatch.setattr(disagreements.models, "vgg_small", lambda seed: trained_tiny())
    monkeypatch.setattr(disagreements, "drawn", lambda net: net)
    disagreements.main(Disagreements(count=2, out=str(tmp_path / "run"), docs=str(tmp_path / "docs")))
    rows = json.loads((tmp_path / "run/disagreements.json").read_text())
    assert len(rows) == len(few) and all(row["holds"] for row in rows)
    page = (tmp_path / "docs/disagreements.md").read_text()
    assert "LayerGradCam" in page and "grad-cam 1." in page
    assert "LayerGradCam" in capsys.readouterr().out

"""The study of families, on a small member: what it measures, keeps and tells."""

import json

import pytest
import torch

from experiments.families import __main__ as study
from experiments.families import measuring
from experiments.families.members import Member
from tests.graph.nets import Classifier, Transformer, conv, drawn

MEMBERS = {
    "chain": Member("Chain", 16, "features.0"),
    "tokens": Member("Tokens", 16, "patches"),
    "timm:absent": Member("Absent", 16, None),
}


def built(name: str, seed: int) -> torch.nn.Module:
    if name == "tokens":
        model = Transformer(tokens="mean")
        model.blocks = torch.nn.Sequential(torch.nn.Linear(8, 8))  # tokens that never meet
        return drawn(model, seed)
    return drawn(Classifier(conv(3, 6, stride=2), conv(6, 6, stride=2)), seed)


@pytest.fixture
def small(monkeypatch, tmp_path):
    for part in (study, measuring):
        monkeypatch.setattr(part, "MEMBERS", MEMBERS)
    monkeypatch.setattr(measuring, "built", built)
    monkeypatch.setattr(measuring, "find_spec", lambda name: None)
    return tmp_path


def rows(folder) -> list[dict]:
    return json.loads((folder / "families.json").read_text())["rows"]


def test_each_member_has_a_row_for_each_wall_or_the_reason_why_not(small):
    study.main(study.Families(docs=str(small)))
    found = {(row["name"], row["kind"]): row for row in rows(small)}
    assert set(found) == {
        ("chain", "trunk"),
        ("chain", "head"),
        ("tokens", "trunk"),
        ("tokens", "head"),
        ("timm:absent", ""),
    }
    for kind in ("trunk", "head"):
        row = found["chain", kind]
        assert row["problems"] == [] and row["bits_equal"] and row["gradient_zero"] and row["model_as_before"]
        assert row["hirescam_zero"] and row["layercam_zero"] and not row["gradcam_zero"]
        assert row["grad_cam_apart"] < 1e-3 and row["captum_apart"] < 1e-4 and row["gradient_elsewhere"] > 0
    assert found["chain", "trunk"]["unseen"] == 8 * 16 and found["chain", "trunk"]["side_exact"]
    assert found["chain", "head"]["unseen"] == 8 * 16  # cell row 3, the last one seen, reads rows 5 to 7
    assert "attention" in found["tokens", "trunk"]["refused"]
    assert "pip install 'wallcheck[timm]'" in found["timm:absent", ""]["refused"]
    page = (small / "families.md").read_text()
    assert "| Chain | chain, 16 | trunk, features |" in page and "* tokens, trunk wall: " in page


def test_rows_of_members_that_are_not_measured_again_are_kept_for_the_same_settings_only(small):
    study.main(study.Families(docs=str(small)))
    study.main(study.Families(only=["chain"], docs=str(small)))
    assert {row["name"] for row in rows(small)} == set(MEMBERS)
    with pytest.raises(FileExistsError, match="holds rows of"):
        study.main(study.Families(only=["chain"], seed=1, docs=str(small)))


def test_an_unknown_member_is_answered_with_those_there_are(small):
    with pytest.raises(LookupError, match=r"no member named 'chian'; there are chain, tokens"):
        study.main(study.Families(only=["chian"], docs=str(small)))

"""A user's own function and other libraries' explainers on the command line, and in a run folder that grows."""

import json

import pandas as pd
import pytest

from wallcheck.cli import main

MINE = """
import torch

def explain(model, images, targets):
    images = images.clone().requires_grad_()
    score = model(images).gather(1, targets[:, None]).sum()
    return {factor} * torch.autograd.grad(score, images)[0]
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the user's, in the folder where the command is run."""
    monkeypatch.chdir(tmp_path)

    def write(name, factor=1):
        (tmp_path / f"{name}.py").write_text(MINE.format(factor=factor))
        return f"{name}:explain"

    return write


def table_of(folder):
    """Share of the L2 norm as displayed, which maps on cells and on pixels have."""
    return (
        pd.read_csv(folder / "leakage.csv")
        .query("metric == 'leak_l2' and view == 'displayed'")
        .set_index("method")["mean"]
    )


def test_a_function_and_a_peer_beside_ours(wallcheck, mine, capsys):
    status, err, out = wallcheck(methods=("gradcam", mine("mine_one"), "captum.LayerGradCam"))
    assert (status, err) == (0, "")
    means = table_of(out)
    assert means["mine_one:explain"] == 0
    assert means["captum.LayerGradCam"] == pytest.approx(means["gradcam"], abs=1e-5)
    status, err, out = wallcheck(
        methods=("hirescam", "mine_one:explain")
    )  # more of it, and the rest is not measured again
    assert (status, set(table_of(out).index)) == (0, {"gradcam", "hirescam", "mine_one:explain", "captum.LayerGradCam"})


def test_another_function_of_the_same_name_is_refused(wallcheck, mine):
    """The name lies in the folder already, with the digest of another source."""
    status, _, out = wallcheck(methods=(mine("mine_two"),))
    assert status == 0
    kept = json.loads((out / "manifest.json").read_text())
    assert list(kept["config"]["foreign"]) == ["mine_two:explain"]
    kept["config"]["foreign"]["mine_two:explain"] = "0" * 16
    (out / "manifest.json").write_text(json.dumps(kept))
    status, err, _ = wallcheck(methods=("mine_two:explain",))
    assert status == 2
    assert "holds rows of another version of mine_two:explain (0000000000000000 there, " in err


def test_a_name_that_leads_nowhere(wallcheck, mine):
    mine("mine_three")
    status, err, out = wallcheck(methods=("mine_three:explian",))
    assert status == 2 and "mine_three has no 'explian'; it has explain" in err
    assert not out.exists()


def test_peers_are_listed_with_their_versions(capsys):
    assert main(["methods", "--peers", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["captum.Saliency"]["library"] == "captum" and found["captum.Saliency"]["version"][0].isdigit()
    assert {"pytorch_grad_cam.GradCAM", "torchcam.GradCAM", "zennit.epsilon_plus", "quantus.Saliency"} <= set(found)

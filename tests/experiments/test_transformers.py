"""The study of transformers, at its smallest: what it trains, audits and tells."""

import json

import pandas as pd

from experiments import transformers as study
from experiments.transformers import TransformersRun
from wallcheck import models
from wallcheck.cams import called
from wallcheck.results import merge

METHODS = ["gradcam", "generic_attention", "legrad", "gradient", "constant"]


def test_a_net_is_trained_and_audited_and_told(tmp_path):
    options = TransformersRun(
        train_count=64,
        val_count=20,
        epochs=1,
        count=2,
        methods=METHODS,
        out=str(tmp_path),
        docs=str(tmp_path / "docs"),
    )
    assert study.main(options) == 0
    net = models.load(tmp_path / "walled/model.safetensors")
    assert net.regions.unseen.sum() == 48 * 96 and not net.graph.problems
    assert models.load(tmp_path / "unwalled/model.safetensors").wall.is_open
    rows = merge(tmp_path / "audit")
    assert set(rows["method"]) == set(METHODS) and set(rows["net"]) == {"walled", "untrained"}
    found = json.loads((tmp_path / "docs" / "transformers.json").read_text())["found"]
    table = pd.DataFrame(found["table"]).set_index(["net", "images", "method"])["mean"]
    assert (table[:, :, "generic_attention"] == 0).all() and (table[:, :, "gradient"] == 0).all()
    assert (table[:, :, "legrad"] > 0).all() and (table[:, :, "constant"] == 0.5).all()
    assert found["proof"]["unseen"] == 48 * 96 and set(found["accuracies"]) == {"walled", "unwalled"}
    page = (tmp_path / "docs" / "transformers.md").read_text()
    assert f"| {called('generic_attention')} | attention | zero | 0.000 " in page
    assert "Not defined on this net" not in page  # of what was not asked for it says nothing
    study.main(options)  # everything is kept

"""The study of devices: what it compares, and what it says where maps differ."""

import json

import pandas as pd
import pytest

from experiments import devices as study
from experiments.devices import DevicesRun
from wallcheck.cams import METHODS

SMALL = dict(images=1, train_count=64, epochs=1)


def test_other_settings_of_a_cpu_give_the_same_maps(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "applicable", lambda net, wanted: [METHODS[m] for m in ("gradcam", "scorecam", "rise")])
    options = DevicesRun(
        against=["threads", "coarse"], nets=str(tmp_path / "nets"), out=str(tmp_path), docs=str(tmp_path), **SMALL
    )
    study.main(options)
    found = json.loads((tmp_path / "devices.json").read_text())["found"]
    maps, rows = pd.DataFrame(found["maps"]), pd.DataFrame(found["rows"])
    assert set(maps["setting"]) == {"threads", "coarse"} and len(maps) == 6 and (maps["apart"] <= study.BOUND).all()
    assert (maps[maps["setting"] == "coarse"]["apart"] == 0).all() and (rows["apart"] <= 1e-4).all()
    assert "| coarse | 3 |" in (tmp_path / "devices.md").read_text()


def test_what_differs_is_named():
    maps = pd.DataFrame(dict(setting="cuda", method=["gradcam", "rise"], apart=[1e-7, 0.2]))
    rows = pd.DataFrame(dict(setting="cuda", metric=["leak_mass"], apart=[0.01]))
    told = study.page(dict(maps=maps, rows=rows), DevicesRun())
    assert "| cuda | 2 | 1e-01 | 2e-01 | rise 2e-01 |" in told and "largest difference: cuda 1e-02" in told


def test_a_setting_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ValueError, match="'tpu' is no setting; choose from threads, coarse, cuda, mps"):
        study.main(DevicesRun(against=["tpu"], out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()

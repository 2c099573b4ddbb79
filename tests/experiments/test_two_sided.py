"""Two-sided truth, small: HiResCAM is the truth on one linear layer, an empty map misses all, and what is kept and told."""

import json

import numpy as np
import pandas as pd
import pytest

from experiments import two_sided as sides
from tests.experiments.kept import keeps_what_is_finished
from wallcheck.cams import METHODS

NAMES = ["gradcam", "hirescam", "eigencam", "constant", "unseen_only"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two_sided")
    options = sides.TwoSidedRun(
        methods=NAMES, seeds=1, images=6, train_count=64, epochs=1,
        nets=str(folder / "nets"), out=str(folder / "run"), docs=str(folder / "docs"),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sides.small_nets, "HELD_OUT", 20)
        sides.main(options)
        yield options, folder


def test_both_sides_of_what_is_known_beforehand(run):
    _, folder = run
    rows = pd.read_parquet(folder / "run" / "rows.parquet")
    assert len(rows) == 2 * 2 * 6 * len(NAMES) * len(sides.MEASURES)
    of = {name: part.pivot_table(index=["head", "state", "seed", "image"], columns="metric", values="value", dropna=False)
          for name, part in rows.groupby("method")}  # fmt: skip
    right = of["hirescam"]
    assert (right["leak_mass"].dropna() == 0).all() and (right["missed"].dropna() < 1e-6).all()
    assert (right["precision"].dropna() > 1 - 1e-6).all() and (right["sign_agreement"] > 1 - 1e-6).all()
    assert (of["constant"]["missed"].dropna() == 0).all() and (of["constant"]["leak_mass"] == 0.5).all()
    assert (of["constant"]["bright_area"] == 1).all() and of["constant"]["rank_agreement"].isna().all()
    assert (of["unseen_only"]["missed"].dropna() == 1).all() and (of["unseen_only"]["precision"] == 0).all()
    pooled = of["gradcam"].loc["pooled"]
    assert (pooled["sign_agreement"] > 1 - 1e-6).all()  # on seen cells it is the truth, up to a factor
    assert (pooled["leak_mass"].dropna() > 0).all()


def test_page_table_and_manifest_tell_the_same(run):
    _, folder = run
    page = (folder / "docs" / "two_sided.md").read_text()
    found = json.loads((folder / "docs" / "two_sided.json").read_text())["found"]
    table = pd.DataFrame(found["truth"]).set_index(["head", "state", "method", "metric"])
    assert table.loc[("flat", "trained", "unseen_only", "missed"), "mean"] == 1
    assert "| constant | control | 0.50" in page and "--train_count 64" in page
    assert "pooled head: " in page and "(two_sided.png)" in page
    assert (folder / "docs" / "two_sided.png").stat().st_size > 1000
    assert len(found["nets"]["seed"]) == 2


def test_what_is_finished_is_kept_and_other_settings_are_refused(run):
    options, folder = run
    keeps_what_is_finished(sides, options, folder / "docs" / "two_sided.md", told="images: 6 there, 5 here", images=5)


def test_verdict_by_hand():
    def lines(head, values):
        return [
            dict(head=head, state="trained", method=method, metric=metric, mean=value)
            for method, of in values.items()
            for metric, value in of.items()
        ]

    values = {
        "hirescam": dict(leak_mass=0.0, missed=0.01, bright_area=0.2),
        "sealed_eigencam": dict(leak_mass=np.nan, missed=1.0, bright_area=np.nan),
        "gradcam": dict(leak_mass=0.4, missed=0.0, bright_area=0.95),
    }
    told = sides.verdict(pd.DataFrame(lines("pooled", values) + lines("flat", values)))
    assert "pooled head: 2 of 3 methods do not leak" in told and "Of these 1 miss less than 5%" in told
    assert "1 miss 25% or more: sealed Eigen-CAM (1.00)" in told
    assert "Bright everywhere in the mean: Grad-CAM (0.00)." in told


def test_all_methods_with_cells_are_asked_by_default():
    recipe = next(iter(sides.recipes(sides.TwoSidedRun())))[2]
    names = sides.asked(recipe.built(), sides.TwoSidedRun())
    assert {"gradcam", "cam", "hirescam", "scorecam", "shapcam"} <= set(names)
    assert all(METHODS[name].grid == "cells" for name in names)

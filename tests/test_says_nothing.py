"""The other side of an audit: what maps miss stands beside their leakage, and maps that say nothing are told."""

import pandas as pd
import pytest
import torch

from experiments.figures import sides_of
from experiments.readme import _of_truth, cell
from tests.nets import photos, tiny
from wallcheck import plots
from wallcheck.auditing import audit
from wallcheck.cams import cam_method
from wallcheck.metrics import LEAKAGE, TRUTH
from wallcheck.registry import Registry
from wallcheck.results import rows_of
from wallcheck.running import is_headline
from wallcheck.tables import NOT_TOLD, leakage_listing, print_leakage, says_nothing

ADDS = {name for name, metric in TRUTH.items() if metric.asks == "contributions"}


def silent(ev):
    """Nothing at all on every other image."""
    maps = torch.where(ev.unseen, 0.0, ev.activations.sum(1))
    return maps * (torch.arange(len(maps)) % 2)[:, None, None]


def flat(ev):
    return torch.ones_like(ev.activations[:, 0])


def own(body):
    """The function as a method that no registry holds."""
    return cam_method(family="local", source="mine", cost="0", verdict="may_leak", registry=Registry("method"))(body)


@pytest.fixture(scope="module")
def rows():
    """A head that tells, two of the library's methods, a silent one and a flat one; eight images."""
    return audit(tiny(hidden=()), photos(8)[0], ["gradcam", "hirescam", "polycam", own(silent), own(flat)])


def values(rows: pd.DataFrame, method: str, metric: str) -> list[float]:
    return rows[(rows["method"] == method) & (rows["metric"] == metric)]["value"].tolist()


def test_rows_of_truth_stand_beside_those_of_leakage(rows):
    told = rows[rows["metric"].isin(list(TRUTH))]
    assert set(told[told["method"] == "gradcam"]["metric"]) == set(TRUTH)
    assert set(told[told["method"] == "polycam"]["metric"]) == {
        "bright_area"
    }  # pixels have no cells to be held against
    assert {tuple(key) for key in told[told["metric"].isin(ADDS)][["view", "on"]].drop_duplicates().to_numpy()} == {
        ("raw", "grid")
    }
    assert values(rows, "silent", "missed")[::2] == [1.0] * 4 and values(rows, "flat", "missed") == [0.0] * 8
    assert max(values(rows, "hirescam", "missed")) < 1e-6
    assert {*rows_of(rows).where(is_headline).unique("metric")} >= set(TRUTH)


def test_the_table_has_a_column_and_warnings_name_maps_that_say_nothing(rows, capsys):
    table = leakage_listing(rows, "net")
    assert table.columns[-1].heading == "missed" and table.note == ""
    shown = {line[0]: line[-1] for line in table.rows}
    assert shown["flat"].startswith("0.000") and shown["polycam"] == ""
    lines = says_nothing(rows)
    assert lines == [
        "flat: 8 of 8 maps are bright everywhere, above half the maximum on 90% of their cells or more; they miss nothing, and tell nothing",
        "silent: 4 of 8 maps are empty; they leak nothing, and miss all there is",
    ]
    print_leakage(rows)
    printed = capsys.readouterr().out
    assert "missed" in printed and "warning: silent: 4 of 8 maps are empty" in printed


def test_a_head_that_does_not_tell_leaves_the_column_empty_and_says_so():
    rows = audit(tiny(), photos(4)[0], ["gradcam", "constant"])
    assert not set(rows["metric"]) & ADDS and set(rows["metric"]) == {*LEAKAGE, "bright_area"}
    table = leakage_listing(rows, "net")
    assert [line[-1] for line in table.rows] == ["", ""] and table.note == NOT_TOLD
    assert says_nothing(rows) == []  # a control is there to be flat


def test_asking_for_what_no_head_tells_is_refused_before_any_work():
    with pytest.raises(
        ValueError, match="missed asks what each cell adds to the logit, which this net's head does not tell"
    ):
        audit(tiny(), photos(2)[0], ["gradcam"], metrics="missed")
    rows = audit(tiny(hidden=()), photos(2)[0], ["gradcam"], metrics=["missed"])
    assert set(rows["metric"]) == {"missed"} and len(rows) == 2


def test_rows_do_not_depend_on_the_batch_or_on_a_bad_neighbour(rows):
    """One image for which a method fails: the others are held against their own truth, not their neighbour's."""
    images = photos(8)[0]

    def moody(ev):
        if len(ev.images) > 1 or torch.equal(ev.images[0], images[3]):
            raise RuntimeError("not this one")
        return (ev.gradient * ev.activations).sum(1)

    with pytest.warns(UserWarning, match="moody gave no map for 1 images"):
        found = audit(tiny(hidden=()), images, [own(moody)], batch_size=5)
    kept = found[found["metric"] == "rank_agreement"]
    assert len(kept) == 7 and (kept["value"] > 1 - 1e-9).all()
    small = audit(tiny(hidden=()), images, ["gradcam"], batch_size=3)
    whole = rows[rows["method"] == "gradcam"].reset_index(drop=True)
    assert small["value"].tolist() == pytest.approx(whole["value"].tolist(), abs=1e-6, nan_ok=True)


def test_the_figure_sets_the_two_sides_against_each_other(rows):
    table = sides_of(rows.assign(net="walled"))
    assert set(table["method"]) == {"gradcam", "hirescam", "silent", "flat"}
    (axes,) = plots.two_sided(table).axes
    marks = {line.get_gid(): line.get_xydata()[0] for line in axes.get_lines() if line.get_gid()}
    assert marks["mean:flat"][1] == 0 and marks["mean:silent"][1] == pytest.approx(
        table.set_index("method")["missed"]["silent"]
    )


def test_readmes_tables_say_why_a_column_is_empty():
    assert cell({}) == ""
    assert "do not add up over cells" in _of_truth({"gradcam": {"missed (STACK-MIX)": {}}})
    assert _of_truth({"gradcam": {"missed (STACK-MIX)": {"mean": 0.1}}}).endswith("misses all).")

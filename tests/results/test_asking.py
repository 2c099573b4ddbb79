"""Rows that are asked and not merged: every answer is that of the merged table, to the last bit, however the folder came about."""

import numpy as np
import pandas as pd
import pytest

from tests.results.tables import rows
from wallcheck.results import (
    COLUMNS,
    KEY,
    Failure,
    Header,
    asking,
    compact,
    merge,
    open_rows,
    rows_of,
    shards,
    split,
    split_means,
    summary,
    writable,
    write_shard,
)
from wallcheck.results.parquet import pieces

VIEWS = ("rectified", "confined", "stretched")


def audited(numbers, methods=("b", "a", "c"), net="net", images="mix") -> pd.DataFrame:
    """Rows with what intervals depend on: ties, zeros, ends, empty maps and anything between."""
    parts = []
    for method in methods:
        for place, view in enumerate(VIEWS):
            for metric in ("leak_mass", "leak_any", "leak_l2"):
                draw = np.random.default_rng([len(net), len(images), ord(method), place, len(metric)])
                values = draw.random(max(numbers) + 1)
                values = {"leak_mass": values, "leak_any": values.round(), "leak_l2": values * (values > 0.9)}[metric]
                values[::7] = np.nan
                row = (net, images, np.array(numbers), method, view, "image", metric, 0, values[numbers])
                parts.append(pd.DataFrame(dict(zip(COLUMNS, row, strict=True))))
    return pd.concat(parts).sample(frac=1, random_state=0)


@pytest.fixture(scope="module", params=["by batches", "by ranks", "compacted", "half compacted", "methods later"])
def folder(tmp_path_factory, request):
    """Thirty images on two nets and two sets, written in another way each time."""
    run = writable(tmp_path_factory.mktemp("runs") / "run")
    batches = {"by ranks": [range(first, 30, 10) for first in range(10)]}.get(
        request.param, [range(first, first + 3) for first in range(0, 30, 3)]
    )
    for net, images in (("net", "mix"), ("net", "gen"), ("other", "mix")):
        for place, batch in enumerate(batches):
            table = audited(list(batch), net=net, images=images)
            if request.param == "methods later":
                write_shard(run, table[table["method"] == "c"])
                table = table[table["method"] != "c"]
            write_shard(run, table)
            if request.param == "half compacted" and place == 5:
                compact(run, few=1)
    if request.param == "compacted":
        assert compact(run) == 3 and len(shards(run)) == 3
    return run


@pytest.mark.parametrize("by", [None, ["method", "images"], ["metric"]])
def test_a_summary_is_that_of_the_merged_table(folder, by, monkeypatch):
    whole = summary(merge(folder), by)
    pd.testing.assert_frame_equal(summary(open_rows(folder), by), whole, check_exact=True)
    monkeypatch.setattr(asking, "AT_ONCE", 200)  # several passes
    pd.testing.assert_frame_equal(summary(open_rows(folder), by), whole, check_exact=True)


def test_rows_can_be_chosen_before_they_are_read(folder):
    whole, chosen = merge(folder), open_rows(folder).select(method=["a", "c"], metric="leak_l2", net="net")
    table = whole[whole["method"].isin(["a", "c"]) & (whole["metric"] == "leak_l2") & (whole["net"] == "net")]
    pd.testing.assert_frame_equal(chosen.summary(), summary(table), check_exact=True)
    pd.testing.assert_frame_equal(
        chosen.table().astype(str), table.reset_index(drop=True).astype(str), check_exact=True
    )
    assert chosen.unique("method") == ["a", "c"] and len(chosen) == len(table)
    odd = open_rows(folder).where(lambda one: (one.view == "confined") != (one.method == "a"))
    same = whole[(whole["view"] == "confined") != (whole["method"] == "a")]
    pd.testing.assert_frame_equal(odd.summary(["view"]), summary(same, ["view"]), check_exact=True)
    pd.testing.assert_frame_equal(odd.table()[KEY].astype(str), same.reset_index(drop=True)[KEY].astype(str))
    assert list(open_rows(folder).select(method="none").grouped(["net"])) == []


def test_parts_of_leakage_are_those_of_the_merged_table(folder):
    whole = split_means(split(merge(folder)))
    found = open_rows(folder).split()
    assert found["empty"].between(0.1, 0.2).all() and (found["count"] == 30).all()
    pd.testing.assert_frame_equal(found, whole, check_exact=True)
    pd.testing.assert_frame_equal(rows_of(merge(folder)).split(), whole, check_exact=True)


def test_rows_of_a_table_are_asked_like_those_of_a_folder(folder):
    table, rows = rows_of(merge(folder)), open_rows(folder)
    assert table.measures == rows.measures and len(table) == len(rows)
    pd.testing.assert_frame_equal(table.summary(), rows.summary(), check_exact=True)
    some = dict(images="gen", view="stretched")
    pd.testing.assert_frame_equal(table.select(**some).summary(), rows.select(**some).summary(), check_exact=True)


def test_what_was_measured_twice_counts_once_and_two_results_are_refused(run):
    write_shard(run, rows(range(6)))
    again = rows(range(4, 9))
    write_shard(run, again.assign(value=again["value"] + 5e-7))
    pd.testing.assert_frame_equal(open_rows(run).summary(), summary(merge(run)), check_exact=True)
    assert set(open_rows(run).summary()["count"]) == {9}
    write_shard(run, rows([8, 9]).assign(value=0.77))
    with pytest.raises(ValueError, match=r"'image': 8, .* was measured twice, .*Remove one of"):
        open_rows(run).summary()


def test_failures_are_known_without_the_rows(run):
    failures = tuple(Failure("net", "mix", image, "c", ("leak_any", "leak_mass"), f"no {image}") for image in (5, 3))
    write_shard(run, rows(range(6)), Header(failures=failures))
    assert open_rows(run).failures == merge(run).attrs["failures"] == open_rows(run).table().attrs["failures"]
    assert open_rows(run).failures[0]["count"] == 2
    write_shard(run, rows([5], methods=("c",)))
    assert [one["image"] for one in open_rows(run).failures] == [3]


def test_rows_are_asked_by_texts_alone(run):
    write_shard(run, rows())
    for ask in (
        lambda rows: rows.select(image=3),
        lambda rows: rows.unique("value"),
        lambda rows: rows.summary(["image"]),
    ):
        with pytest.raises(ValueError, match=r"rows are asked for by net, images, .*; take table\(\) and choose there"):
            ask(open_rows(run))


def test_a_folder_without_rows_and_a_damaged_shard_are_told(run):
    with pytest.raises(FileNotFoundError, match="holds no rows; audit into it first"):
        open_rows(run)
    path = write_shard(run, rows())
    opened, data = open_rows(run), bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{path.name} is damaged .*; remove it and run the audit again"):
        opened.summary()


def test_shards_that_are_compacted_while_they_are_asked_are_found_anew(run):
    for number in range(9):
        write_shard(run, rows([number]))
    opened, whole = open_rows(run), summary(merge(run))
    assert compact(run) == 1
    pd.testing.assert_frame_equal(opened.summary(), whole, check_exact=True)


def test_a_question_about_one_method_reads_its_row_groups_alone(run, monkeypatch):
    monkeypatch.setattr("wallcheck.results.compacting.GROUP", 1)
    for number in range(9):
        write_shard(run, rows([number], methods=tuple("abcd")))
    compact(run)
    (path,) = shards(run)
    assert len(pieces(path, COLUMNS)) == 4
    (piece,) = pieces(path, COLUMNS, ["c"])
    assert set(piece["method"].to_pylist()) == {"c"} and len(piece) == 18

"""Shards: what they say of themselves, what a folder holds, and what becomes of foreign and damaged ones."""

from itertools import permutations

import pandas as pd
import pytest

from tests.results.tables import rows
from wallcheck.results import (
    PER_IMAGE,
    Failure,
    Header,
    Holdings,
    Manifest,
    done,
    merge,
    read_shard,
    set_foreign_aside,
    shards,
    sorted_rows,
    versions,
    writable,
    write_shard,
)

NAN = float("nan")
WANTED = frozenset(rows([0])[PER_IMAGE].itertuples(index=False, name=None))


def test_the_merged_table_does_not_depend_on_how_the_work_was_split(tmp_path):
    whole = sorted_rows([rows()])
    for number, parts in enumerate(permutations([range(0, 1), range(1, 5), range(5, 6)])):
        folder = writable(tmp_path / str(number))
        for seed, part in enumerate(parts):
            write_shard(folder, rows(part, seed=seed))
        assert len(shards(folder)) == 3
        pd.testing.assert_frame_equal(merge(folder), whole)


def test_equal_work_has_one_name_and_other_work_another(run):
    write_shard(run, rows(range(3)))
    write_shard(run, rows(range(3), seed=5))
    assert len(shards(run)) == 1
    for other in (rows(range(3), methods=("c",)), rows(range(4)), rows(range(3)).query("metric == 'leak_any'")):
        write_shard(run, other)
    assert len(shards(run)) == 4


def test_two_results_in_two_shards_are_refused_by_the_names_of_the_shards(run):
    one, two = write_shard(run, rows([0, 1])), write_shard(run, rows([1, 2]).assign(value=0.5))
    with pytest.raises(ValueError, match="was measured twice") as raised:
        merge(run)
    assert str(raised.value).endswith(f"Remove one of {', '.join(sorted(map(str, (one, two))))}")


def test_rows_can_be_asked_for(run):
    write_shard(run, rows(range(6)))
    write_shard(run, rows(range(6), net="other"))
    whole = merge(run)
    chosen = whole[(whole["method"] == "a") & whole["net"].isin(["other"]) & (whole["metric"] == "leak_any")]
    found = merge(run, method="a", net=["other"], metric="leak_any")
    assert len(found) == 6
    assert found.astype(str).equals(chosen.reset_index(drop=True).astype(str))


def test_nets_image_sets_and_ranks_do_not_meet_in_one_file(run):
    """Even where names lose letters on their way to a file name."""
    names = ["photos", "my photos", "my-photos", "снимки", "写真", "a--b", "a-b", "[a]*"]
    for number, images in enumerate(names):
        write_shard(run, rows([number], images=images))
    assert len(shards(run)) == len(names)
    for number, images in enumerate(names):
        assert done(run, "net", images, WANTED) == {number}, images
    assert set(merge(run)["images"].unique()) == set(names)


def test_an_image_is_done_when_all_its_keys_are_there(run):
    assert done(run, "net", "mix", WANTED) == set()
    write_shard(run, rows([0, 1, 7]))
    write_shard(run, rows([2], methods=("a",)))
    write_shard(run, rows([3], net="other"))
    write_shard(run, rows([4], images="gen"))
    assert done(run, "net", "mix", WANTED) == {0, 1, 7}
    write_shard(run, rows([2], methods=("b",)).query("metric == 'leak_any'"))
    assert Holdings(run, "net", "mix").missing(2, WANTED) == {("b", "raw", "grid", "leak_mass")}
    write_shard(run, rows([2], methods=("b",)))
    assert done(run, "net", "mix", WANTED) == {0, 1, 2, 7}


def test_holdings_see_what_others_have_written_since(run):
    held = Holdings(run, "net", "mix")
    write_shard(run, rows([0]))
    assert held.missing(0, WANTED) == WANTED
    assert not held.look().missing(0, WANTED)
    assert held.new(rows([0, 1]))["image"].unique().tolist() == [1]
    assert held.new(rows([0]).iloc[:0]).columns.tolist() == rows([0]).columns.tolist()


def test_a_shard_says_what_it_is(run):
    failures = (Failure("net", "mix", 3, "bad", ("leak_any",), "ValueError: no"),)
    path = write_shard(run, rows([0]), Header("a study", {0: "ab/1"}, failures))
    found = Header.read(path)
    assert (found.study, found.pictures, found.failures) == ("a study", {0: "ab/1"}, failures)
    assert found.versions == versions()
    assert set(found.versions) >= {"python", "torch", "wallcheck"}


def test_failures_alone_are_a_shard(run):
    write_shard(run, rows([0]))
    write_shard(run, rows([0]).iloc[:0], Header(failures=(Failure("net", "mix", 1, "a", ("leak_any",), "why"),)))
    table = merge(run)
    assert len(table) == 4
    assert [(one["image"], one["error"]) for one in table.attrs["failures"]] == [(1, "why")]
    write_shard(run, rows([1]))
    assert merge(run).attrs["failures"] == []


def zero(path):
    path.write_bytes(b"")


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bit_flipped(path):
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(bytes(data))


def text(path):
    path.write_text("no Parquet at all")


@pytest.mark.parametrize("damage", [zero, halved, bit_flipped, text])
def test_a_damaged_shard_is_named_by_merge_and_set_aside_by_the_next_audit(run, damage):
    write_shard(run, rows([1]))
    path = write_shard(run, rows([0]))
    damage(path)
    with pytest.raises(ValueError, match=rf"{path.name} is damaged .*; remove it and run the audit again"):
        merge(run)
    with pytest.warns(
        UserWarning, match=f"{path.name} is damaged; it is kept as {path.name}.aside, and measured again"
    ):
        assert done(run, "net", "mix", WANTED) == {1}
    assert sorted(merge(run)["image"].unique()) == [1]


def test_a_shard_of_another_study_is_named_by_merge_and_set_aside_by_the_next_audit(run):
    ours = Manifest(config={}, study={"seed": 1})
    ours.save(run)
    write_shard(run, rows([1]), Header(ours.digest))
    foreign = write_shard(run, rows([0], net="stranger"), Header("another"))
    bare = run / "rows" / "bare.parquet"
    rows([2]).to_parquet(bare)
    with pytest.raises(ValueError, match="belongs to another study; remove it or run the audit again"):
        merge(run)
    with pytest.warns(UserWarning, match="holds rows of another study"):
        set_foreign_aside(run, ours.digest)
    assert merge(run)["image"].unique().tolist() == [1]
    assert {path.name for path in (run / "rows").glob("*.aside")} == {f"{path.name}.aside" for path in (foreign, bare)}


def test_a_shard_of_other_images_is_set_aside(run):
    write_shard(run, rows([0]), Header(pictures={0: "ab/1"}))
    write_shard(run, rows([1]), Header(pictures={1: "cd/1"}))
    with pytest.warns(UserWarning, match=r"holds rows of other images \(image 1\)"):
        held = Holdings(run, "net", "mix", pictures={0: "ab/1", 1: "cd/2"})
    assert [held.missing(number, WANTED) == WANTED for number in (0, 1)] == [False, True]


def test_a_folder_with_an_equals_sign_adds_no_column(tmp_path):
    folder = writable(tmp_path / "seed=3")
    assert list(read_shard(write_shard(folder, rows([0]))).columns) == list(rows([0]).columns)


def test_an_empty_run_says_so(run):
    with pytest.raises(FileNotFoundError, match="holds no rows"):
        merge(run)


def test_nan_survives_the_disk(run):
    table = rows([0])
    table["value"] = [NAN, 1.0, 0.1 + 0.2, 1e-300]
    write_shard(run, table)
    assert sorted(merge(run)["value"].dropna()) == [1e-300, 0.1 + 0.2, 1.0]
    assert merge(run)["value"].isna().sum() == 1


def test_a_shard_that_cannot_be_written_leaves_nothing(run, monkeypatch):
    def fails(table, path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("pyarrow.parquet.write_table", fails)
    with pytest.raises(OSError, match="disk full"):
        write_shard(run, rows())
    assert list((run / "rows").iterdir()) == []

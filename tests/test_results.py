"""Rows on disk: merging, means with intervals, and files that appear whole or not at all."""

import json
from itertools import permutations

import pandas as pd
import pytest

from wallcheck.results import (
    COLUMNS,
    KEY,
    MANIFEST,
    Manifest,
    done,
    merge,
    shards,
    sorted_rows,
    summary,
    writable,
    write_shard,
)
from wallcheck.writing import beside, write_text

NAN = float("nan")


def rows(numbers=range(6), net="net", images="mix", methods=("b", "a"), seed=0) -> pd.DataFrame:
    """One view and two metrics of each image and method; values follow from the key alone."""
    table = pd.DataFrame(
        [
            (
                net,
                images,
                image,
                method,
                "raw",
                "grid",
                metric,
                image % 3,
                hash((image, len(method + metric))) % 97 / 97,
            )
            for image in numbers
            for method in methods
            for metric in ("leak_mass", "leak_any")
        ],
        columns=COLUMNS,
    )
    return table.sample(frac=1, random_state=seed)


@pytest.fixture
def run(tmp_path):
    return writable(tmp_path / "run")


# Merging


def test_the_merged_table_does_not_depend_on_how_the_work_was_split(tmp_path):
    whole = sorted_rows([rows()])
    for number, parts in enumerate(permutations([range(0, 1), range(1, 5), range(5, 6)])):
        folder = writable(tmp_path / str(number))
        for seed, part in enumerate(parts):
            write_shard(folder, rows(part, seed=seed))
        assert len(shards(folder)) == 3
        pd.testing.assert_frame_equal(merge(folder), whole)


def test_rows_stand_in_the_order_of_their_key():
    table = sorted_rows([rows(range(12), methods=("zz", "a", "m"))])
    keys = [(*map(str, key[:2]), key[2], *map(str, key[3:])) for key in table[KEY].to_numpy().tolist()]
    assert keys == sorted(keys)
    assert list(table.columns) == COLUMNS
    assert table["image"].dtype.kind == "i"
    assert len(table) == 12 * 3 * 2


def test_a_double_measurement_is_refused(run):
    write_shard(run, rows(range(0, 3)))
    write_shard(run, rows(range(2, 5)))
    with pytest.raises(ValueError, match=r"'image': 2, 'method': 'a'.* was measured twice; were two runs written"):
        merge(run)


def test_nets_image_sets_and_ranks_do_not_meet_in_one_file(run):
    """Even where names lose letters on their way to a file name."""
    names = ["photos", "my photos", "my-photos", "снимки", "写真", "a--b", "a-b", "[a]*"]
    for number, images in enumerate(names):
        write_shard(run, rows([number], images=images))
    assert len(shards(run)) == len(names)
    for number, images in enumerate(names):
        assert done(run, "net", images) == {number}, images
    assert set(merge(run)["images"].unique()) == set(names)


def test_done_counts_images_of_this_net_and_set_only(run):
    assert done(run, "net", "mix") == set()
    write_shard(run, rows([0, 1, 7], net="net"))
    write_shard(run, rows([2], net="net"))
    write_shard(run, rows([3], net="other"))
    write_shard(run, rows([4], net="net", images="gen"))
    assert done(run, "net", "mix") == {0, 1, 2, 7}


def test_an_empty_run_says_so(run):
    with pytest.raises(FileNotFoundError, match="holds no rows"):
        merge(run)


def test_nan_survives_the_disk(run):
    table = rows([0])
    table["value"] = [NAN, 1.0, 0.1 + 0.2, 1e-300]
    write_shard(run, table)
    assert sorted(merge(run)["value"].dropna()) == [1e-300, 0.1 + 0.2, 1.0]
    assert merge(run)["value"].isna().sum() == 1


# Means


def test_summary_leaves_empty_maps_out_of_the_mean():
    table = rows(range(40), methods=("a",))
    table.loc[(table["image"] < 10) & (table["metric"] == "leak_mass"), "value"] = NAN
    table = sorted_rows([table])
    one = summary(table)
    mass = one[one["metric"] == "leak_mass"].iloc[0]
    kept = table[(table["metric"] == "leak_mass") & (table["image"] >= 10)]["value"]
    assert mass["mean"] == pytest.approx(kept.mean(), rel=1e-12)
    assert mass["std"] == pytest.approx(kept.std(), rel=1e-12)
    assert (mass["count"], mass["empty"]) == (40, 0.25)
    assert mass["low"] < mass["mean"] < mass["high"]
    assert one[one["metric"] == "leak_any"]["empty"].item() == 0
    assert list(one.columns) == [*(k for k in KEY if k != "image"), "mean", "low", "high", "std", "count", "empty"]


def test_summary_by_one_column():
    table = sorted_rows([rows()])
    by = summary(table, by=["method"])
    assert by["method"].tolist() == ["a", "b"]
    assert by["count"].tolist() == [12, 12]
    assert by["mean"].tolist() == pytest.approx(table.groupby("method", observed=True)["value"].mean().tolist())


# Files


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "note.txt"
    write_text(path, "old")
    with pytest.raises(failure), beside(path) as partial:
        partial.write_text("ne")
        raise failure
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_shard_that_cannot_be_written_leaves_nothing(run, monkeypatch):
    def fails(table, path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fails)
    with pytest.raises(OSError, match="disk full"):
        write_shard(run, rows())
    assert list((run / "rows").iterdir()) == []


def test_several_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "note.txt"
    with beside(path) as one, beside(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # the outer block ends last
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("below", ["file/run", "file", "file/a/b"])
def test_a_run_folder_below_a_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(NotADirectoryError, match=r"is a file, not a folder; choose another --out"):
        writable(tmp_path / below)
    assert (tmp_path / "file").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_takes_no_files_is_refused():
    with pytest.raises(PermissionError, match=r"cannot write into /proc/run .*; choose another --out"):
        writable("/proc/run")


# Manifests


def test_a_manifest_comes_back(run):
    manifest = Manifest(config={"seed": 1, "methods": ("a",)}, certificates={"net": {"fingerprint": "f"}})
    manifest.save(run)
    loaded = Manifest.load(run)
    assert loaded.same_work_as(manifest)
    assert loaded.config == {"seed": 1, "methods": ["a"]}
    assert set(loaded.versions) >= {"python", "torch", "numpy", "lightning"}
    assert json.loads((run / MANIFEST).read_text())["started"] == manifest.started


def test_work_is_the_same_whatever_the_machine_but_not_whatever_the_settings():
    one = Manifest(config={"seed": 1}, image_sets={"mix": {"sha256": "a"}})
    assert one.same_work_as(
        Manifest(config={"seed": 1}, image_sets={"mix": {"sha256": "a"}}, device="cuda", versions={})
    )
    assert not one.same_work_as(Manifest(config={"seed": 2}, image_sets={"mix": {"sha256": "a"}}))
    assert not one.same_work_as(Manifest(config={"seed": 1}, image_sets={"mix": {"sha256": "b"}}))
    assert not one.same_work_as(
        Manifest(config={"seed": 1}, image_sets={"mix": {"sha256": "a"}}, certificates={"n": 1})
    )


def test_a_folder_without_manifest_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no manifest\.json, so it is no run folder"):
        Manifest.load(tmp_path)


def test_a_damaged_manifest_says_so(run):
    (run / MANIFEST).write_text('{"config": {')
    with pytest.raises(ValueError, match=r"manifest\.json is damaged .*choose another --out"):
        Manifest.load(run)

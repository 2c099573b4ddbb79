"""Many shards become one, and whenever that is cut off no row is lost or doubled."""

import os
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.results.tables import rows
from wallcheck.results import (
    PER_IMAGE,
    Failure,
    Header,
    Holdings,
    compact,
    compacting,
    done,
    holdings,
    merge,
    open_rows,
    shards,
    sorted_rows,
    write_shard,
)

WANTED = frozenset(rows([0])[PER_IMAGE].itertuples(index=False, name=None))


def written(run, count=10) -> pd.DataFrame:
    """A shard for each image; returns all rows."""
    for number in range(count):
        write_shard(run, rows([number]), Header(pictures={number: f"{number}/0"}))
    return sorted_rows([rows(range(count))])


def test_a_compacted_shard_holds_what_the_shards_held(run):
    failure = Failure("net", "mix", 3, "bad", ("leak_any",), "ValueError: no")
    write_shard(run, rows([3]).iloc[:0], Header(failures=(failure,)))
    whole = written(run)
    assert compact(run) == 1
    (path,) = shards(run)
    header = Header.read(path)
    assert header.failures == (failure,) and header.pictures == {number: f"{number}/0" for number in range(10)}
    assert header.numbers == list(range(10)) and header.rows == len(whole) == 40
    pd.testing.assert_frame_equal(merge(run), whole.pipe(with_failures, merge(run)))
    assert done(run, "net", "mix", WANTED) == set(range(10))
    keys = pq.read_table(path).to_pandas()[[*PER_IMAGE, "image"]].astype(dict.fromkeys(PER_IMAGE, str))
    assert keys.apply(tuple, axis=1).is_monotonic_increasing


def with_failures(table, other):
    table.attrs.update(other.attrs)
    return table


def test_few_shards_and_full_ones_stay_as_they_are(run, monkeypatch):
    written(run, 8)
    assert compact(run) == 0 and len(shards(run)) == 8
    monkeypatch.setattr(compacting, "FULL_IMAGES", 4)
    for number in range(8, 12):
        write_shard(run, rows([number]))
    assert compact(run) == 3
    assert [Header.read(path).numbers for path in shards(run)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    before = [path.read_bytes() for path in shards(run)]
    assert compact(run, few=0) == 0 and [path.read_bytes() for path in shards(run)] == before


def test_nets_sets_studies_and_versions_are_not_put_together(run):
    for number in range(9):
        write_shard(run, rows([number]))
        write_shard(run, rows([number], net="other"))
        write_shard(run, rows([number], images="gen"))
        write_shard(run, rows([number + 9]), Header(versions={"torch": "0"}))
    whole = merge(run)
    assert compact(run) == 4
    pd.testing.assert_frame_equal(merge(run), whole, check_exact=True)
    assert sorted(Header.read(path).versions.get("torch") == "0" for path in shards(run)) == [False] * 3 + [True]


def test_what_was_measured_twice_is_kept_once_and_two_results_are_left_for_the_reader(run):
    whole = written(run)
    again = rows([2, 3])
    write_shard(run, again.assign(value=again["value"] + 5e-7))
    assert compact(run) == 1
    (path,) = shards(run)
    assert Header.read(path).rows == pq.read_metadata(path).num_rows == len(whole)
    pd.testing.assert_frame_equal(merge(run), whole, check_exact=True)
    for number in range(10, 20):
        write_shard(run, rows([number]))
    write_shard(run, rows([19, 20]).assign(value=0.77))
    assert compact(run) == 0
    with pytest.raises(ValueError, match="was measured twice"):
        merge(run)


def test_a_damaged_shard_is_left_out(run):
    written(run)
    shards(run)[4].write_bytes(b"no Parquet at all")
    assert compact(run) == 1 and len(shards(run)) == 2
    with pytest.warns(UserWarning, match="is damaged; it is kept as"):
        assert done(run, "net", "mix", WANTED) == set(range(10)) - {4}


def test_an_audit_compacts_while_it_goes_on(run, monkeypatch):
    monkeypatch.setattr(holdings, "MANY", 20)
    held = Holdings(run, "net", "mix", pictures=dict.fromkeys(range(50), "a/0"))
    for number in range(50):
        held.keep(rows([number]))
        held.keep(rows([number]))  # nothing new
    assert len(shards(run)) < 22
    pd.testing.assert_frame_equal(merge(run), sorted_rows([rows(range(50))]), check_exact=True)
    assert not [number for number in range(50) if held.look().missing(number, WANTED)]


def killed_at(run: Path, operation: int) -> int:
    """The exit status of a process that compacts and ends, as SIGKILL ends it, before its n-th change of the folder."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    left = [operation]

    def counted(change):
        def change_or_end(*given, **more):
            if not left[0]:
                os._exit(9)
            left[0] -= 1
            return change(*given, **more)

        return change_or_end

    try:
        os.replace, Path.unlink = counted(os.replace), counted(Path.unlink)
        compact(run)
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_a_compaction_killed_anywhere_leaves_every_row_once(run):
    whole = written(run)
    before = {path.name: path.read_bytes() for path in shards(run)}
    counts, operation = [], 0
    while (status := killed_at(run, operation)) == 9:
        counts.append(len(shards(run)))
        assert len(open_rows(run)) == len(whole)
        pd.testing.assert_frame_equal(merge(run), whole, check_exact=True)
        assert done(run, "net", "mix", WANTED) == set(range(10))
        for path in shards(run):  # back to where it began
            path.unlink()
        for name, data in before.items():
            (run / "rows" / name).write_bytes(data)
        operation += 1
    assert status == 0
    assert counts == [10, 11, *range(11, 1, -1)]  # renaming, the partial file's name, and one after another


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_the_next_compaction_removes_what_a_killed_one_left(run):
    whole = written(run)
    assert killed_at(run, 4) == 9
    assert len(shards(run)) > 1 and len(open_rows(run)) == len(whole)
    for number in range(10, 19):
        write_shard(run, rows([number]))
    assert compact(run) == 1 and len(shards(run)) == 1
    pd.testing.assert_frame_equal(merge(run), sorted_rows([rows(range(19))]), check_exact=True)

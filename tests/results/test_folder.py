"""Files that appear whole or not at all, and folders that take them."""

import multiprocessing
import os
from pathlib import Path

import pytest

from wallcheck.results import examples_of, file_name, writable
from wallcheck.writing import HOST, at_home, beside, sweep, write_new, write_text


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "note.txt"
    write_text(path, "old")
    with pytest.raises(failure), beside(path) as partial:
        partial.write_text("ne")
        raise failure
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


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


def test_of_several_writers_of_a_new_file_one_is_told(tmp_path):
    path = tmp_path / "deep" / "new.txt"
    assert write_new(path, "one")
    assert not write_new(path, "two")
    assert path.read_text() == "one"
    assert [file.name for file in path.parent.iterdir()] == ["new.txt"]


def test_where_links_are_not_to_be_had_a_new_file_is_exclusive_all_the_same(tmp_path, monkeypatch):
    def fails(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", fails)
    assert [write_new(tmp_path / "new.txt", text) for text in ("one", "two")] == [True, False]
    assert [file.read_text() for file in tmp_path.iterdir()] == ["one"]


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    dead, living, elsewhere = (
        tmp_path / f".rows.parquet.{host}-{number}-0123abcd.partial"
        for host, number in ((HOST, process.pid), (HOST, os.getpid()), ("ffffff", process.pid))
    )
    for path in (dead, living, elsewhere, tmp_path / ".own.partial"):
        path.touch()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {living.name, elsewhere.name, ".own.partial"}


def test_the_home_folder_is_meant_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert at_home("~/runs") == tmp_path / "runs"
    assert writable("~/runs") == tmp_path / "runs"
    assert at_home(Path("a/~b")) == Path("a/~b")
    with pytest.raises(ValueError, match="write the path out"):
        at_home("~nobody-of-this-name/runs")


@pytest.mark.parametrize("name", ["a/b", "../../up", "写真", "x" * 300, "a:b*c?", ".", "-"])
def test_every_name_is_a_file_name(tmp_path, name):
    path = examples_of(tmp_path, name, name)
    assert path.parent == tmp_path / "examples"
    write_text(path, "kept")
    assert len({file_name(other) for other in (name, f"{name} ", name.upper() + "-")}) == 3

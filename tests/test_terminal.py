"""Tables on narrow terminals: columns go, lines are stacked, and no name and no number is cut."""

from contextlib import contextmanager

import pytest

from wallcheck.terminal import Column, Listing, fitting, progress_bar, show_listing, told_to, width_or

COLUMNS = [
    Column("method"),
    Column("family", spare=2),
    Column("mean", right=True),
    Column("source", spare=1, wraps=True),
]
ROWS = [
    (
        "gradcam_of_a_long_name",
        "pooled",
        "0.654 [0.631, 0.677]",
        "a paper with quite a long title, and its authors' names",
    ),
    ("b", "local", "0.000 [0.000, 0.000]", "another"),
]
LISTING = Listing("two methods", COLUMNS, ROWS, "a note")


def printed(monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    show_listing(LISTING)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [30, 50, 60, 80, 100, 200])
def test_names_and_means_are_whole_at_any_width(monkeypatch, capsys, width):
    text = printed(monkeypatch, capsys, width)
    for row in ROWS:
        assert row[0] in text and row[2] in text
    assert "…" not in text and "a note" in text
    assert max(map(len, text.splitlines())) <= width


def test_what_can_be_spared_goes_in_order_and_is_named(monkeypatch, capsys):
    assert [len(fitting(COLUMNS, ROWS, room) or ()) for room in (120, 80, 60, 40)] == [4, 3, 2, 0]
    assert "left out for want of room: family" in printed(monkeypatch, capsys, 80)
    assert "left out" not in printed(monkeypatch, capsys, 120)


def test_where_nothing_can_be_spared_lines_are_stacked(monkeypatch, capsys):
    lines = printed(monkeypatch, capsys, 40).splitlines()
    assert lines[:4] == ["two methods", "gradcam_of_a_long_name", "  family: pooled", "  mean: 0.654 [0.631, 0.677]"]


def test_the_width_is_columns_where_it_is_told(monkeypatch):
    monkeypatch.setenv("COLUMNS", "57")
    assert width_or(140) == 57
    monkeypatch.delenv("COLUMNS")
    assert width_or(140) == 140  # the tests' output is no terminal


def test_a_bar_is_silent_where_there_is_no_terminal(capsys):
    with progress_bar() as tell:
        tell(1, 2, "something")
    assert capsys.readouterr() == ("", "")


def test_progress_of_the_api_is_a_function_a_bar_or_nothing(capsys, monkeypatch):
    heard, shown = [], []
    with told_to(heard.append, 10, "images") as tell:
        tell(4)
    for nothing in (None, False):
        with told_to(nothing, 10, "images") as tell:
            tell(4)
    assert heard == [4] and capsys.readouterr() == ("", "")

    @contextmanager
    def bar():
        yield lambda *told: shown.append(told)

    monkeypatch.setattr("wallcheck.terminal.progress_bar", bar)
    with told_to(True, 10, "images") as tell:
        tell(4)
        tell(6)
    assert shown == [(0, 10, "images"), (4, 10, "images"), (10, 10, "images")]

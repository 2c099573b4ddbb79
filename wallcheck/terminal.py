"""What a terminal shows: a bar where there is one, and tables that fit it: columns that can be spared go first, then lines are
stacked. No name and no number is ever cut."""

import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from wallcheck.writing import say

WORDS = 24  # letters that a column of running text is given at least


class Column(NamedTuple):
    """A column of a table. spare: 0 always stays, the highest number goes first. wraps: running text, broken at its spaces."""

    heading: str
    spare: int = 0
    right: bool = False
    wraps: bool = False


class Listing(NamedTuple):
    """A table before it is drawn: rows of texts under columns; note: what stands below."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    note: str = ""


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal and nothing elsewhere; yields tell(done, total, what)."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)


@contextmanager
def told_to(progress: Callable[[int], None] | bool | None, total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Yields tell(more): to a function it is passed on; True shows a bar, `total` long; None and False show nothing."""
    if not isinstance(progress, bool) and progress is not None:
        yield progress
        return
    if not progress:
        yield lambda more: None
        return
    with progress_bar() as bar:
        done = [0]

        def tell(more: int) -> None:
            done[0] += more
            bar(done[0], total, what)

        tell(0)
        yield tell


def width_or(wide: int) -> int:
    """Letters in a line: of COLUMNS or the terminal, or `wide` where there is neither."""
    if (told := os.environ.get("COLUMNS", "")).isdecimal() and int(told):
        return int(told)
    return Console(file=sys.stdout).width if sys.stdout.isatty() else wide


def show(what: Table | Text | str, width: int) -> None:
    """Print, `width` wide where there is no terminal; a reader who has left (`| head`) is no error."""
    console = Console(file=sys.stdout, width=width_or(width))
    with console.capture() as drawn:
        console.print(what)
    say(drawn.get().rstrip("\n"))


def show_listing(listing: Listing, width: int = 140) -> None:
    """Print a listing, `width` wide where there is no terminal, in as many columns as there is room for."""
    room, (title, columns, rows, note) = width_or(width), listing
    kept = fitting(columns, rows, room)
    if kept is None:
        say(stacked(listing, room))
        return
    left = [column.heading for column in columns if column not in kept]
    note = "\n".join(filter(None, [note, f"left out for want of room: {', '.join(left)}" if left else ""]))
    table = Table(title=title, title_justify="left", caption=note or None, caption_justify="left")
    for column in kept:
        table.add_column(
            column.heading, justify="right" if column.right else "left", overflow="fold", no_wrap=not column.wraps
        )
    places = [columns.index(column) for column in kept]
    for row in rows:
        table.add_row(*(_text(row[place]) for place in places))
    show(table, width)


def _text(cell: str) -> Text:
    """What is written in capitals alone is loud."""
    return Text(cell, style="bold red" if cell == "NONE" else "")


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[Column] | None:
    """The columns that find room beside each other; None where those that cannot be spared do not."""
    kept = list(columns)
    while sum(_needed(column, [row[columns.index(column)] for row in rows]) + 3 for column in kept) + 1 > room:
        column = max(kept, key=lambda one: (one.spare, columns.index(one)))
        if not column.spare:
            return None
        kept.remove(column)
    return kept


def stacked(listing: Listing, room: int) -> str:
    """A row's name on a line, below it a line for each other value that there is.

    >>> print(stacked(Listing("two", [Column("name"), Column("mean")], [("a_long_name", "0.5"), ("b", "")]), 20))
    two
    a_long_name
      mean: 0.5
    b
    """
    title, columns, rows, note = listing
    lines = [title]
    for row in rows:
        lines.append(row[0])
        told = [f"{c.heading}: {value}" for c, value in zip(columns[1:], row[1:], strict=True) if value]
        lines += [line for one in told for line in _wrapped(one, room)]
    return "\n".join([*lines, *([note] if note else [])])


def markdown(listing: Listing) -> str:
    """The listing as a Markdown table, for the summary of a pull request.

    >>> print(markdown(Listing("two", [Column("name"), Column("mean", right=True)], [("a|b", "0.5")], "in all")))
    **two**
    <BLANKLINE>
    | name | mean |
    | --- | ---: |
    | a\\|b | 0.5 |
    <BLANKLINE>
    in all
    """
    title, columns, rows, note = listing
    lines = [[c.heading for c in columns], ["---:" if c.right else "---" for c in columns], *rows]
    table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    return "\n\n".join(filter(None, [f"**{title}**", table, note]))


def _wrapped(text: str, room: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(room, 12),
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _needed(column: Column, values: Sequence[str]) -> int:
    longest = max(map(len, [column.heading, *values]))
    if not column.wraps:
        return longest
    words = max((len(word) for value in values for word in value.split()), default=0)
    return min(longest, max(words, WORDS, len(column.heading)))

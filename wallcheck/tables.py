"""Tables, progress and notices on a terminal."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from wallcheck.cams import METHODS
from wallcheck.models import WhereToCut
from wallcheck.reading import nothing_said
from wallcheck.results import told as told_failure
from wallcheck.statistics import interval, percent, told
from wallcheck.writing import say

MISSED, BRIGHT = "missed", "bright_area"
NOT_TOLD = "missed: not known, because the head does not add up over cells, so that what each adds to the logit has no one answer"


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal and nothing elsewhere; yields tell(done, total, what)."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)


def print_leakage(rows: pd.DataFrame) -> None:
    """One table per net and image set: methods by rows, the measures people ask for by columns; below, warnings of maps that say
    nothing, and what is missing."""
    for (net, images), part in rows.groupby(["net", "images"], observed=True):
        show(leakage_table(part, f"{net} on {images}"), 140)
        for warning in says_nothing(part):
            show(Text(f"warning: {warning}"), 140)
    for failure in rows.attrs.get("failures", ()):
        show(Text(f"missing: {told_failure(failure)}"), 120)


def print_layers(found: Sequence[WhereToCut], title: str) -> None:
    """Where a model can be cut: the pixels that each kind of wall hides, loud where it hides none."""
    table = Table(title=title, title_justify="left")
    for heading in ("layer", "also", "map"):
        table.add_column(heading)
    for heading in ("head wall hides", "trunk wall hides"):
        table.add_column(heading, justify="right")
    for one in found:
        cells = f"{one.shape[0]} x {one.shape[1]} x {one.shape[2]}" + (f" + {one.prefix} tokens" if one.prefix else "")
        table.add_row(one.name, ", ".join(one.also), cells, *(_hidden(n, one.pixels) for n in (one.head, one.trunk)))
    show(table, 140)


def _hidden(pixels: int | None, of: int) -> Text:
    if pixels is None:
        return Text("cannot stand", style="dim")
    return Text("NONE", style="bold red") if not pixels else Text(f"{pixels} ({percent(pixels / of)})")


def show(what: Table | Text | str, width: int) -> None:
    """Print, `width` wide where there is no terminal; a reader who has left (`| head`) is no error."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else width)
    with console.capture() as drawn:
        console.print(what)
    say(drawn.get().rstrip("\n"))


def leakage_table(rows: pd.DataFrame, title: str) -> Table:
    """Methods in the order of their families; 95 % intervals over images, and the share of empty maps beside each mean."""
    told_truth = (rows["metric"] == MISSED).any()
    asked = told_truth or (rows["metric"] == BRIGHT).any()
    table = Table(title=title, title_justify="left", caption=None if told_truth or not asked else NOT_TOLD)
    for heading in ("method", "family"):
        table.add_column(heading)
    for heading in ("mass on unseen cells", "L2 share as displayed", "any", *([MISSED] if asked else [])):
        table.add_column(heading, justify="right")
    present = set(rows["method"].unique())
    for name in sorted(present, key=_place):
        of = rows[rows["method"] == name]
        mass, shown = _values(of, "rectified", "grid", "leak_mass"), _values(of, "displayed", "image", "leak_l2")
        leaks = _values(of, "rectified", "grid", "leak_any")
        if not len(mass):  # a pixel map has no cells
            mass, leaks = _values(of, "rectified", "image", "leak_mass"), _values(of, "rectified", "image", "leak_any")
        family = METHODS[name].family if name in METHODS else "own"
        cells = told(interval(mass)), told(interval(shown)), told(interval(leaks), ".0%")
        table.add_row(name, family, *cells, *([missed_of(of)] if asked else []))
    return table


def missed_of(rows: pd.DataFrame) -> str:
    """What a method misses, with its interval; nothing where it is not known."""
    values = _values(rows, "raw", "grid", MISSED)
    return told(interval(values)) if len(values) else ""


def says_nothing(rows: pd.DataFrame) -> list[str]:
    """A line for each method, controls aside, some of whose maps are empty or bright everywhere: such maps pass one side of the
    test by saying nothing."""
    lines = []
    for name, part in rows[rows["metric"] == BRIGHT].groupby("method", observed=True):
        if name not in METHODS or METHODS[name].family != "control":
            lines += nothing_said(name, part["value"].to_numpy())
    return lines


def _values(rows: pd.DataFrame, view: str, on: str, metric: str):
    chosen = (rows["view"] == view) & (rows["on"] == on) & (rows["metric"] == metric)
    return rows.loc[chosen, "value"].to_numpy()


def _place(name: str) -> tuple[int, str]:
    order = list(METHODS)
    return (order.index(name), name) if name in order else (len(order), name)

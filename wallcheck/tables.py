"""Tables, progress and notices on a terminal."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from wallcheck.cams import METHODS
from wallcheck.models import WhereToCut
from wallcheck.results import Rows, grouped, rows_of
from wallcheck.results import told as told_failure
from wallcheck.statistics import interval, percent, told
from wallcheck.writing import say

MISSED, BRIGHT = "missed", "bright_area"
# view, on, metric of the columns
MASS, L2, TRUTH = ("rectified", "grid", "leak_mass"), ("displayed", "image", "leak_l2"), ("raw", "grid", MISSED)
COLUMNS = {MASS, L2, TRUTH} | {
    ("rectified", on, metric) for on in ("grid", "image") for metric in ("leak_mass", "leak_any")
}
NONE = interval(np.zeros(0))
EVERYWHERE = 0.9  # of a map: what is left cannot point at anything
NOT_TOLD = "missed: not known, because the head does not add up over cells, so that what each adds to the logit has no one answer"


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal and nothing elsewhere; yields tell(done, total, what)."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)


def print_leakage(rows: pd.DataFrame | Rows) -> None:
    """One table per net and image set: methods by rows, the measures people ask for by columns; below, warnings of maps that say
    nothing, and what is missing."""
    rows = rows_of(rows)
    for net, images in sorted({measure[:2] for measure in rows.measures}):
        part = rows.select(net=net, images=images)
        show(leakage_table(part, f"{net} on {images}"), 140)
        for warning in says_nothing(part):
            show(Text(f"warning: {warning}"), 140)
    for failure in rows.failures:
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


def leakage_table(rows: pd.DataFrame | Rows, title: str) -> Table:
    """Methods in the order of their families; 95 % intervals over images, and the share of empty maps beside each mean.
    rows: of one net on one image set."""
    rows = rows_of(rows)
    told_truth = MISSED in rows.unique("metric")
    asked = told_truth or BRIGHT in rows.unique("metric")
    table = Table(title=title, title_justify="left", caption=None if told_truth or not asked else NOT_TOLD)
    for heading in ("method", "family"):
        table.add_column(heading)
    for heading in ("mass on unseen cells", "L2 share as displayed", "any", *([MISSED] if asked else [])):
        table.add_column(heading, justify="right")
    shown = rows.where(lambda measure: measure[3:] in COLUMNS)
    found = {key: interval(values) for key, values in grouped(shown, ["method", "view", "on", "metric"])}
    for name in sorted(rows.unique("method"), key=_place):
        on = "grid" if (name, *MASS) in found else "image"  # a pixel map has no cells
        keys = [(name, "rectified", on, "leak_mass"), (name, *L2), (name, "rectified", on, "leak_any")]
        cells = [told(found.get(key, NONE), style) for key, style in zip(keys, (".3f", ".3f", ".0%"), strict=True)]
        missed = [told(found[name, *TRUTH]) if (name, *TRUTH) in found else ""] if asked else []
        table.add_row(name, METHODS[name].family if name in METHODS else "own", *cells, *missed)
    return table


def says_nothing(rows: pd.DataFrame | Rows) -> list[str]:
    """A line for each method, controls aside, some of whose maps are empty or bright everywhere: such maps pass one side of the
    test by saying nothing."""
    lines = []
    for (name,), values in grouped(rows_of(rows).select(metric=BRIGHT), ["method"]):
        if name in METHODS and METHODS[name].family == "control":
            continue
        empty, bright = int(np.isnan(values).sum()), int((values >= EVERYWHERE).sum())
        if empty:
            lines.append(f"{name}: {empty} of {len(values)} maps are empty; they leak nothing, and miss all there is")
        if bright:
            lines.append(
                f"{name}: {bright} of {len(values)} maps are bright everywhere, above half the maximum on {EVERYWHERE:.0%} of "
                f"their cells or more; they miss nothing, and tell nothing"
            )
    return lines


def _place(name: str) -> tuple[int, str]:
    order = list(METHODS)
    return (order.index(name), name) if name in order else (len(order), name)

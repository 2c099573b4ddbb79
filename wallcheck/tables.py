"""Tables and notices of what was measured."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from rich.text import Text

from wallcheck.cams import METHODS
from wallcheck.models import WhereToCut
from wallcheck.reading import EVERYWHERE, nothing_said
from wallcheck.results import Rows, grouped, rows_of
from wallcheck.results import told as told_failure
from wallcheck.statistics import interval, percent, told
from wallcheck.terminal import Column, Listing, markdown, progress_bar, show, show_listing

__all__ = [
    "EVERYWHERE",
    "NOT_TOLD",
    "layers_listing",
    "leakage_listing",
    "leakage_markdown",
    "masses",
    "print_leakage",
    "progress_bar",
    "says_nothing",
]

MISSED, BRIGHT = "missed", "bright_area"
# view, on, metric of the columns
MASS, L2, TRUTH = ("rectified", "grid", "leak_mass"), ("displayed", "image", "leak_l2"), ("raw", "grid", MISSED)
COLUMNS = {MASS, L2, TRUTH} | {
    ("rectified", on, metric) for on in ("grid", "image") for metric in ("leak_mass", "leak_any")
}
NONE = interval(np.zeros(0))
NOT_TOLD = "missed: not known, because the head does not add up over cells, so that what each adds to the logit has no one answer"


def print_leakage(rows: pd.DataFrame | Rows) -> None:
    """One table per net and image set: methods by rows, the measures people ask for by columns; below, warnings of maps that say
    nothing, and what is missing."""
    rows = rows_of(rows)
    for listing, warnings in _parts(rows):
        show_listing(listing)
        for warning in warnings:
            show(Text(f"warning: {warning}"), 140)
    for failure in rows.failures:
        show(Text(f"missing: {told_failure(failure)}"), 120)


def leakage_markdown(rows: pd.DataFrame | Rows) -> str:
    """The same as Markdown."""
    rows = rows_of(rows)
    parts = [markdown(listing) + "".join(f"\n\n> {one}" for one in warnings) for listing, warnings in _parts(rows)]
    missing = [f"> missing: {told_failure(failure)}" for failure in rows.failures]
    return "\n\n".join([*parts, *missing])


def _parts(rows: Rows) -> Iterator[tuple[Listing, list[str]]]:
    for net, images in sorted({measure[:2] for measure in rows.measures}):
        part = rows.select(net=net, images=images)
        yield leakage_listing(part, f"{net} on {images}"), says_nothing(part)


def masses(rows: pd.DataFrame | Rows) -> Rows:
    """The rows of the share of positive attribution that is unseen: on cells, or on the image where a pixel map has none."""
    mass = rows_of(rows).select(view="rectified", metric="leak_mass")
    on_cells = {measure[:3] for measure in mass.select(on="grid").measures}
    return mass.where(lambda measure: measure.on == "grid" or measure[:3] not in on_cells)


def layers_listing(found: Sequence[WhereToCut], title: str) -> Listing:
    """Where a model can be cut: the pixels that each kind of wall hides, loud where it hides none."""
    columns = [
        Column("layer"),
        Column("also", spare=2),
        Column("map", spare=1),
        Column("head wall hides", right=True),
        Column("trunk wall hides", right=True),
    ]
    rows = []
    for one in found:
        cells = f"{one.shape[0]} x {one.shape[1]} x {one.shape[2]}" + (f" + {one.prefix} tokens" if one.prefix else "")
        rows.append((one.name, ", ".join(one.also), cells, *(_hidden(n, one.pixels) for n in (one.head, one.trunk))))
    return Listing(title, columns, rows)


def _hidden(pixels: int | None, of: int) -> str:
    if pixels is None:
        return "cannot stand"
    return "NONE" if not pixels else f"{pixels} ({percent(pixels / of)})"


def leakage_listing(rows: pd.DataFrame | Rows, title: str) -> Listing:
    """Methods in the order of their families; 95 % intervals over images, and the share of empty maps beside each mean.
    rows: of one net on one image set."""
    rows = rows_of(rows)
    told_truth = MISSED in rows.unique("metric")
    asked = told_truth or BRIGHT in rows.unique("metric")
    columns = [
        Column("method"),
        Column("family", spare=4),
        Column("mass on unseen cells", right=True),
        Column("L2 share as displayed", spare=2, right=True),
        Column("any", spare=3, right=True),
        *([Column(MISSED, spare=1, right=True)] if asked else []),
    ]
    shown = rows.where(lambda measure: measure[3:] in COLUMNS)
    found = {key: interval(values) for key, values in grouped(shown, ["method", "view", "on", "metric"])}
    lines = []
    for name in sorted(rows.unique("method"), key=_place):
        on = "grid" if (name, *MASS) in found else "image"  # a pixel map has no cells
        keys = [(name, "rectified", on, "leak_mass"), (name, *L2), (name, "rectified", on, "leak_any")]
        cells = [told(found.get(key, NONE), style) for key, style in zip(keys, (".3f", ".3f", ".0%"), strict=True)]
        missed = [told(found[name, *TRUTH]) if (name, *TRUTH) in found else ""] if asked else []
        lines.append((name, METHODS[name].family if name in METHODS else "own", *cells, *missed))
    return Listing(title, columns, lines, NOT_TOLD if asked and not told_truth else "")


def says_nothing(rows: pd.DataFrame | Rows) -> list[str]:
    """A line for each method, controls aside, some of whose maps are empty or bright everywhere: such maps pass one side of the
    test by saying nothing."""
    lines = []
    for (name,), values in grouped(rows_of(rows).select(metric=BRIGHT), ["method"]):
        if name not in METHODS or METHODS[name].family != "control":
            lines += nothing_said(name, values)
    return lines


def _place(name: str) -> tuple[int, str]:
    order = list(METHODS)
    return (order.index(name), name) if name in order else (len(order), name)

"""Tables and notices of what was measured."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from rich.text import Text

from wallcheck.cams import METHODS
from wallcheck.models import WhereToCut
from wallcheck.reading import EVERYWHERE, nothing_said
from wallcheck.results import told as told_failure
from wallcheck.statistics import interval, percent, told
from wallcheck.terminal import Column, Listing, markdown, progress_bar, show, show_listing

__all__ = [
    "EVERYWHERE",
    "NOT_TOLD",
    "layers_listing",
    "leakage_listing",
    "leakage_markdown",
    "measured",
    "missed_of",
    "print_leakage",
    "progress_bar",
    "says_nothing",
]

MISSED, BRIGHT = "missed", "bright_area"
NOT_TOLD = "missed: not known, because the head does not add up over cells, so that what each adds to the logit has no one answer"


def print_leakage(rows: pd.DataFrame) -> None:
    """One table per net and image set: methods by rows, the measures people ask for by columns; below, warnings of maps that say
    nothing, and what is missing."""
    for listing, warnings in _parts(rows):
        show_listing(listing)
        for warning in warnings:
            show(Text(f"warning: {warning}"), 140)
    for failure in rows.attrs.get("failures", ()):
        show(Text(f"missing: {told_failure(failure)}"), 120)


def leakage_markdown(rows: pd.DataFrame) -> str:
    """The same as Markdown."""
    parts = [markdown(listing) + "".join(f"\n\n> {one}" for one in warnings) for listing, warnings in _parts(rows)]
    missing = [f"> missing: {told_failure(failure)}" for failure in rows.attrs.get("failures", ())]
    return "\n\n".join([*parts, *missing])


def _parts(rows: pd.DataFrame) -> list[tuple[Listing, list[str]]]:
    return [
        (leakage_listing(part, f"{net} on {images}"), says_nothing(part))
        for (net, images), part in rows.groupby(["net", "images"], observed=True)
    ]


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


def leakage_listing(rows: pd.DataFrame, title: str) -> Listing:
    """Methods in the order of their families; 95 % intervals over images, and the share of empty maps beside each mean."""
    told_truth = (rows["metric"] == MISSED).any()
    asked = told_truth or (rows["metric"] == BRIGHT).any()
    columns = [
        Column("method"),
        Column("family", spare=4),
        Column("mass on unseen cells", right=True),
        Column("L2 share as displayed", spare=2, right=True),
        Column("any", spare=3, right=True),
        *([Column(MISSED, spare=1, right=True)] if asked else []),
    ]
    lines = []
    for name in sorted(set(rows["method"].unique()), key=_place):
        of = rows[rows["method"] == name]
        shown = _values(of, "displayed", "image", "leak_l2")
        family = METHODS[name].family if name in METHODS else "own"
        cells = (
            told(interval(measured(of, "leak_mass"))),
            told(interval(shown)),
            told(interval(measured(of, "leak_any")), ".0%"),
        )
        lines.append((name, family, *cells, *([missed_of(of)] if asked else [])))
    return Listing(title, columns, lines, NOT_TOLD if asked and not told_truth else "")


def measured(rows: pd.DataFrame, metric: str) -> np.ndarray:
    """Of one method's rows, the leakage of its rectified map: on cells, or on the image where a pixel map has none."""
    values = _values(rows, "rectified", "grid", metric)
    return values if len(values) else _values(rows, "rectified", "image", metric)


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


def _values(rows: pd.DataFrame, view: str, on: str, metric: str) -> np.ndarray:
    chosen = (rows["view"] == view) & (rows["on"] == on) & (rows["metric"] == metric)
    return rows.loc[chosen, "value"].to_numpy()


def _place(name: str) -> tuple[int, str]:
    order = list(METHODS)
    return (order.index(name), name) if name in order else (len(order), name)

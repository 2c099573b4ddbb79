"""`methods` and `metrics`: the registries, a line for each entry."""

import json
from collections.abc import Iterable

from jsonargparse import Namespace

from wallcheck.cams import METHODS
from wallcheck.metrics import KINDS
from wallcheck.terminal import Column, Listing, show_listing
from wallcheck.writing import say


def methods(options: Namespace) -> int:
    columns = [
        Column("name"),
        Column("family"),
        Column("cost", spare=3),
        Column("verdict", spare=2),
        Column("grid", spare=4),
        Column("source", spare=1, wraps=True),
    ]
    return _listed("methods", METHODS.values(), columns, options.json)


def metrics(options: Namespace) -> int:
    every = [metric for registry in KINDS.values() for metric in registry.values()]
    columns = [
        Column("name"),
        Column("kind"),
        Column("what", wraps=True),
        Column("ends", spare=2, wraps=True),
        Column("better", spare=1),
        Column("cost", spare=4),
        Column("source", spare=3, wraps=True),
    ]
    return _listed("metrics", every, columns, options.json)


def _listed(title: str, entries: Iterable, columns: list[Column], as_json: bool) -> int:
    rows = [{column.heading: getattr(entry, column.heading) for column in columns} for entry in entries]
    if as_json:
        say(json.dumps(rows, indent=1))
    else:
        show_listing(Listing(f"{len(rows)} {title}", columns, [tuple(row.values()) for row in rows]), 160)
    return 0

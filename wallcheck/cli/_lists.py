"""`methods` and `metrics`: the registries, a line for each entry."""

import json
import sys
from collections.abc import Iterable
from typing import Any

from jsonargparse import Namespace

from wallcheck.adapters import PEERS, Peer, installed, peers
from wallcheck.cams import METHODS, called
from wallcheck.metrics import KINDS
from wallcheck.terminal import Column, Listing, show_listing
from wallcheck.writing import say


def methods(options: Namespace) -> int:
    """Ours, or with --peers those of the libraries that are installed."""
    if options.peers:
        return _peers(options.json)
    columns = [
        Column("name"),
        Column("called", spare=3),
        Column("family"),
        Column("cost", spare=3),
        Column("verdict", spare=1),
        Column("grid", spare=4),
        Column("source", spare=2, wraps=True),
    ]
    return _listed("methods", METHODS.values(), columns, options.json)


def _peers(as_json: bool) -> int:
    missing = [library.package for library in PEERS if library not in installed()]
    if missing:
        print(f"wallcheck: not installed: {', '.join(missing)}; pip install 'wallcheck[peers]'", file=sys.stderr)
    columns = [Column("name"), Column("library", spare=2), Column("version", spare=1)]
    return _listed("peers", [Peer.of(name) for name in peers()], columns, as_json)


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
    rows = [{column.heading: _cell(entry, column.heading) for column in columns} for entry in entries]
    if as_json:
        say(json.dumps(rows, indent=1))
    else:
        show_listing(Listing(f"{len(rows)} {title}", columns, [tuple(row.values()) for row in rows]), 160)
    return 0


def _cell(entry: Any, heading: str) -> str:
    return called(entry.name) if heading == "called" else getattr(entry, heading)

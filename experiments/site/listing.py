"""What mkdocs.yml lists, held against the pages there are."""

from collections.abc import Iterator
from pathlib import Path

import yaml


def listed(config: Path) -> list[str]:
    """Every page that the configuration names, in order."""
    return list(_leaves(yaml.safe_load(config.read_text(encoding="utf-8"))["nav"]))


def _leaves(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    for one in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from _leaves(one)


def check_listed(config: Path, pages: list[str]) -> None:
    """Raises ValueError for a page that is not listed, is listed twice, or is listed and is not there."""
    names = listed(config)
    wrong = {
        "is not listed": sorted(set(pages) - set(names)),
        "is listed, but there is no such page": sorted(set(names) - set(pages)),
        "is listed twice": sorted({name for name in names if names.count(name) > 1}),
    }
    for what, found in wrong.items():
        if found:
            raise ValueError(f"{found[0]} {what}; put {config.name}'s nav right")

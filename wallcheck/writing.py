"""Files appear whole or not at all: written beside, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name next to path, of its own even when several processes write path at once.

    Renamed to path once the block has succeeded, removed if it failed.
    """
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with beside(path) as partial:
        partial.write_text(text)

"""Graphs without their source text.

torch writes each graph as Python and keeps the text for good, for tracebacks: 17 texts an audit, some 30 kB. Who explains one net
a thousand times would pay 30 MB for lines that nobody reads.
"""

import linecache
from collections.abc import Iterator
from contextlib import contextmanager

from torch.fx import graph_module

WRITTEN = "<eval_with_key>"


@contextmanager
def without_texts() -> Iterator[None]:
    """Texts of the graphs made inside are let go; those that others made stay."""
    before = set(linecache.cache)
    try:
        yield
    finally:
        texts = graph_module._loader.eval_cache
        for name in list(linecache.cache):  # a list, since other threads write theirs meanwhile, and let go of them
            if name.startswith(WRITTEN) and name not in before:
                linecache.cache.pop(name, None)
                texts.pop(name, None)

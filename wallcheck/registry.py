"""A dictionary with manners: refuses a second use of a name, answers an unknown one with the nearest."""

import difflib
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


class Registry(dict[str, T]):
    """Name -> entry.

    >>> METHODS = Registry("method")
    >>> METHODS["gradcam"] = 1
    >>> METHODS["gradcan"]
    Traceback (most recent call last):
    LookupError: no method named 'gradcan'; nearest: gradcam
    """

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def __setitem__(self, name: str, entry: T) -> None:
        if name in self:
            raise ValueError(f"a {self.kind} named {name!r} is registered already; choose another name")
        super().__setitem__(name, entry)

    def __missing__(self, name: str) -> T:
        near = difflib.get_close_matches(str(name), self, n=3, cutoff=0.5) or sorted(self)
        # KeyError would show its message in quotes.
        raise LookupError(f"no {self.kind} named {name!r}; nearest: {', '.join(near)}")


def unique(names: Iterable[str]) -> list[str]:
    """The names as a list; raises ValueError for one asked for twice, which would be measured twice."""
    names = list(names)
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} was asked for {names.count(name)} times; name it once")
    return names

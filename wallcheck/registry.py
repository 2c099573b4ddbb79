"""A dictionary with manners: refuses a second use of a name, answers an unknown one with the nearest.

What is defined again in the same place (a notebook's cell run twice, a module loaded anew) takes the place of what was
there, since that is what its author means.
"""

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
    >>> METHODS["Grad-CAM"]
    Traceback (most recent call last):
    LookupError: no method named 'Grad-CAM'; nearest: gradcam
    """

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def __setitem__(self, name: str, entry: T) -> None:
        if name in self and not _same_place(self[name], entry):
            raise ValueError(f"a {self.kind} named {name!r} is registered already; choose another name")
        super().__setitem__(name, entry)

    def __missing__(self, name: str) -> T:
        plain = {_plain(each): each for each in self}  # people write Grad-CAM, GradCAM and grad_cam
        close = difflib.get_close_matches(_plain(str(name)), plain, n=3, cutoff=0.5)
        near = [plain[each] for each in close] or sorted(self)
        # KeyError would show its message in quotes.
        raise LookupError(f"no {self.kind} named {name!r}; nearest: {', '.join(near)}")


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "").replace("_", "")


def _same_place(one: object, two: object) -> bool:
    """Do both wrap a function (`body`) of one module and one name there?"""
    places = [(getattr(f, "__module__", None), getattr(f, "__qualname__", None)) for f in map(_body, (one, two))]
    return places[0] == places[1] and None not in places[0]


def _body(entry: object) -> object:
    return getattr(entry, "body", None)


def unique(names: Iterable[str]) -> list[str]:
    """The names as a list; raises ValueError for one asked for twice, which would be measured twice."""
    names = list(names)
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} was asked for {names.count(name)} times; name it once")
    return names

"""From an explainer to a Method on one net: found by its name, its grid found out on a few images, its version kept."""

import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from wallcheck.adapters import _captum, _grad_cam, _quantus, _torchcam, _zennit
from wallcheck.adapters._callables import WANTED, signature_of
from wallcheck.adapters._door import Door, library_of, name_of
from wallcheck.adapters._explainers import PLAIN, Library
from wallcheck.adapters._stand_in import library as imported
from wallcheck.adapters._stand_in import version
from wallcheck.cams import METHODS, Method
from wallcheck.evidence import Evidence
from wallcheck.handed import grid_of
from wallcheck.keeping import alone
from wallcheck.models import BlindNet
from wallcheck.registry import Registry
from wallcheck.results import digest

PEERS: tuple[Library, ...] = tuple(one.LIBRARY for one in (_grad_cam, _torchcam, _captum, _zennit, _quantus))
FIRST = 4  # images on which a grid is found out


class Peer(NamedTuple):
    """An explainer of an installed library, for a list."""

    name: str
    library: str
    version: str

    @classmethod
    def of(cls, name: str) -> "Peer":
        library = next(one for one in PEERS if name.startswith(f"{one.module}."))
        return cls(name, library.package, version(library.package))


def installed() -> tuple[Library, ...]:
    """The libraries that are there, by name."""
    return tuple(one for one in PEERS if one.module in sys.modules or find_spec(one.module))


def peers() -> Registry[object]:
    """Every explainer of every library that is installed, "captum.Saliency" -> its class, function or partial of one: what
    `foreign`, an audit and a reading take. Those whose defaults take minutes on a CPU have fewer samples or steps."""
    found: Registry[object] = Registry("peer")
    for library in installed():
        for name, explain in library.every().items():
            found[f"{library.module}.{name}"] = explain
    return found


def foreign(
    explain: object,
    net: BlindNet,
    images: Tensor | Callable[[], Tensor],
    *,
    name: str | None = None,
    grid: str | None = None,
) -> Method:
    """Whatever explains an image as a Method on net.

    explain: see `wallcheck.adapters._door`. images: a few (B, 3, H, W), on which it is found out whether its maps are on cells,
    or enlarged from them, or on pixels; or a function that gives them, called when need be. name: in tables; its own if None.
    grid: "cells" or "pixels" where that is known. Raises ValueError for what explains nothing and for names that lead nowhere.
    """
    named, explain = found(explain) if isinstance(explain, str) else (None, explain)
    name, library = name or named, library_of(explain, PEERS)
    _refuse_what_explains_nothing(explain, library)
    name = name or name_of(explain, library)
    if name in METHODS:
        name = f"own.{name}"  # ours keep their names, and theirs are never passed off as ours
    door = Door(explain, name, PEERS, grid)
    door.grid = grid or _grid(door, net, images() if callable(images) else images)
    source = f"{library.package} {version(library.package)}" if library else "handed over as a function"
    about = dict(family="peer", source=source, cost="", verdict="not_stated", grid=door.grid or "pixels")
    return Method(name=name, body=door, **about, digest=identity(explain, library))


def _refuse_what_explains_nothing(explain: object, library: Library | None) -> None:
    if library is None:
        if not callable(explain):
            raise ValueError(
                f"{explain!r} is no method; give names (wallcheck methods lists them), Methods, or {WANTED[5:]}"
            )
        signature_of(explain)
    elif not isinstance(explain, type | partial):
        library.holds(explain)


def _grid(door: Door, net: BlindNet, images: Tensor) -> str | None:
    """Of maps of the first images; None where there are none: that is told, image by image, where they are missing."""
    for count in dict.fromkeys((min(FIRST, len(images)), 1)):  # some take one image at a time
        with alone(), warnings.catch_warnings(), suppress(Exception):
            warnings.simplefilter("ignore")  # it is asked again, and what it leaves is told then
            maps, _ = door.maps(Evidence(net, images[:count]))
            return grid_of(maps, net)
    return None


# -- by name --------------------------------------------------------------------------------------


def found(text: str) -> tuple[str, object]:
    """Name and explainer of a text, "package.module:function" or a peer's name. ValueError, LookupError with what there is."""
    if ":" in text:
        return text, _of_module(text)
    head, _, rest = text.partition(".")
    library = next((one for one in PEERS if one.module == head), None)
    if library is None:
        return text, METHODS[text]  # which answers with the nearest
    try:
        imported(library.module, library.package)
    except ImportError as error:
        raise ValueError(str(error)) from None
    every = library.every()
    if rest not in every:
        raise LookupError(f"{head} {version(library.package)} has no explainer {rest!r}; it has {', '.join(every)}")
    return text, every[rest]


def _of_module(text: str) -> object:
    """package.module:function, dots allowed after the colon."""
    module, _, name = text.partition(":")
    try:
        loaded = import_module(module)
    except ImportError as error:
        raise ValueError(f"no module {module} for {text!r} ({error}); run from the folder it lies in") from None
    except (Exception, SystemExit) as error:  # whatever a stranger's module does while it is read
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{module} cannot be imported for {text!r} ({said}); mend it first") from None
    found: object = loaded
    for part in name.split("."):
        if not hasattr(found, part):
            held = sorted(n for n, entry in vars(loaded).items() if callable(entry) and not n.startswith("_"))
            raise LookupError(f"{module} has no {name!r}; it has {', '.join(held)}")
        found = getattr(found, part)
    return found


# -- which version of it --------------------------------------------------------------------------


def identity(explain: object, library: Library | None) -> str | None:
    """Digest of what decides an explainer's maps, as far as it can be told: the library's version, the class and its settings; or a
    function's source text. None where there is none."""
    told = [version(library.package)] if library else []
    while isinstance(explain, partial):
        told.append(_settings((f"{place}", value) for place, value in enumerate(explain.args)))
        told.append(_settings(explain.keywords.items()))
        explain = explain.func
    kind = explain if inspect.isroutine(explain) or isinstance(explain, type) else type(explain)
    if kind is not explain:
        told.append(_settings(vars(explain).items()) if hasattr(explain, "__dict__") else [])
    if library:
        return digest([*told, f"{kind.__module__}.{kind.__qualname__}"])[:16]
    try:
        return digest([*told, inspect.getsource(kind)])[:16]
    except (OSError, TypeError):
        return None


def _settings(pairs: Sequence) -> list[str]:
    return sorted(
        f"{name}={value.tolist() if isinstance(value, Tensor) else value}" for name, value in pairs if _plain(value)
    )


def _plain(value: object) -> bool:
    if isinstance(value, torch.nn.Parameter):
        return False
    return isinstance(value, (*PLAIN, tuple, type(None))) or (isinstance(value, Tensor) and value.numel() < 100)

"""An ordinary module in the net's place, and what every adapter asks of its library."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from types import ModuleType

from torch import nn

from wallcheck.evidence import Evidence
from wallcheck.graph import ordinary
from wallcheck.models import BlindNet


def stand_in(net: BlindNet) -> nn.Module:
    """The net as another library expects it, made anew for each call: whole images in, the whole target layer on the way (its
    module is `target`), logits out. Its weights share the net's values; hooks, modes and .grad are its own."""
    return ordinary(net.graph.walled)


def library(name: str, package: str) -> ModuleType:
    """The module, or an ImportError that says how to get it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"{package} is not installed ({error}); pip install 'wallcheck[peers]'") from error


def version(package: str) -> str:
    """The installed version of a package; "unknown" where it has none, as a module that lies beside a script."""
    try:
        return installed(package)
    except PackageNotFoundError:
        return "unknown"


def class_of(module: ModuleType, name: str) -> type:
    """A class of a library by name; ValueError with the names there are."""
    if not isinstance(found := getattr(module, name, None), type):
        known = sorted(n for n, entry in vars(module).items() if isinstance(entry, type) and not n.startswith("_"))
        raise ValueError(f"{module.__name__} has no explainer {name!r}; it has {', '.join(known)}")
    return found


def resolved(options: dict, ev: Evidence) -> dict:
    """Options as they stand, or computed from the evidence where they are functions."""
    return {key: value(ev) if callable(value) else value for key, value in options.items()}

"""An ordinary module in the net's place, and calls that leave the process as they found it."""

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from types import ModuleType

import numpy as np
import torch
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


def class_of(module: ModuleType, name: str) -> type:
    """A class of a library by name; ValueError with the names there are."""
    if not isinstance(found := getattr(module, name, None), type):
        known = sorted(n for n, entry in vars(module).items() if isinstance(entry, type) and not n.startswith("_"))
        raise ValueError(f"{module.__name__} has no explainer {name!r}; it has {', '.join(known)}")
    return found


def resolved(options: dict, ev: Evidence) -> dict:
    """Options as they stand, or computed from the evidence where they are functions."""
    return {key: value(ev) if callable(value) else value for key, value in options.items()}


@contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """Draws in the block come from the seed and leave every global generator as it was; progress bars are kept off."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)

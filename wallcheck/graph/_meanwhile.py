"""What the user's code meets while torch traces it, made what it meets where it runs: len, torch.compiler's answers, attributes that
it may write into, silence; and for code that other threads run meanwhile, torch's modules as they are."""

import builtins
import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from threading import get_ident

import torch
from torch import nn
from torch._functorch import aot_autograd
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import _trace
from torch.fx.experimental import proxy_tensor

from wallcheck.keeping import TORCHS

ANNOUNCED = ("is_compiling", "is_exporting", "is_dynamo_compiling")  # what torch.compiler is asked
ASSIGNED = "_detect_attribute_assignment"  # torch's own check, called around each of its readings of a module
LOGS = [logging.getLogger(name) for name in ("torch.fx.experimental.symbolic_shapes", "torch.export._trace")]


@contextmanager
def measured() -> Iterator[None]:
    """len(x) of what is traced gives x.shape[0], a number that stands for any; Python itself would make it a plain one. torch
    does likewise to min, max and pow while it exports."""
    plain = builtins.len

    def measured(value: object) -> int:
        return value.shape[0] if isinstance(value, FakeTensor) and value.ndim else plain(value)

    builtins.len = measured
    try:
        yield
    finally:
        builtins.len = plain


@contextmanager
def unannounced() -> Iterator[None]:
    """The user's code hears that nothing is compiled or exported, as it does where it runs; torch's own hears the truth."""
    truths = {name: getattr(torch.compiler, name) for name in ANNOUNCED if hasattr(torch.compiler, name)}

    def answering(truth: Callable[[], bool]) -> Callable[[], bool]:
        return lambda: sys._getframe(1).f_globals.get("__name__", "").startswith("torch.") and truth()

    for name, truth in truths.items():
        setattr(torch.compiler, name, answering(truth))
    try:
        yield
    finally:
        for name, truth in truths.items():
            setattr(torch.compiler, name, truth)


WATCHED = {  # what torch's tracer is told of: each module that is called, each that is asked for by its name -> what is so without
    "call_module": lambda module, forward, args, kwargs: forward(*args, **kwargs),
    "getattr": lambda name, value, known: value,
}


@contextmanager
def unwatched_elsewhere() -> Iterator[None]:
    """torch's tracer puts itself in the place of torch.nn.Module's own methods, for all threads: what others call is no part of
    what is traced."""
    tracer, here = getattr(proxy_tensor, "_ModuleStackTracer", None), get_ident()
    watching = {name: vars(tracer)[name] for name in WATCHED if tracer is not None and name in vars(tracer)}

    def here_alone(watch: Callable, otherwise: Callable) -> Callable:
        return lambda self, *given: watch(self, *given) if get_ident() == here else otherwise(*given)

    for name, watch in watching.items():
        setattr(tracer, name, here_alone(watch, WATCHED[name]))
    try:
        yield
    finally:
        for name, watch in watching.items():
            setattr(tracer, name, watch)


LISTED = 4096  # numbers of a tensor that a network makes of numbers in each call


@contextmanager
def listed() -> Iterator[None]:
    """A question about a tensor made of a list (is any standard deviation 0? torchvision's Normalize asks) has its answer; torch
    itself knows the value of such a tensor while it traces, but only of one number."""
    most = fake_tensor.CONSTANT_NUMEL_LIMIT
    fake_tensor.CONSTANT_NUMEL_LIMIT = max(most, LISTED)
    try:
        yield
    finally:
        fake_tensor.CONSTANT_NUMEL_LIMIT = most


@contextmanager
def assignable() -> Iterator[None]:
    """Modules may keep tensors in attributes. torch 2.6 raises for those of the network itself and leaves in modules within it what
    it traced with, which its next reading would find; later versions put all back."""
    checks = {holder: getattr(holder, ASSIGNED) for holder in (aot_autograd, _trace) if hasattr(holder, ASSIGNED)}
    for holder in checks:
        setattr(holder, ASSIGNED, put_back)
    try:
        yield
    finally:
        for holder, check in checks.items():
            setattr(holder, ASSIGNED, check)


@contextmanager
def put_back(module: nn.Module) -> Iterator[None]:
    """Attributes that a block sets in the network's modules, and lists and dictionaries in them, are as they were after it."""
    kept = [(vars(each), {k: v for k, v in vars(each).items() if k not in TORCHS}) for each in module.modules()]
    held = [(each, each.copy()) for _, before in kept for each in before.values() if type(each) in (list, dict)]
    try:
        yield
    finally:
        for now, before in kept:
            for name in now.keys() - before.keys() - TORCHS:
                del now[name]
            now.update(before)
        for each, before in held:
            each.clear()
            (each.extend if isinstance(each, list) else each.update)(before)


@contextmanager
def quiet() -> Iterator[None]:
    """torch prints the half of a graph that it came to and advice for its own export: the refusal says what a user can do."""
    levels, said = [log.level for log in LOGS], io.StringIO()
    for log in LOGS:
        log.setLevel(logging.CRITICAL)
    try:
        with redirect_stderr(said):
            yield
        sys.stderr.write(said.getvalue())  # what the user's own code prints
    finally:
        for log, level in zip(LOGS, levels, strict=True):
            log.setLevel(level)

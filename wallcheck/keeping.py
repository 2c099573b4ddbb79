"""What was handed in is given back as it was: modules bit by bit, and the state that every package of a process shares.

`untouched` and `undisturbed` put back, `traces` tells what a stranger left: hooks, modes, flags, gradients, random state. `alone`
keeps other threads from what they share meanwhile.
"""

import io
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from threading import RLock

import numpy as np
import torch
from torch import Tensor, nn

# What hangs on a module: a stranger's litter, which changes no weight.
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
PARTS = ("_parameters", "_buffers", "_modules", *HOOKS)
TORCHS = frozenset(vars(nn.Module()))  # what every module holds: parts and its mode; the rest are settings of its own

_lock, _weights = RLock(), RLock()  # taken in this order


def _let_go_of_locks() -> None:
    """A child of the process has one thread: whichever other held a lock is not there to give it back."""
    global _lock, _weights
    _lock, _weights = RLock(), RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_of_locks)


@contextmanager
def alone() -> Iterator[None]:
    """One thread at a time: what the block changes for a while (torch's classes while it traces, global generators, what is
    printed) all threads share, and two that put it back in turn would leave it as neither found it."""
    with _lock:
        yield


@contextmanager
def tracing() -> Iterator[None]:
    """`alone`, and what a network holds is for this thread only: while torch traces it, its weights are none."""
    with _lock, _weights:
        yield


@contextmanager
def untraced() -> Iterator[None]:
    """While no other thread traces. Nothing that has to be `alone` may begin in the block."""
    with _weights:
        yield


class UncleanHands(ValueError):
    """A method changed what it was only to look at."""


@contextmanager
def untouched(net: nn.Module) -> Iterator[list[str]]:
    """Give net back as it was, bit by bit; yields a list that names what had to be put back.

    Modes, gradients and requires_grad are put back without a word, since asking for a gradient may leave them.
    """
    with untraced():
        modules = {
            name: (module, module.training, _parts(module), _forward(module)) for name, module in net.named_modules()
        }
        tensors = dict([*net.named_parameters(), *net.named_buffers()])
        values = {name: (_held(value), _value_hooks(value)) for name, value in tensors.items()}
    changes: list[str] = []
    try:
        yield changes
    finally:
        with untraced():
            changes += [told for name, kept in modules.items() for told in _put_back_module(name, *kept)]
            for name, value in tensors.items():
                held, hooks = values[name]
                changes += [name] if _restore(value, *held) else []
                if value._backward_hooks is not None:
                    _put_back(value._backward_hooks, hooks)


def _put_back_module(name: str, module: nn.Module, training: bool, parts: dict, forward: object) -> list[str]:
    """What had to be put back."""
    module.training, changes = training, []
    if _forward(module) is not forward:
        vars(module).pop("forward", None)
        vars(module).update({} if forward is None else {"forward": forward})
        changes.append(f"forward of {name or 'the net'}")
    return changes + [
        f"{part} of {name or 'the net'}" for part in PARTS if _put_back(getattr(module, part), parts[part])
    ]


def _parts(module: nn.Module) -> dict[str, dict]:
    return {part: dict(getattr(module, part)) for part in PARTS}


def _forward(module: nn.Module) -> object:
    """A forward of the module's own, which stands before its class's."""
    return vars(module).get("forward")


def _value_hooks(value: Tensor) -> dict:
    return dict(value._backward_hooks or {})


def _held(value: Tensor) -> tuple[Tensor, bool, Tensor | None, Tensor | None]:
    grad = value.grad
    return value.detach().clone(), value.requires_grad, grad, None if grad is None else grad.detach().clone()


def _put_back(now: dict, before: dict) -> bool:
    if list(now) == list(before) and all(now[name] is before[name] for name in now):
        return False
    now.clear()
    now.update(before)
    return True


def _restore(value: Tensor, before: Tensor, requires_grad: bool, grad: Tensor | None, slope: Tensor | None) -> bool:
    """Put value, and then what goes with it, back; was it another one?"""
    changed = not same(value.detach(), before)
    value.grad = None  # of a type that may not be the value's
    if changed:
        _fill(value, before)
    if value.requires_grad != requires_grad:
        value.requires_grad_(requires_grad)
    if grad is not None and slope is not None and not same(grad, slope):
        _fill(grad, slope)
    value.grad = grad
    return changed


def _fill(value: Tensor, before: Tensor) -> None:
    if value.shape == before.shape and value.dtype == before.dtype:
        with torch.no_grad():
            value.copy_(before)
    else:
        value.data = before


def same(one: Tensor, two: Tensor) -> bool:
    """Equal in shape, type and every value; NaN is NaN."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    return bool(((one == two) | ((one != one) & (two != two))).all())


# -- what is left behind --------------------------------------------------------------------------


def traces(model: nn.Module) -> Callable[[], list[str]]:
    """Look at model now; asked later, name what is otherwise: hooks, training modes, requires_grad, gradients."""
    modules = {name: (module, module.training, _hooks(module)) for name, module in model.named_modules()}
    flags = {name: (value, value.requires_grad, value.grad) for name, value in model.named_parameters()}
    listening = {name: _value_hooks(value) for name, value in model.named_parameters()}

    def left() -> list[str]:
        hooked = [name or "the model" for name, (module, _, hooks) in modules.items() if _hooks(module) != hooks]
        hooked += [name for name, (value, *_) in flags.items() if _value_hooks(value) != listening[name]]
        moded = [name or "the model" for name, (module, training, _) in modules.items() if module.training != training]
        asked = [name for name, (value, flag, _) in flags.items() if value.requires_grad != flag]
        sloped = [name for name, (value, _, grad) in flags.items() if value.grad is not grad]
        found = [("hooks on", hooked), ("another mode of", moded), ("requires_grad of", asked)]
        return [f"{what} {_some(names)}" for what, names in [*found, ("gradients on", sloped)] if names]

    return left


def _hooks(module: nn.Module) -> list[tuple[int, int]]:
    return [(key, id(hook)) for part in HOOKS for key, hook in getattr(module, part).items()]


def _some(names: list[str]) -> str:
    """
    >>> _some(["a"]), _some(["a", "b", "c"])
    ('a', 'a and 2 more')
    """
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


@contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """Draws in the block come from the seed and leave every global generator as it was; progress bars are kept off."""
    with alone(), _seeded(seed, _awake()), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        numpy_state, python_state = np.random.get_state(), random.getstate()
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Draws from torch's global generators of the CPU and of the device come from the seed; both are as they were after the block.

    A GPU on which nothing runs is left asleep: `torch.manual_seed` seeds the generators of all there are, and `torch.random.fork_rng`
    starts each to read its own.
    """
    with _seeded(seed, [torch.default_generator, *_generator_of(device)]):
        yield


@contextmanager
def _seeded(seed: int, generators: list[torch.Generator]) -> Iterator[None]:
    before = [each.get_state() for each in generators]
    try:
        for each in generators:
            each.manual_seed(seed)
        yield
    finally:
        for each, state in zip(generators, before, strict=True):
            each.set_state(state)


def _generator_of(device: torch.device | None) -> list[torch.Generator]:
    if device is not None and device.type == "cuda":
        torch.cuda.init()
        return [torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]]
    return [torch.mps._get_default_mps_generator()] if device is not None and device.type == "mps" else []


def _awake() -> list[torch.Generator]:
    """The generators of the CPU and of the GPUs that this process uses."""
    of_gpus = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
    of_apples = _generator_of(torch.device("mps")) if torch.backends.mps.is_available() else ()
    return [torch.default_generator, *of_gpus, *of_apples]


@contextmanager
def draws() -> Iterator[list[str]]:
    """Yields a list that names, once the block is left, the global generators that it drew from or seeded."""
    drawn: list[str] = []
    started = _generators()
    yield drawn
    drawn += [name for name, state in _generators().items() if state != started[name]]


def _generators() -> dict[str, object]:
    _, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.random.get_rng_state().numpy().tobytes(),
        "numpy": (np.asarray(keys).tobytes(), *rest),
        "python": random.getstate(),
    }

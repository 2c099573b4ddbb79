"""How much is computed at once: a budget in MiB, what of a work fits it, and what was used given back.

On a CPU the budget is 256 MiB and work that is small at a time stays in its cache; on a GPU a share of what is free, since there
the number of launches decides.
"""

import ctypes
import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

BUDGET_MB = 256
CACHE_MB = 8
SHARE = 1 / 4  # of a GPU's free memory
MOST_MB = 4096  # more is no faster, and 2^31 values are some kernels' limit


def budget_of(device: torch.device) -> float:
    """The budget on a device where none is given: on a CUDA device a quarter of the memory that is free or that this process
    holds unused, at most 4 GiB."""
    if device.type != "cuda":
        return BUDGET_MB
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(1.0, min(MOST_MB, SHARE * (free + unused) / 2**20))


def told_of(device: torch.device) -> str:
    """The device in words: cpu, or cuda and the GPU's name."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """start .. stop in slices of `size`, the last one shorter.

    >>> list(slices(0, 5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return (slice(begin, min(begin + size, stop)) for begin in range(start, stop, size))


@contextmanager
def handed_back() -> Iterator[None]:
    """After the block, what it freed goes back to the system. A graph's nodes hold each other, so Python's collector must find
    them, and it looks through old objects rarely; glibc keeps free pieces for what comes next, more or fewer of them from call
    to call. A process that audits hundreds of times would grow by many MiB without holding more."""
    began = time.perf_counter()
    try:
        yield
    finally:
        _garbage.after(time.perf_counter() - began)
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        if trim is not None:
            trim(0)


@contextmanager
def without_garbage() -> Iterator[None]:
    """What the block makes is looked through once at its end, while it is young: an export leaves thousands of objects that hold
    each other."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
            gc.collect(0)


class _Garbage:
    """Collects what is out of reach as often as a thirtieth of the work's time allows; never where the user has switched Python's
    collector off."""

    SHARE = 1 / 30

    def __init__(self):
        self.worked, self.cost = 0.0, 0.2  # seconds: since the last collection, and what that took

    def after(self, seconds: float) -> None:
        self.worked += seconds
        if gc.isenabled() and self.worked * self.SHARE > self.cost:
            began = time.perf_counter()
            gc.collect()
            self.worked, self.cost = 0.0, time.perf_counter() - began


_garbage = _Garbage()

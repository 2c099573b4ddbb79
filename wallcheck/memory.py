"""How much is computed at once: a budget in MiB, what of a work fits it, and what was used given back.

On a CPU the budget is 256 MiB and work that is small at a time stays in its cache; on a GPU a share of what is free, since there
the number of launches decides.
"""

import ctypes
import sys
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
    """After the block, what it freed goes back to the system. glibc keeps free pieces for what comes next, more or fewer of them
    from call to call: a process that audits hundreds of times would grow by many MiB without holding more."""
    try:
        yield
    finally:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        if trim is not None:
            trim(0)

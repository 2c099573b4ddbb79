"""What torch takes where nothing is said: its default dtype and device, and inference mode. A caller's choice of them is for the
caller's own code; here it would draw other numbers, make tensors on another device, or seal them against gradients.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local

import torch

USUAL = torch.float32, torch.device("cpu")

_outside = local()  # what the caller had chosen, while a block of `usual` runs


@contextmanager
def usual() -> Iterator[None]:
    """float32 and the CPU where nothing is said, outside inference mode, whatever the caller has chosen."""
    with torch.inference_mode(False):
        chosen = torch.get_default_dtype(), torch.get_default_device()
        if chosen == USUAL:
            yield
            return
        before = getattr(_outside, "chosen", None)
        _outside.chosen = before or chosen
        try:
            with _default(*USUAL):
                yield
        finally:
            _outside.chosen = before


@contextmanager
def callers() -> Iterator[None]:
    """The caller's own choice of dtype and device again, for code of the caller's that runs inside a block of `usual`."""
    chosen = getattr(_outside, "chosen", None)
    if chosen is None:
        yield
        return
    _outside.chosen = None
    try:
        with _default(*chosen):
            yield
    finally:
        _outside.chosen = chosen


@contextmanager
def _default(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)

"""Full float32 inside a block, whatever the process has chosen: no TF32 on a GPU, no bfloat16 in a CPU's products.

torch has two flags (products, cuDNN), and since 2.9 a name per library and operation beside them; reading a flag raises where
the names under it disagree, and torch's own code reads them. So both are set, and both are put back.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

FULL = "ieee"
# what stands above others first
NAMES = ("", "cudnn", "mkldnn", "cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


@contextmanager
def in_full_float32() -> Iterator[None]:
    """Products and convolutions of float32 in float32; the process's own choice is back after the block."""
    flags, holders = _flags(), [found for name in NAMES if (found := holder(name)) is not None]
    chosen = [each.fp32_precision for each in holders]
    try:
        _set(("highest", False))
        for each in holders:
            if each.fp32_precision not in (FULL, "none"):
                each.fp32_precision = FULL
        yield
    finally:
        _set(flags)
        for each, before in zip(holders, chosen, strict=True):
            _put_back(each, before)


def holder(name: str) -> object | None:
    """What holds the precision of a library or operation; None where this torch has no name for it."""
    found: object = torch.backends
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    return found if hasattr(found, "fp32_precision") else None


def _flags() -> tuple[str | None, bool | None]:
    """Both flags; None for one that cannot be read."""
    products = convolutions = None
    with suppress(RuntimeError):
        products = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        convolutions = torch.backends.cudnn.allow_tf32
    return products, convolutions


def _set(flags: tuple[str | None, bool | None]) -> None:
    if flags[0] is not None:
        torch.set_float32_matmul_precision(flags[0])
    if flags[1] is not None:
        torch.backends.cudnn.allow_tf32 = flags[1]


def _put_back(held: object, before: str) -> None:
    """The name as it was; one that had none of its own follows what stands above it again."""
    held.fp32_precision = "none"
    if held.fp32_precision != before:
        held.fp32_precision = before

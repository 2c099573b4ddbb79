"""How float32 is multiplied inside a block, whatever the process has chosen: in full, or as TF32 where a GPU has it.

exact   full float32: no TF32 on a GPU, no bfloat16 in a CPU's products
fast    TF32 on a GPU, 10 bits of mantissa in products and sums in full; elsewhere as exact

torch has two flags (products, cuDNN), and since 2.9 a name per library and operation beside them; reading a flag raises where
the names under it disagree, and torch's own code reads them. So both are set, and both are put back.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import local

import torch

PRECISIONS = ("exact", "fast")
CHOICES = {"exact": ("ieee", "highest", False), "fast": ("tf32", "high", True)}  # by name, of products, of convolutions
# what stands above others first
NAMES = ("", "cudnn", "mkldnn", "cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
GPU = ("cuda", "cudnn")

_inside = local()  # the choice of the block that a thread is in


def checked_precision(precision: str) -> str:
    """precision, or ValueError."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; choose from {', '.join(PRECISIONS)}")
    return precision


@contextmanager
def multiplied(precision: str, kind: str) -> Iterator[None]:
    """Products and convolutions of float32 by this choice on a device of this kind; the process's own choice is back after the
    block. A block within a block of the same choice has nothing to set."""
    choice, outer = precision if kind == "cuda" else "exact", getattr(_inside, "choice", None)
    if choice == outer:
        yield
        return
    _inside.choice = choice
    try:
        with _setting(*CHOICES[choice]):
            yield
    finally:
        _inside.choice = outer


@contextmanager
def _setting(word: str, products: str, convolutions: bool) -> Iterator[None]:
    flags, held = _flags(), {name: found for name in NAMES if (found := holder(name)) is not None}
    chosen = {name: each.fp32_precision for name, each in held.items()}
    try:
        _set((products, convolutions))
        for name, each in held.items():
            wanted = word if name.startswith(GPU) else CHOICES["exact"][0]
            if each.fp32_precision not in (wanted, "none"):
                each.fp32_precision = wanted
        yield
    finally:
        _set(flags)
        for name, each in held.items():
            _put_back(each, chosen[name])


@cache
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

"""A GPU that is not there: a device of torch's that computes on the CPU, and is as strict as a GPU.

Tensors of two devices in one operation raise. What a GPU would be given to do is counted in steps, a kernel each, and values that the
CPU would wait for are counted as waits. `Tensor.is_cuda` is true of it, so what is written for GPUs is what runs. Its arithmetic is the
CPU's, so it says nothing of a GPU's rounding, and no time that it takes means anything.

`start` builds it, by a C++ compiler and ninja, in half a minute the first time.
"""

import sys
import types
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch

NAME = "mock"


class Counted(NamedTuple):
    """steps: how often each operation ran. waits: how many values were read back."""

    steps: Counter
    waits: int


def start():
    """Builds the device and registers it under `NAME`; gives a function that tells what was `Counted` since it was called last.
    Once a process."""
    from torch.utils.cpp_extension import load

    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _module())
    built = load("wallcheck_mock_gpu", [str(Path(__file__).with_name("mock.cpp"))], extra_cflags=["-O1"])
    torch.utils.generate_methods_for_privateuse1_backend(for_tensor=True, for_module=True, for_storage=True)
    torch.Tensor.is_cuda = property(lambda tensor: tensor.device.type in ("cuda", NAME))

    def counted() -> Counted:
        steps, waits = built.counted()
        return Counted(Counter(steps), waits)

    return counted


def _module() -> types.ModuleType:
    """What torch asks `torch.<device>` for."""
    module = types.ModuleType(f"torch.{NAME}")
    answers = dict(
        is_available=True,
        is_initialized=True,
        is_bf16_supported=True,
        device_count=1,
        current_device=0,
        _is_in_bad_fork=False,
        get_amp_supported_dtype=[torch.float16, torch.bfloat16],
        manual_seed=None,
        manual_seed_all=None,
        set_device=None,
        synchronize=None,
        set_rng_state=None,
        get_rng_state=torch.empty(0, dtype=torch.uint8),
    )
    for name, answer in answers.items():
        setattr(module, name, lambda *_, answer=answer: answer)
    module.device = lambda *_: nullcontext()
    sys.modules[module.__name__] = module
    return module

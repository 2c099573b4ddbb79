"""What the whole process shares, and a stranger's code may leave otherwise: told by name and put back."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as torch_module


def _device(value: torch.device) -> None:
    torch.set_default_device(
        None if value.type == "cpu" else value
    )  # named, the CPU would cost each call of torch's a look


def _products() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # where torch's newer names for it disagree
        return None


def _multiply(value: str | None) -> None:
    if value is not None:
        torch.set_float32_matmul_precision(value)


def _hooks() -> dict[str, dict]:
    """Those that every module of the process runs."""
    held = {name: value for name, value in vars(torch_module).items() if name.startswith("_global_")}
    return {name: dict(value) for name, value in held.items() if isinstance(value, dict)}


def _hook(value: dict[str, dict]) -> None:
    for name, before in value.items():
        now = getattr(torch_module, name)
        now.clear()
        now.update(before)


def _filters(value: list) -> None:
    warnings.filters[:] = value  # type: ignore[index]
    getattr(warnings, "_filters_mutated", lambda: None)()  # or what was once decided would stay so


def _cudnn(name: str) -> tuple[Callable[[], object], Callable[[Any], object]]:
    return (lambda: getattr(torch.backends.cudnn, name)), (lambda value: setattr(torch.backends.cudnn, name, value))


def _autocast(device: str) -> tuple[Callable[[], object], Callable[[Any], object]]:
    return (lambda: torch.is_autocast_enabled(device)), (lambda value: torch.set_autocast_enabled(device, value))


SWITCHES: dict[str, tuple[Callable[[], object], Callable[[Any], object]]] = {
    "torch's grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, _device),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's deterministic algorithms": (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    "torch's anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "torch's float32 matmul precision": (_products, _multiply),
    "torch.backends.cudnn.benchmark": _cudnn("benchmark"),
    "torch.backends.cudnn.deterministic": _cudnn("deterministic"),
    "torch.backends.cudnn.enabled": _cudnn("enabled"),
    "autocast on the CPU": _autocast("cpu"),
    "autocast on a GPU": _autocast("cuda"),
    "hooks on all modules": (_hooks, _hook),
    "numpy's error handling": (np.geterr, lambda value: np.seterr(**value)),
    "the filters of warnings": (lambda: list(warnings.filters), _filters),
    "logging.disable": (lambda: logging.root.manager.disable, logging.disable),
    "the working directory": (os.getcwd, os.chdir),
    "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
}


@contextmanager
def switches() -> Iterator[list[str]]:
    """What the whole process shares is put back; yields a list that names what had to be."""
    before = {name: read() for name, (read, _) in SWITCHES.items()}
    changed: list[str] = []
    try:
        yield changed
    finally:
        for name, (read, write) in SWITCHES.items():
            if read() != before[name]:
                changed.append(name)
                write(before[name])

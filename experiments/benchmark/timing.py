"""Seconds, bytes and multiply-adds: how the benchmark measures."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from wallcheck.models import BlindNet

Work = Callable[[], object]

Clock = Callable[[], float]

# The time that passes; the time that the threads of this process are given, which others on the machine do not lengthen.
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}
LONG = 20  # seconds of a round; lazy imports and thread pools take one or two


class Ratio(NamedTuple):
    """Median of the rounds' ratios, the smallest and the largest."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_short(self.middle)} ({_short(self.low)}-{_short(self.high)})"


def alternate(
    works: Sequence[Work],
    rounds: int,
    seconds: float,
    device: torch.device,
    clock: Clock = time.perf_counter,
    ready: Work = lambda: None,
) -> list[list[float]]:
    """Seconds of each work in each round; in a round all works run, in turn forwards and backwards. ready: run before each, and not
    counted.

    A first round warms up and is dropped, unless it takes so long that what is set up once is nothing beside it. Of more
    than one as many are kept in each order. No round is begun that would not end within `seconds`; at least one is kept.
    """
    took: list[list[float]] = [[] for _ in works]
    start, order = clock(), list(range(len(works)))
    for number in range(rounds + 1):
        for n in order if number % 2 == 0 else reversed(order):
            ready()
            took[n].append(seconds_of(works[n], device, clock))
        spent = clock() - start
        if spent * (number + 2) / (number + 1) > seconds:
            break
    warm = sum(times[0] for times in took) > LONG
    first = 0 if warm or len(took[0]) == 1 else 1
    if len(took[0]) - first > 1:  # as many rounds in one order as in the other: who comes after whom tells in the time
        first += (len(took[0]) - first) % 2
    return [times[first:] for times in took]


def seconds_of(work: Work, device: torch.device, clock: Clock = time.perf_counter) -> float:
    settle(device)
    start = clock()
    work()
    settle(device)
    return clock() - start


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ratio(top: Sequence[float], bottom: Sequence[float]) -> Ratio:
    """Of two works measured in the same rounds."""
    each = [t / b for t, b in zip(top, bottom, strict=True)]
    return Ratio(median(each), min(each), max(each))


def matrix_rate(device: torch.device, clock: Clock = time.perf_counter, size: int = 2048, repeats: int = 10) -> float:
    """Float32 operations per second: the best of a size x size matrix product and a large 3 x 3 convolution.

    Both, since they come from different libraries: MKL's product does without AVX-512 on an AMD core, where
    oneDNN's convolution is 2.3 times as fast.
    """
    channels, side = size // 8, size // 32
    one, layer = torch.ones(size, size, device=device), torch.nn.Conv2d(channels, channels, 3, padding=1).to(device)
    images = torch.ones(1, channels, side, side, device=device).contiguous(memory_format=torch.channels_last)
    works = {lambda: one @ one: 2 * size**3, lambda: layer(images): 18 * channels**2 * side**2}
    with torch.no_grad():
        return max(
            count / min(seconds_of(work, device, clock) for _ in range(repeats + 1)) for work, count in works.items()
        )


def operations(net: BlindNet, images: torch.Tensor) -> int:
    """Floating-point operations (two per multiply-add) of one image's way to the target layer."""
    features = net.graph.features  # made outside: tracing counts too
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        features(images[:1])
    return counter.get_total_flops()


# -- memory ---------------------------------------------------------------------------------------


def peak_mb(work: Work, device: torch.device) -> float:
    """MiB that a work needs at most above what is held before it.

    On a CPU the process's peak is asked, so call it in a process that has done little else: see `peak_apart`.
    Where the peak cannot be set back, what loading took at its own counts too: the figure is never too small.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - held) / 2**20
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    held = resident_mb("VmRSS")
    work()
    return resident_mb("VmHWM") - held


def peak_apart(module: str, **about) -> dict:
    """What `python -m module '{...}'` prints as JSON: a measurement in a process of its own."""
    done = subprocess.run([sys.executable, "-m", module, json.dumps(about)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring memory of {about} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])


def resident_mb(line: str) -> float:
    """MiB this process holds: VmRSS now, VmHWM at its peak (which is all that systems other than Linux tell)."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(int(text.split()[1]) for text in lines if text.startswith(line)) / 2**10
    units = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss: bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"

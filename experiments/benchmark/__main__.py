"""Time and memory of wallcheck's methods beside pytorch-grad-cam, torchcam and captum.

    python -m experiments.benchmark                          both networks, CPU and GPU if there is one; an hour on two cores
    python -m experiments.benchmark --nets vgg_small --rounds 9
    python -m experiments.benchmark --minutes 10             begin nothing more after ten minutes; the same command goes on
    python -m experiments.benchmark --threads 1 --clock processor    on a machine that others use too
    python -m experiments.benchmark --nets vgg16_walls --only suite scorecam      measure these again, keep the rest
    python -m experiments.benchmark --full                   methods that rescore every channel on all images, and
                                                             whole where memory is measured; many hours

One process, the same net, images and threads, float32 multiplied alike (--precisions); every pair runs in turn, in both orders, and
the ratio is taken within each round. Each time includes all work from the image on. Maps are compared in the same run. Memory of a
CPU is measured in processes of their own.

Each pair is kept as soon as it is measured, in benchmark.jsonl in --out; started again, only what is missing is measured, or was
with fewer rounds or seconds. Numbers of another machine, other versions or settings are kept beside and never mixed. However it
ends, by Ctrl-C and SIGTERM too, benchmark.md tells what there is and what is missing; benchmark.png and .pdf show it.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial as bound
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.markdown import Markdown

from experiments import flags
from experiments.benchmark import pages
from experiments.benchmark.duels import Setting, duel, lift_duel, pairs, suite_duels
from experiments.benchmark.kept import FILE, Found, Kept, Measured, Terms, processor
from experiments.benchmark.peak import images_of, work_of
from experiments.benchmark.timing import CLOCKS, matrix_rate, operations, peak_apart, peak_mb
from experiments.disagreements.cases import drawn
from experiments.disagreements.comparisons import PACKAGES
from wallcheck import models
from wallcheck.graph import PRECISIONS
from wallcheck.models import BlindNet
from wallcheck.results import versions
from wallcheck.tables import progress_bar
from wallcheck.writing import beside, sweep, write_text

Tell = Callable[[int, int, str], None]
ALONE = ("cheap suite", "pytorch_grad_cam.GradCAM", "liftcam", "ablationcam")
KIN = ("scorecam", "scorecam_torchcam", "sscam", "iscam", "gscorecam", "groupcam", "clustercam", "polycam", "opticam")


@dataclass(frozen=True)
class Benchmark:
    """Time and memory beside other libraries.

    Args:
        nets: presets to measure on, with drawn weights.
        devices: cpu, cuda; those there are if none is given.
        batch: images at once.
        rounds: of each comparison, at most; half of them in the other order.
        seconds: of each comparison, after which no further round is begun.
        minutes: of the whole, after which no further comparison is begun; no limit if 0.
        threads: of torch and of the libraries below numpy and SciPy; their own choice if 0.
        clock: wall, or processor, the time that this process is given, which others on the machine do not lengthen; a GPU has wall.
        budget_mb: memory that one chunk may take; what the device suggests if not given.
        precisions: exact, full float32 for all; fast, TF32 for all and bfloat16 in our rescoring; on a GPU both if none is given, on a
            CPU exact.
        memory: measure memory too.
        full: run methods that rescore every channel on all images and whole, which takes hours.
        only: works to measure again, "suite", "lift" or names of methods; all others stay as they are.
        redraw: measure nothing; draw page and bars of what `out` holds anew.
        out: folder of the results; started again on it, what is missing is measured.
    """

    nets: list[str] = field(default_factory=lambda: ["vgg_small", "vgg16_walls"])
    devices: list[str] = field(default_factory=list)
    batch: int = 8
    rounds: int = 6
    seconds: float = 240
    minutes: float = 0
    threads: int = 0
    clock: str = "wall"
    budget_mb: float | None = None
    precisions: list[str] = field(default_factory=list)
    memory: bool = True
    full: bool = False
    only: list[str] = field(default_factory=list)
    redraw: bool = False
    out: str = "runs/benchmark"


class Work(NamedTuple):
    """what: its name in the file; of: what --only calls it; run: gives fields of `Found`."""

    what: str
    of: str
    run: Callable[[Setting], dict]


class Section(NamedTuple):
    """A net, already made, on a device in a precision, and all works there are."""

    name: str
    net: BlindNet
    device: str
    precision: str
    works: list[Work]


def main(options: Benchmark) -> None:
    out = Path(options.out)
    if options.redraw:
        if not (out / FILE).is_file():
            raise FileNotFoundError(f"{out} holds no {FILE} to draw; leave out --redraw first")
        return draw(out, Kept(out))
    if options.clock not in CLOCKS:
        raise ValueError(f"--clock is {options.clock!r}; give one of {', '.join(CLOCKS)}")
    if options.threads:
        only_threads(options.threads)
    out.mkdir(parents=True, exist_ok=True)
    sweep(out)
    kept, sections = Kept(out), list(sections_of(options))
    with ended_softly(), progress_bar() as tell:
        try:
            measure(sections, kept, options, tell)
        finally:
            if kept.shown:
                draw(out, kept)
    page = (out / "benchmark.md").read_text(encoding="utf-8")
    Console(width=None if sys.stdout.isatty() else 140).print(Markdown(page))


def only_threads(count: int) -> None:
    """So many threads in torch and in the libraries that numpy and SciPy compute with, which peers use: threads of theirs that wait
    for each other are busy."""
    import scipy.linalg  # noqa: F401  so that its library is there to be told
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(count)
    threadpool_limits(limits=count)


@contextmanager
def ended_softly() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what there is gets its page."""

    def end(*_) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # others are sent no signal
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def sections_of(options: Benchmark) -> Iterator[Section]:
    """Raises ValueError for a work in --only that no section has."""
    nets = {name: drawn(models.PRESETS[name]()) for name in options.nets}
    works = {name: works_of(name, net, options) for name, net in nets.items()}
    known = dict.fromkeys(work.of for each in works.values() for work in each)
    if strange := [name for name in options.only if name not in known]:
        raise ValueError(f"--only {strange[0]} is no work of this benchmark; it has {', '.join(known)}")
    for device in options.devices or ["cpu"] + ["cuda"] * torch.cuda.is_available():
        precisions = options.precisions or PRECISIONS[: 2 if device == "cuda" else 1]
        for name, net in nets.items():
            for precision in precisions:
                timed = [work for work in works[name] if precision == "exact" or not work.what.startswith("memory")]
                yield Section(name, net, device, precision, timed)


def works_of(name: str, net: BlindNet, options: Benchmark) -> list[Work]:
    """The suite, LIFT-CAM, each method against each library that has it, then memory."""
    works = [
        Work("suite", "suite", lambda setting: dict(duels=suite_duels(setting))),
        Work("lift", "lift", lambda setting: dict(duels=lift_duel(setting))),
    ]
    for pair in pairs(net):
        beside = f"{pair.ours} beside {pair.library}.{pair.explainer}"
        works.append(Work(beside, pair.ours, lambda setting, pair=pair: dict(duels=[duel(pair, setting)])))
    for what in ALONE + KIN if options.memory else ():
        run = bound(memory_of, name, what, options)
        works.append(
            Work(f"memory of {what}", what.removeprefix("cheap "), lambda setting, run=run: dict(mb=run(setting)))
        )
    return works


def memory_of(name: str, what: str, options: Benchmark, setting: Setting) -> float:
    """MiB above the loaded model of a piece of work, at the benchmark's batch."""
    about = dict(brief=what in KIN and not options.full)
    if setting.device.type != "cpu":
        return peak_mb(work_of(what, setting, **about), setting.device)
    settings = dict(batch=options.batch, budget_mb=options.budget_mb, threads=options.threads)
    return peak_apart("experiments.benchmark.peak", net=name, what=what, **settings, **about)["mb"]


def measure(sections: Sequence[Section], kept: Kept, options: Benchmark, tell: Tell) -> None:
    """What is not kept yet, and what --only names; the bar counts pairs and other works of all sections."""
    start, done, total = time.monotonic(), 0, sum(len(section.works) for section in sections)
    for one in sections:
        setting, section = begun(one, kept, options)
        todo = [work for work in one.works if wanted(work, section, options)]
        done += len(one.works) - len(todo)
        for work in todo:
            if 0 < options.minutes * 60 <= time.monotonic() - start:
                return
            tell(done, total, f"{one.name}, {one.device}, {one.precision}: {work.what}")
            found = work.run(setting)
            kept.keep(section, work.what, Found(options.rounds, options.seconds, os.getloadavg()[0], **found))
            write_text(Path(options.out) / "benchmark.md", pages.markdown(kept))
            done += 1
        tell(done, total, f"{one.name}, {one.device}, {one.precision}")


def begun(one: Section, kept: Kept, options: Benchmark) -> tuple[Setting, Measured]:
    """How to measure in a section, and what is kept of it."""
    net = one.net.to(one.device)
    clock = options.clock if one.device == "cpu" else "wall"
    about = options.rounds, options.seconds, options.budget_mb, options.full, one.precision, clock
    setting = Setting(net, images_of(net, options.batch), *about)
    terms = Terms(
        net=one.name,
        device=one.device,
        precision=one.precision,
        batch=options.batch,
        threads=torch.get_num_threads(),
        clock=clock,
        budget_mb=options.budget_mb,
        full=options.full,
        machine=processor(),
        gpu=torch.cuda.get_device_name() if one.device == "cuda" else None,
        versions=versions() | {package: version(package) for package in PACKAGES.values()},
    )

    def pace() -> tuple[float, int]:
        return matrix_rate(setting.device, CLOCKS[clock]), operations(net, setting.images)

    return setting, kept.begin(terms, [work.what for work in one.works], setting.alike(pace))


def wanted(work: Work, section: Measured, options: Benchmark) -> bool:
    if options.only:
        return work.of in options.only
    return work.what not in section.found or not section.found[work.what].serves(options.rounds, options.seconds)


def draw(out: Path, kept: Kept) -> None:
    """Page and bars of what is kept."""
    write_text(out / "benchmark.md", pages.markdown(kept))
    if (figure := pages.chart(kept.shown)) is not None:
        for kind in ("png", "pdf"):
            with beside(out / f"benchmark.{kind}") as partial:
                figure.savefig(partial, format=kind, dpi=200)


if __name__ == "__main__":
    flags.script("experiments.benchmark", main, Benchmark)

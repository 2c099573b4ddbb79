"""Time and memory of wallcheck's methods beside pytorch-grad-cam, torchcam and captum.

    python -m experiments.benchmark                          both networks, CPU and GPU if there is one; an hour on two cores
    python -m experiments.benchmark --nets vgg_small --rounds 9
    python -m experiments.benchmark --nets vgg16_walls --only suite scorecam      measure these again, keep the rest
    python -m experiments.benchmark --full                   methods that rescore every channel on all images, and
                                                             whole where memory is measured; many hours

One process, the same net, images and threads, float32 multiplied alike (--precisions); every pair runs in turn, in both orders, and the ratio is taken within each round.
Each time includes all work from the image on. Maps are compared in the same run. Memory of a CPU is measured in
processes of their own. Leaves benchmark.json, benchmark.md, benchmark.png and benchmark.pdf in --out.
"""

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from rich.markdown import Markdown

from experiments import flags
from experiments.benchmark import pages
from experiments.benchmark.duels import Duel, Setting, duel, lift_duel, pairs, suite_duels
from experiments.benchmark.measured import Measured
from experiments.benchmark.peak import images_of, work_of
from experiments.benchmark.timing import matrix_rate, operations, peak_apart, peak_mb
from experiments.disagreements.cases import drawn
from experiments.disagreements.comparisons import PACKAGES
from wallcheck import models
from wallcheck.graph import PRECISIONS
from wallcheck.results import versions
from wallcheck.tables import progress_bar
from wallcheck.writing import write_text

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
        rounds: of each comparison, at most.
        seconds: of each comparison, after which no further round is begun.
        threads: of torch; its own choice if 0.
        budget_mb: memory that one chunk may take; what the device suggests if not given.
        precisions: exact, full float32 for all; fast, TF32 for all and bfloat16 in our rescoring; on a GPU both if none is given, on a
            CPU exact.
        memory: measure memory too.
        full: run methods that rescore every channel on all images and whole, which takes hours.
        only: works to measure again, "suite", "lift" or names of methods; the others are kept from the benchmark.json in `out`.
        redraw: measure nothing; draw page and bars of the benchmark.json in `out` anew.
        out: folder of the results.
    """

    nets: list[str] = field(default_factory=lambda: ["vgg_small", "vgg16_walls"])
    devices: list[str] = field(default_factory=list)
    batch: int = 8
    rounds: int = 5
    seconds: float = 240
    threads: int = 0
    budget_mb: float | None = None
    precisions: list[str] = field(default_factory=list)
    memory: bool = True
    full: bool = False
    only: list[str] = field(default_factory=list)
    redraw: bool = False
    out: str = "runs/benchmark"


def measure(
    name: str, device: str, precision: str, options: Benchmark, tell: Tell, before: Measured | None = None
) -> Measured:
    """before: what is kept of it where only some works are asked for."""
    net = drawn(models.PRESETS[name]()).to(device)
    about = options.rounds, options.seconds, options.budget_mb, options.full, precision
    setting = Setting(net, images_of(net, options.batch), *about)
    rate, count = setting.alike(lambda: matrix_rate(setting.device))(), operations(net, setting.images)
    where = f"{name}, {device}, {precision}"
    now = list(duels_of(setting, options.only, lambda done, total, what: tell(done, total, f"{where}: {what}")))
    duels = {(d.name.partition(",")[0], d.against): d for d in [*(before.duels if before else ()), *now]}
    memory = before.memory if before else {}
    if options.memory and precision == "exact":
        memory = memory | dict(memory_of(name, setting, options, tell))
    about = options.batch, torch.get_num_threads(), rate, count
    return Measured(name, device, *about, list(duels.values()), memory, options.budget_mb, precision)


def duels_of(setting: Setting, only: Sequence[str], tell: Tell) -> Iterator[Duel]:
    """The suite, LIFT-CAM, then each method against each library that has it; those in `only`, if it names any."""
    works: list[tuple[str, Callable[[], Sequence[Duel]]]] = [
        ("suite", lambda: suite_duels(setting)),
        ("lift", lambda: lift_duel(setting)),
    ]
    works += [(pair.ours, lambda pair=pair: [duel(pair, setting)]) for pair in pairs(setting.net)]
    works = [(what, work) for what, work in works if not only or what in only]
    for number, (what, work) in enumerate(works):
        tell(number, len(works), what)
        yield from work()


def memory_of(name: str, setting: Setting, options: Benchmark, tell: Tell) -> Iterator[tuple[str, float]]:
    """Name of a piece of work and its MiB above the loaded model, at the benchmark's batch."""
    works = [what for what in ALONE + KIN if not options.only or what.removeprefix("cheap ") in options.only]
    for number, what in enumerate(works):
        tell(number, len(works), f"{name}: memory of {what}")
        about = dict(brief=what in KIN and not options.full)
        if setting.device.type == "cpu":
            settings = dict(batch=options.batch, budget_mb=options.budget_mb, threads=options.threads)
            yield what, peak_apart("experiments.benchmark.peak", net=name, what=what, **settings, **about)["mb"]
        else:
            yield what, peak_mb(work_of(what, setting, **about), setting.device)


def main(options: Benchmark) -> None:
    if options.redraw:
        return draw(Path(options.out), json.loads(Path(options.out, "benchmark.json").read_text()))
    if options.threads:
        torch.set_num_threads(options.threads)
    devices = options.devices or ["cpu"] + ["cuda"] * torch.cuda.is_available()
    asked = [
        (name, device, precision)
        for device in devices
        for name in options.nets
        for precision in options.precisions or PRECISIONS[: 2 if device == "cuda" else 1]
    ]
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    found = kept_in(out) if options.only else {}
    told = replace(options, only=again(out, options.only)) if options.only else options
    with progress_bar() as tell:
        for one in asked:
            found[one] = measure(*one, options, tell, found.get(one))
            write(out, told, list(found.values()))  # what is measured is kept if a later part fails
    Console(width=None if sys.stdout.isatty() else 140).print(Markdown((out / "benchmark.md").read_text()))


def write(out: Path, options: Benchmark, found: list[Measured]) -> None:
    about = dict(
        machine=f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        load=os.getloadavg()[0],
        versions=versions() | {package: version(package) for package in PACKAGES.values()},
        options=asdict(options),
    )
    kept = about | {"measured": [asdict(one) for one in found]}
    write_text(out / "benchmark.json", json.dumps(kept, indent=1) + "\n")
    draw(out, kept)


def kept_in(out: Path) -> dict[tuple[str, str, str], Measured]:
    """(net, device, precision) -> what benchmark.json holds of it."""
    if not (out / "benchmark.json").is_file():
        raise FileNotFoundError(f"{out} holds no benchmark.json to measure works of anew; leave out --only first")
    return {
        (one.net, one.device, one.precision): one
        for one in measured_in(json.loads((out / "benchmark.json").read_text()))
    }


def again(out: Path, only: Sequence[str]) -> list[str]:
    """All works of a benchmark that were measured again, in this run or in one before."""
    return list(dict.fromkeys([*json.loads((out / "benchmark.json").read_text())["options"]["only"], *only]))


def measured_in(kept: dict) -> list[Measured]:
    return [Measured(**one | {"duels": [Duel(**each) for each in one["duels"]]}) for one in kept["measured"]]


def draw(out: Path, kept: dict) -> None:
    """Page and bars of what benchmark.json holds."""
    found = measured_in(kept)
    write_text(out / "benchmark.md", pages.markdown(found, kept))
    for kind in ("png", "pdf"):
        pages.chart(found).savefig(out / f"benchmark.{kind}", dpi=200)


if __name__ == "__main__":
    flags.script("experiments.benchmark", main, Benchmark)

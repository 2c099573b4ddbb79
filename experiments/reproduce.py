"""The whole study in one command: data, training, certificate, audit, theory, figures.

    python -m experiments.reproduce                   five to six minutes on two free cores; `make reproduce` calls it
    python -m experiments.reproduce --out runs/other --seed 1 --train_count 20000 --epochs 10

Leaves one folder: manifest.json, rows/, examples/, leakage.csv (the audit); walled/ and unwalled/ (nets, logs);
theory/; figures/; data/ (image sets); stages.json (seconds of each stage). Started again, it keeps what is
finished and goes on with what is not.
"""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from experiments import flags
from wallcheck.cli import INCOMPLETE
from wallcheck.results import open_rows, writable
from wallcheck.tables import print_leakage
from wallcheck.writing import write_text

CONFIG = "experiments/configs/vgg_small.yaml"
BATCH = 64
SNAPSHOTS = (0, 1, 3, 10, 30, 100, 200, 300, 500, 700, 900)
# glibc hands large buffers back to the system and asks for them again at every step; keeping them saves a
# quarter of a training's processor time. Other systems ignore these.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}


@dataclass(frozen=True)
class Reproduction:
    """The whole study in one command.

    Args:
        out: the run folder.
        seed: of data, weights, order and every draw of the audit.
        train_count: training images.
        val_count: validation images.
        count: images of each audited set.
        epochs: of both trainings.
        quick_theory: the theory's small simulation, as the tests run it.
    """

    out: str = "runs/reproduce"
    seed: int = 0
    train_count: int = 10_000
    val_count: int = 1_000
    count: int = 100
    epochs: int = 6
    quick_theory: bool = False


def main(options: Reproduction) -> int:
    out, console = writable(options.out), Console(stderr=True)
    stages = Stages(out, asdict(options), console)
    counts = {"train-count": options.train_count, "val-count": options.val_count, "count": options.count}
    nets = {"walled": out / "walled/model.safetensors", "unwalled": out / "unwalled/model.safetensors"}
    audited = dict(data=out / "data", count=options.count, seed=options.seed, out=out)
    drawn = dict(run=out, training=[out / "walled", out / "unwalled"], theory=out / "theory", out=out / "figures")

    stages.run("data", lambda: call("data_gen", out=out / "data", seed=options.seed, **counts))
    training = Training(options.seed, options.train_count, options.epochs)
    stages.run("training", lambda: train_both(training, out, console))
    stages.run("audit", lambda: call("experiments.audit", quiet=True, **nets, **audited))
    stages.run(
        "prediction",
        lambda: call(
            "experiments.prediction",
            quiet=True,
            snapshots=out / "walled/snapshots",
            images=out / "data/stack_mix",
            count=options.count,
            out=out,
        ),
    )
    stages.run("theory", lambda: call("theory", out=out / "theory", seed=options.seed, quick=options.quick_theory))
    stages.run("figures", lambda: call("experiments.figures", **drawn))
    rows = open_rows(out)
    print_leakage(rows.select(images=["stack_mix", "stack_gen"]))
    stages.report({name: latest(out / name)[1] for name in ("walled", "unwalled")})
    return INCOMPLETE if rows.failures else 0


class Stages:
    """Runs each stage once: a finished one, of the same settings, is kept when the command is given again.

    Raises FileExistsError for a folder with other settings, or with a net that was trained by hand: neither is lost.
    """

    def __init__(self, out: Path, settings: dict, console: Console):
        self.path, self.settings, self.console = out / "stages.json", settings, console
        kept = self._read()
        if kept and kept["settings"] != settings:
            raise FileExistsError(f"{out} holds a study with other settings {kept['settings']}; choose another --out")
        for name in ("walled", "unwalled"):
            if not kept and any((out / name / left).exists() for left in ("model.safetensors", "checkpoints")):
                raise FileExistsError(f"{out / name} holds a net that this command did not train; choose another --out")
        self.seconds: dict[str, float] = kept.get("seconds", {})
        self._keep()

    def _read(self) -> dict:
        try:
            return json.loads(self.path.read_text()) if self.path.is_file() else {}
        except ValueError as error:
            raise ValueError(f"{self.path} is damaged ({error}); choose another --out or remove that folder") from None

    def _keep(self) -> None:
        write_text(self.path, json.dumps({"settings": self.settings, "seconds": self.seconds}, indent=1) + "\n")

    def run(self, name: str, work: Callable[[], int | None]) -> None:
        """A stage that returns a status other than 0 is not finished, but does not stop what follows."""
        if name in self.seconds:
            self.console.print(f"[bold]{name}[/bold]: kept from before ({self.seconds[name]:.0f} s)")
            return
        self.console.print(f"[bold]{name}[/bold]")
        start = time.perf_counter()
        if not work():
            self.seconds[name] = time.perf_counter() - start
            self._keep()

    def report(self, accuracies: dict[str, float | None]) -> None:
        table = Table(title="stages", title_justify="left")
        table.add_column("stage")
        table.add_column("seconds", justify="right")
        for name, seconds in self.seconds.items():
            table.add_row(name, f"{seconds:.0f}")
        table.add_row("all", f"{sum(self.seconds.values()):.0f}")
        Console().print(table)
        for name, accuracy in accuracies.items():
            print(f"validation accuracy, {name}: {'not measured' if accuracy is None else f'{accuracy:.1%}'}")
        print(f"the run folder is {self.path.parent}")


def call(module: str, quiet: bool = False, **flags: object) -> int:
    """Run a module of this repository with its own progress bar; raises RuntimeError if it fails.

    Returns 0, or INCOMPLETE where some method gave no map for some images: all else can go on.

    A list becomes several values, True a bare flag, False none.
    """
    command = [sys.executable, "-m", module]
    for name, value in flags.items():
        if value is not False:
            values = value if isinstance(value, list) else [] if value is True else [value]
            command += [f"--{name}", *map(str, values)]
    output = subprocess.DEVNULL if quiet else None
    status = subprocess.run(command, env={**os.environ, **KEEP_MEMORY}, stdout=output).returncode
    if status not in (0, INCOMPLETE):
        raise RuntimeError(
            f"python -m {module} failed; its message is above. Started again, this command goes on there"
        )
    return status


@dataclass(frozen=True)
class Training:
    """A training by a configuration: seed of weights and order, images of the training set, epochs, snapshots of the walled net
    at these steps."""

    seed: int
    train_count: int
    epochs: int
    config: str = CONFIG
    snapshots: tuple[int, ...] = SNAPSHOTS


def train_both(options: Training, out: Path, console: Console, data: Path | None = None) -> None:
    """Both nets at once, each on half of the cores: small batches of small images do not fill two of them.

    data: where the image sets are; out/data if None.
    """
    threads = str(max(1, (os.cpu_count() or 2) // 2))
    data = data or out / "data"
    running = {name: start_training(options, out, name, threads, data) for name in ("walled", "unwalled")}
    steps = options.epochs * (options.train_count // BATCH)
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}")
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            tasks = {name: bar.add_task(f"training {name}", total=steps, note="") for name in running}
            while any(process.poll() is None for process in running.values()):
                time.sleep(1)
                for name, task in tasks.items():
                    step, accuracy = latest(out / name)
                    bar.update(task, completed=step, note=f"validation accuracy {accuracy:.1%}" if accuracy else "")
    finally:
        for process in running.values():
            process.terminate()
    for name, process in running.items():
        if process.returncode:
            log = (out / name / "log.txt").read_text()
            raise RuntimeError(f"training {name} failed; the end of {out / name / 'log.txt'}:\n{log[-2000:]}")


def start_training(options: Training, out: Path, name: str, threads: str, data: Path) -> subprocess.Popen:
    """One training as a process that writes its own log; it goes on from its last checkpoint if there is one."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "checkpoints" / "last.ckpt"
    command = [
        sys.executable,
        "-m",
        "experiments.train",
        "fit",
        "--config",
        options.config,
        "--out",
        folder,
        "--data.folder",
        data,
        "--data.batch_size",
        BATCH,
        "--data.seed",
        options.seed,
        "--model.seed",
        options.seed,
        "--model.walled",
        str(name == "walled").lower(),
        "--seed_everything",
        options.seed,
        "--trainer.max_epochs",
        options.epochs,
    ]
    if name == "walled":
        command += ["--snapshots", json.dumps(options.snapshots)]
    if last.is_file():
        command += ["--ckpt_path", last]
    with (folder / "log.txt").open("w") as log:
        return subprocess.Popen(
            list(map(str, command)),
            stdout=log,
            stderr=log,
            env={**os.environ, **KEEP_MEMORY, "OMP_NUM_THREADS": threads},
        )


def latest(folder: Path) -> tuple[int, float | None]:
    """(last logged step, last validation accuracy or None) of a training under way."""
    if not (folder / "metrics.csv").is_file():
        return 0, None
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    accuracies = [float(row["val_accuracy"]) for row in rows if row.get("val_accuracy")]
    steps = [int(row["step"]) for row in rows if (row.get("step") or "").isdigit()]
    return max(steps, default=0), accuracies[-1] if accuracies else None


if __name__ == "__main__":
    flags.script("experiments.reproduce", main, Reproduction)

"""A walled net and its twin without a wall, trained at once, each by a process of its own."""

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.stages import Job, at_once, command_of

CONFIG = "experiments/configs/vgg_small.yaml"
TWINS = ("walled", "unwalled")
BATCH = 64
SNAPSHOTS = (0, 1, 3, 10, 30, 100, 200, 300, 500, 700, 900)


@dataclass(frozen=True)
class Training:
    """A training by a configuration: seed of weights and order, images of the training set, epochs, snapshots of the walled net
    at these steps, and more flags of python -m experiments.train, such as the device's. together: both nets at once, for which the
    memory must do."""

    seed: int
    train_count: int
    epochs: int
    config: str = CONFIG
    snapshots: tuple[int, ...] = SNAPSHOTS
    more: tuple[tuple[str, object], ...] = ()
    together: bool = True

    @property
    def steps(self) -> int:
        return self.epochs * (self.train_count // BATCH)


def train_both(
    options: Training, out: Path, console: Console, data: Path | None = None, beside: dict[str, Job] | None = None
) -> int:
    """Both nets at once, each on half of the cores: small batches of small images do not fill two of them, nor one net a GPU. One
    after the other on all cores where options.together says no.

    data: where the image sets are; out/data if None. beside: more jobs; those that come after "training walled", which looks at less
    of each image and is done sooner, use the core that it leaves. A net that is there is not trained again. Returns as `at_once`.
    """
    threads = str(max(1, (os.cpu_count() or 2) // (2 if options.together else 1)))
    jobs = {
        f"training {name}": Job(
            training_of(options, out / name, data or out / "data"),
            out / name / "log.txt",
            {"OMP_NUM_THREADS": threads},
        )
        for name in TWINS
        if not (out / name / "model.safetensors").is_file()
    }
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}")
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks = {name: bar.add_task(f"training {name}", total=options.steps, note="") for name in TWINS}

        def watch() -> None:
            for name, task in tasks.items():
                step, accuracy = latest(out / name)
                bar.update(task, completed=step, note=f"validation accuracy {accuracy:.1%}" if accuracy else "")

        jobs |= beside or {}
        return max(at_once(some, watch) for some in ([jobs] if options.together else apart(jobs)))


def apart(jobs: dict[str, Job]) -> list[dict[str, Job]]:
    """Each by itself."""
    return [{name: job} for name, job in jobs.items()] or [{}]


def training_of(options: Training, folder: Path, data: Path) -> list[str]:
    """The command that trains the net of this folder's name; it goes on from its last checkpoint if there is one."""
    walled, last = folder.name == "walled", folder / "checkpoints" / "last.ckpt"
    flags = {
        "config": options.config,
        "out": folder,
        "data.folder": data,
        "data.batch_size": BATCH,
        "data.seed": options.seed,
        "model.seed": options.seed,
        "model.walled": str(walled).lower(),
        "seed_everything": options.seed,
        "trainer.max_epochs": options.epochs,
        "snapshots": json.dumps(options.snapshots) if walled and options.snapshots else None,
        "ckpt_path": last if last.is_file() else None,
    }
    command = command_of("experiments.train", **flags, **dict(options.more))
    return [*command[:3], "fit", *command[3:]]


def latest(folder: Path) -> tuple[int, float | None]:
    """(last logged step, last validation accuracy or None) of a training under way."""
    if not (folder / "metrics.csv").is_file():
        return 0, None
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    accuracies = [float(row["val_accuracy"]) for row in rows if row.get("val_accuracy")]
    steps = [int(row["step"]) for row in rows if (row.get("step") or "").isdigit()]
    return max(steps, default=0), accuracies[-1] if accuracies else None

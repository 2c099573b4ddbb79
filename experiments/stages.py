"""The stages of a study in one folder: each is run once, timed and kept; what each calls is a command of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from wallcheck.cli import INCOMPLETE
from wallcheck.writing import write_text

# glibc hands large buffers back to the system and asks for them again at every step; keeping them saves a
# quarter of a training's processor time. Other systems ignore these.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}
# OpenMP's threads wait for each other busily: beside other work an audit of 20 images took 6 to 29 processor seconds in place of 1.4.
WAIT_ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}
GRACE = 10  # seconds


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
        self.processor: dict[str, float] = kept.get("processor", {})
        self.unfinished: dict[str, float] = {}
        self._keep()

    def _read(self) -> dict:
        try:
            return json.loads(self.path.read_text()) if self.path.is_file() else {}
        except ValueError as error:
            raise ValueError(f"{self.path} is damaged ({error}); choose another --out or remove that folder") from None

    def _keep(self) -> None:
        kept = {"settings": self.settings, "seconds": self.seconds, "processor": self.processor}
        write_text(self.path, json.dumps(kept, indent=1) + "\n")

    def run(self, name: str, work: Callable[[], int | None]) -> None:
        """A stage that returns a status other than 0 is not finished and is tried again next time, but does not stop what follows."""
        if name in self.seconds:
            self.console.print(f"[bold]{name}[/bold]: kept from before ({self.seconds[name]:.0f} s)")
            return
        self.console.print(f"[bold]{name}[/bold]")
        start, before = time.perf_counter(), processor_seconds()
        status = work()
        (self.unfinished if status else self.seconds)[name] = time.perf_counter() - start
        self.processor[name] = processor_seconds() - before
        self._keep()

    @property
    def spent(self) -> dict[str, float]:
        """Seconds of every stage, those that miss something too."""
        return self.seconds | self.unfinished

    def report(self, accuracies: dict[str, float | None]) -> None:
        table = Table(title="stages", title_justify="left")
        table.add_column("stage")
        table.add_column("seconds", justify="right")
        table.add_column("processor seconds", justify="right")
        for name, seconds in self.spent.items():
            row = name + " (not whole)" * (name in self.unfinished)
            table.add_row(row, f"{seconds:.0f}", f"{self.processor.get(name, 0):.0f}")
        table.add_row("all", f"{sum(self.spent.values()):.0f}", f"{sum(self.processor.values()):.0f}")
        Console().print(table)
        for name, accuracy in accuracies.items():
            print(f"validation accuracy, {name}: {'not measured' if accuracy is None else f'{accuracy:.1%}'}")
        print(f"the run folder is {self.path.parent}")


def processor_seconds() -> float:
    """Of this process and of its children that have ended: what a busy machine does not change."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def call(module: str, quiet: bool = False, **flags: object) -> int:
    """Run a module of this repository with its own progress bar; raises RuntimeError if it fails.

    Returns 0, or INCOMPLETE where some method gave no map for some images: all else can go on. flags: see `command_of`.
    """
    output = subprocess.DEVNULL if quiet else None
    status = subprocess.run(command_of(module, **flags), env=environment(), stdout=output).returncode
    if status not in (0, INCOMPLETE):
        raise RuntimeError(
            f"python -m {module} failed; its message is above. Started again, this command goes on there"
        )
    return status


def environment() -> dict[str, str]:
    """What a stage runs in: the caller's, which may choose how threads wait."""
    return {**WAIT_ASLEEP, **os.environ, **KEEP_MEMORY}


def command_of(module: str, **flags: object) -> list[str]:
    """What runs a module with flags: a list becomes several values, True a bare flag, False and None no flag at all.

    >>> command_of("experiments.audit", count=2, sets=["stack_mix", "stack_gen"], all_methods=True, unwalled=None)[1:]
    ['-m', 'experiments.audit', '--count', '2', '--sets', 'stack_mix', 'stack_gen', '--all_methods']
    """
    command = [sys.executable, "-m", module]
    for name, value in flags.items():
        if value is not False and value is not None:
            values = value if isinstance(value, (list, tuple)) else [] if value is True else [value]
            command += [f"--{name}", *map(str, values)]
    return command


@dataclass(frozen=True)
class Job:
    """A command that runs beside others: what it prints goes to a log of its own. after: the name of a job that
    must have ended, if it is among them."""

    command: list[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    after: str | None = None


def at_once(jobs: dict[str, Job], watch: Callable[[], None] = lambda: None) -> int:
    """Run all jobs, each as soon as it may; 0, or INCOMPLETE if one of them ended so.

    `watch` is called about twice a second. If one fails the others are ended, and RuntimeError tells the end of its log.
    """
    running: dict[str, subprocess.Popen] = {}
    try:
        while True:
            ended = {name: process.returncode for name, process in running.items() if process.poll() is not None}
            if failed := [name for name, status in ended.items() if status not in (0, INCOMPLETE)]:
                log = jobs[failed[0]].log
                end = log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise RuntimeError(f"{failed[0]} failed; the end of {log}:\n{end}")
            if len(ended) == len(jobs):
                return max(ended.values(), default=0)
            for name, job in jobs.items():
                if name not in running and (job.after not in jobs or job.after in ended):
                    running[name] = _started(job)
            time.sleep(0.5)
            watch()
    finally:
        _end(running.values())


def _started(job: Job) -> subprocess.Popen:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("w") as log:
        return subprocess.Popen(job.command, stdout=log, stderr=log, env=environment() | job.environment)


def _end(processes: Iterable[subprocess.Popen]) -> None:
    """Ask them to end, and do not wait for long: Lightning goes on to the end of its batch."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

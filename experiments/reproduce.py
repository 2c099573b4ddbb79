"""The whole study in one command: data, training, certificate, audit, theory, figures.

    python -m experiments.reproduce                   five minutes on two free cores; `make reproduce` calls it
    python -m experiments.reproduce --out runs/other --seed 1 --train_count 20000 --epochs 10
    python -m experiments.reproduce --preset vgg16_walls              the paper's network, on a GPU: `make reproduce-paper`
    python -m experiments.reproduce --preset vgg16_walls --train_count 8000 --count 50      half of it
    python -m experiments.reproduce --preset vgg16_walls --train_count 64 --val_count 64 --epochs 1 --count 1   its path on a CPU

Leaves one folder. vgg_small: manifest.json, rows/, examples/, leakage.csv (the audit); walled/ and unwalled/ (nets, logs);
theory/; figures/; report.html; data/ (image sets); stages.json (seconds of each stage). vgg16_walls: paper/, every/, costly/, tenfold/
(audits), walled/, unwalled/, figures/, data/, stages.json and page/ (what came out, with figures and manifest, beside the value that the
paper gives). Started again, it keeps what is finished and goes on with what is not.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from experiments import flags, paper
from experiments.presets import Preset, defaults, device_for, preset_of
from experiments.stages import Job, Stages, call, command_of
from experiments.study import settings_of
from experiments.twins import TWINS, Training, latest, train_both
from wallcheck import models, report
from wallcheck.cli import INCOMPLETE
from wallcheck.results import open_rows, writable
from wallcheck.tables import print_leakage

SHOWN = ["stack_mix", "stack_gen"]


@dataclass(frozen=True)
class Reproduction:
    """The whole study in one command.

    Args:
        preset: vgg_small, or vgg16_walls, the paper's network.
        out: the run folder; runs/reproduce, or runs/vgg16_walls, if not given.
        seed: of data, weights, order and every draw of the audit.
        train_count: training images; 10,000, or 16,000, if not given.
        val_count: validation images; 1,000 if not given.
        count: images of each audited set; 100 if not given.
        epochs: of both trainings; 6, or 8, if not given.
        quick_theory: the theory's small simulation, as the tests run it; of vgg_small.
        accelerator: cpu, gpu, or auto for what the preset wants: vgg_small a CPU, vgg16_walls a GPU.
        docs: where the page of vgg16_walls goes beside OUT/page, such as docs/results; nowhere else if not given.
    """

    preset: str = "vgg_small"
    out: str | None = None
    seed: int = 0
    train_count: int | None = None
    val_count: int | None = None
    count: int | None = None
    epochs: int | None = None
    quick_theory: bool = False
    accelerator: str = "auto"
    docs: str | None = None


def main(given: Reproduction) -> int:
    preset = preset_of(given.preset)
    chosen = {name: value for name, value in defaults(preset).items() if getattr(given, name) is None}
    options = replace(given, **chosen)
    device = device_for(preset, options.accelerator, options.train_count * options.epochs, options.count)
    # The device is no setting: a study that was begun on one may go on on another.
    settings = {name: value for name, value in settings_of(options).items() if name != "accelerator"}
    out, console = writable(options.out), Console(stderr=True)
    stages = Stages(out, settings, console)
    counts = {"train-count": options.train_count, "val-count": options.val_count, "count": options.count}
    drawn = {"size": preset.size, "wall-row": preset.wall_row, "sets": preset.sets or None}
    stages.run("data", lambda: call("data_gen", out=out / "data", seed=options.seed, **counts, **drawn))
    training = training_for(preset, options, device)
    beside = beside_training(options, out) if options.preset == "vgg_small" else {}
    stages.run(", ".join(["training", *beside]), lambda: train_both(training, out, console, beside=beside))
    status = {"vgg_small": small_net, "vgg16_walls": paper_net}[options.preset](options, out, stages, device)
    stages.report({name: latest(out / name)[1] for name in TWINS})
    return status


def training_for(preset: Preset, options: Reproduction, device: str) -> Training:
    """On a GPU convolutions run in bfloat16. The paper's network: a checkpoint is 1.2 GB, so one in four epochs has to do, and
    two trainings in float32 take 10 GB each, so a CPU does one after the other."""
    precision = "bf16-mixed" if device == "gpu" else "32-true"
    more = {"trainer.accelerator": device, "trainer.devices": 1, "trainer.precision": precision}
    if preset.wants_gpu:
        return Training(
            options.seed,
            options.train_count,
            options.epochs,
            preset.config,
            snapshots=(),
            more=tuple({**more, "checkpoint_every": 4}.items()),
            together=device == "gpu",
        )
    return Training(options.seed, options.train_count, options.epochs, preset.config, more=tuple(more.items()))


def beside_training(options: Reproduction, out: Path) -> dict[str, Job]:
    """What needs no audit: it runs on the core that the walled net's training leaves before its twin's is done."""
    predicted = dict(snapshots=out / "walled/snapshots", images=out / "data/stack_mix", count=options.count, out=out)
    proved = dict(out=out / "theory", seed=options.seed, quick=options.quick_theory)
    one = {"OMP_NUM_THREADS": "1"}
    prediction = Job(
        command_of("experiments.prediction", **predicted), out / "logs/prediction.txt", one, "training walled"
    )
    theory = Job(command_of("theory", **proved), out / "logs/theory.txt", one, "prediction")
    return {"prediction": prediction, "theory": theory}


def small_net(options: Reproduction, out: Path, stages: Stages, device: str) -> int:
    nets = {name: out / name / "model.safetensors" for name in TWINS}
    # The controls ask what the walled net's leakage depends on; the other two nets stand beside it where they are shown.
    audited = dict(data=out / "data", contrast_sets=SHOWN, seed=options.seed, accelerator=device, devices=1)
    audited |= dict(count=options.count, out=out)
    drawn = dict(run=out, training=[out / name for name in TWINS], theory=out / "theory", out=out / "figures")
    stages.run("audit", lambda: call("experiments.audit", quiet=True, **nets, **audited))
    stages.run("figures", lambda: call("experiments.figures", **drawn))
    stages.run("report", lambda: told_where(report.write(out)))
    rows = open_rows(out)
    print_leakage(rows.select(images=SHOWN))
    return INCOMPLETE if rows.failures else 0


def told_where(page: Path) -> None:
    print(f"a page of it all is {page}")


def paper_net(options: Reproduction, out: Path, stages: Stages, device: str) -> int:
    parts = paper.parts_of(models.load(out / "walled/model.safetensors"), options.count)
    drawn = dict(run=out / "paper", training=[out / name for name in TWINS], out=out / "figures")
    stages.run("audits", lambda: paper.audit_all(parts, out, out / "data", options.seed, device))
    stages.run("figures", lambda: call("experiments.figures", **drawn))
    folder = paper.publish(options, parts, stages.spent)
    failures = [one for part in parts for one in open_rows(out / part.name).failures]
    print_leakage(open_rows(out / "paper"))
    print(f"what came out is told in {folder / paper.NAME}.md")
    return INCOMPLETE if failures else 0


if __name__ == "__main__":
    flags.script("experiments.reproduce", main, Reproduction)

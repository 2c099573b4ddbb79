"""The figures that the README and the page of methods show: several trained nets, so that another seed would agree.

    python -m experiments.over_seeds                     five nets and their twins: about 25 minutes on two free cores
    python -m experiments.over_seeds --every 0           without the table of every method: about 20
    python -m experiments.readme --seeds runs/over_seeds     put the figures into README.md, docs/methods.md and docs/results

One set of images; for each seed a walled net and its twin without a wall are trained from that seed and audited on the same
images with the paper's methods, and on the first `every` images with every method, before and after training. Leaves
data/, seed-0/, seed-1/, ... (nets, logs, audits), stages.json and nets.json (what was trained, how well, and by what).
Started again, it keeps what is finished and goes on with what is not.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd
from rich.console import Console

from experiments import flags
from experiments.stages import Stages, call
from experiments.twins import Training, latest, train_both
from wallcheck.metrics import LEAKAGE
from wallcheck.results import Manifest, open_rows, versions, writable
from wallcheck.writing import write_text

SETS = ("stack_mix", "stack_gen")
PAPER, EVERY = "audit", "every"
SHOWN = ("leak_mass", "leak_l2", "leak_any", "missed")  # metrics of the tables


@dataclass(frozen=True)
class OverSeeds:
    """Several trained nets, audited on the same images.

    Args:
        out: the run folder.
        nets: how many seeds; five at least for figures that are shown.
        train_count: training images.
        val_count: validation images.
        count: images of each set for the paper's methods.
        every: images of each set for every method; 0 leaves that table out.
        epochs: of each training.
    """

    out: str = "runs/over_seeds"
    nets: int = 5
    train_count: int = 10_000
    val_count: int = 1_000
    count: int = 100
    every: int = 10
    epochs: int = 6


def main(options: OverSeeds) -> int:
    out, console = writable(options.out), Console(stderr=True)
    stages, data = Stages(out, asdict(options), console), out / "data"
    counts = {"train-count": options.train_count, "val-count": options.val_count, "count": options.count}
    stages.run("data", lambda: call("data_gen", out=data, seed=0, **counts))
    for seed in range(options.nets):
        folder = out / f"seed-{seed}"
        training = Training(seed, options.train_count, options.epochs)
        stages.run(f"training {seed}", lambda t=training, f=folder: train_both(t, f, console, data))
        nets = {name: folder / name / "model.safetensors" for name in ("walled", "unwalled")}
        shared = dict(quiet=True, data=data, sets=list(SETS), seed=seed, metrics=list(LEAKAGE))
        paper = dict(**nets, untrained=False, count=options.count, out=folder / PAPER)
        stages.run(f"audit {seed}", lambda s=shared, p=paper: call("experiments.audit", **s, **p))
        if options.every:
            every = dict(walled=nets["walled"], all_methods=True, count=options.every, out=folder / EVERY)
            stages.run(f"every method {seed}", lambda s=shared, e=every: call("experiments.audit", **s, **e))
    write_text(out / "nets.json", json.dumps(told(options, out), indent=1) + "\n")
    stages.report(
        {
            f"{name} {s}": latest(out / f"seed-{s}" / name)[1]
            for s in range(options.nets)
            for name in ("walled", "unwalled")
        }
    )
    return 0


def told(options: OverSeeds, out: Path) -> dict:
    """What the figures were made by and of: command, versions, and each net with its accuracy and fingerprint."""
    nets = {}
    for seed in range(options.nets):
        folder = out / f"seed-{seed}"
        weights = Manifest.load(folder / PAPER).config["weights"]
        nets[f"seed-{seed}"] = {
            name: dict(validation_accuracy=latest(folder / name)[1], fingerprint=weights[name])
            for name in ("walled", "unwalled")
        }
    settings = {name: value for name, value in asdict(options).items() if name != "out"}
    return dict(command=command(options), settings=settings, versions=versions(), nets=nets)


def command(options: OverSeeds) -> str:
    """What gives the same figures again: every setting that is not the default, but for the folder."""
    plain = OverSeeds()
    changed = {
        f.name: getattr(options, f.name)
        for f in fields(OverSeeds)
        if getattr(options, f.name) != getattr(plain, f.name)
    }
    flags_of = [f"--{name} {value}" for name, value in changed.items() if name != "out"]
    return " ".join(["python -m experiments.over_seeds", *flags_of])


def rows_of(out: Path, part: str) -> pd.DataFrame:
    """The rows that tables show of one audit of every seed; the column `seed` tells the nets apart, `net` is walled, unwalled or untrained."""
    tables = []
    for folder in sorted(out.glob("seed-*"), key=lambda path: int(path.name.removeprefix("seed-"))):
        if (folder / part).is_dir():
            tables.append(open_rows(folder / part).select(metric=SHOWN).table().assign(seed=folder.name))
    if not tables:
        raise FileNotFoundError(f"{out} holds no audit of nets; run python -m experiments.over_seeds --out {out} first")
    return pd.concat(tables, ignore_index=True)


if __name__ == "__main__":
    flags.script("experiments.over_seeds", main, OverSeeds)

"""Which maps of a transformer see through a wall? A small ViT behind attention walls, its twin without, and every method on them.

    python -m experiments.transformers                             a class token: trainings, then every method; see the docs page for times
    python -m experiments.transformers --pooled true --out runs/pooled_tokens   the head reads the mean of the tokens

Patches of 8 px of a 96 px image, four heads a block; in the walled net no token attends across the wall, so the lower half is unseen, to the
pixel. Both nets are trained at once, by experiments/configs/vit_small.yaml (vit_small_pooled.yaml), on rendered images, and every method
that is defined on the walled one is audited on STACK-MIX and STACK-GEN, before and after training. Leaves data/, walled/, unwalled/,
the audit and stages.json in --out; transformers.md (pooled_tokens.md), .png and .json in --docs. Started again, it keeps what is
finished.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from rich.console import Console

from experiments import flags, study
from experiments.stages import Stages, call
from experiments.twins import Training, latest, train_both
from wallcheck import models, plots
from wallcheck.cams import METHODS
from wallcheck.results import Manifest, Rows, open_rows, writable
from wallcheck.statistics import told
from wallcheck.tables import masses

SETS = ("stack_mix", "stack_gen")
CONFIGS = {False: "experiments/configs/vit_small.yaml", True: "experiments/configs/vit_small_pooled.yaml"}
WHERE = ("accelerator", "devices")  # no part of the study, which may go on elsewhere
NAMES = {False: "transformers", True: "pooled_tokens"}


@dataclass(frozen=True)
class TransformersRun:
    """Every method on a small transformer behind attention walls.

    Args:
        pooled: a head that reads the mean of the tokens, no class token.
        train_count: training images.
        val_count: validation images.
        epochs: of each training.
        count: images of each set that are audited.
        methods: names of methods; every one that is defined on the walled net, if none is given.
        accelerator: of the audit, for lightning.Trainer: cpu, gpu, or auto for what there is.
        devices: of the audit, for lightning.Trainer: on a CPU, how many processes share it.
        seed: of data, weights, order and every draw of the audit.
        full: more images and a longer training.
        out: the run folder.
        docs: where the page, its figure and its manifest go.
    """

    pooled: bool = False
    train_count: int = 10_000
    val_count: int = 1_000
    epochs: int = 15
    count: int = 100
    methods: list[str] = field(default_factory=list)
    accelerator: str = "cpu"
    devices: str = "auto"
    seed: int = 0
    full: bool = False
    out: str = "runs/transformers"
    docs: str = "docs/results"


FULL = dict(train_count=50_000, epochs=60, count=500)


def main(given: TransformersRun) -> int:
    options = study.in_full(given, FULL)
    out, console = writable(options.out), Console(stderr=True)
    settings = {name: value for name, value in study.settings_of(options).items() if name not in WHERE}
    stages, data = Stages(out, settings, console), out / "data"
    counts = {"train-count": options.train_count, "val-count": options.val_count, "count": options.count}
    training = Training(options.seed, options.train_count, options.epochs, CONFIGS[options.pooled], ())
    wanted = dict(methods=options.methods) if options.methods else dict(all_methods=True)
    wanted |= {name: getattr(options, name) for name in WHERE}
    wanted |= dict(contrast_sets=list(SETS[:1]))  # the untrained net, where it is shown
    audited = wanted | dict(data=data, sets=list(SETS), count=options.count, seed=options.seed, out=out / "audit")

    stages.run("data", lambda: call("data_gen", out=data, seed=options.seed, **counts))
    stages.run("training", lambda: train_both(training, out, console))
    walled = out / "walled/model.safetensors"
    stages.run("audit", lambda: call("experiments.audit", quiet=True, walled=walled, **audited))
    accuracies = {name: latest(out / name)[1] for name in ("walled", "unwalled")}
    publish(options, out, accuracies, stages.seconds)
    stages.report(accuracies)
    return 0


def publish(options: TransformersRun, out: Path, accuracies: dict[str, float], seconds: dict[str, float]) -> None:
    rows, net = open_rows(out / "audit"), models.load(out / "walled/model.safetensors")
    table = measured(rows)
    found = dict(table=table, accuracies=accuracies, seconds=seconds, proof=proof(net))
    manifest = replace(Manifest.load(out / "audit"), config=study.settings_of(options))
    text = page(options, table, accuracies, seconds, net)
    study.publish(NAMES[options.pooled], options, manifest, plots.families(rows), text, found)


def proof(net: models.BlindNet) -> dict[str, object]:
    """What the proof on the net's graph says."""
    graph = net.exported()
    return dict(
        unseen=int(graph.regions.unseen.sum()),
        pixels=int(graph.regions.unseen.size),
        problems=graph.problems,
        fingerprint=graph.fingerprint,
    )


def measured(rows: Rows) -> pd.DataFrame:
    """method, family, verdict, and mass on unseen cells (or pixels) with its interval over images, by net and set."""
    means = masses(rows).summary(["net", "images", "method"])
    means["family"] = [METHODS[name].family for name in means["method"]]
    means["verdict"] = [METHODS[name].verdict for name in means["method"]]
    return means


def repeated(options: TransformersRun) -> str:
    """What to type to have the same again: settings that are not the default."""
    plain = study.settings_of(TransformersRun())
    changed = {k: v for k, v in study.settings_of(options).items() if v != plain[k] and k not in WHERE}
    flags_of = [f"--{k} {' '.join(v) if isinstance(v, list) else str(v).lower()}" for k, v in changed.items()]
    return " ".join(["python -m experiments.transformers", *flags_of])


def page(
    options: TransformersRun,
    table: pd.DataFrame,
    accuracies: dict[str, float],
    seconds: dict[str, float],
    net: models.BlindNet,
) -> str:
    heads = ["method", "family", "expected", "trained, STACK-MIX", "trained, STACK-GEN", "untrained, STACK-MIX"]
    cells = {(row.method, row.net, row.images): told(row._asdict()) for row in table.itertuples()}
    places = [("walled", "stack_mix"), ("walled", "stack_gen"), ("untrained", "stack_mix")]
    lines = [
        [name, METHODS[name].family, METHODS[name].verdict, *(cells.get((name, *place), "") for place in places)]
        for name in plots.in_order(table["method"].unique())
    ]
    missing = [] if options.methods else sorted(set(METHODS) - set(table["method"]))
    return "\n".join(
        [
            f"# Transformers behind attention walls{', heads that read the mean of the tokens' if options.pooled else ''}",
            "",
            f"One net of {sum(p.numel() for p in net.parameters()):,} weights, {int(net.wall.unseen.sum())} of {net.wall.seen.size} tokens and "
            f"{int(net.regions.unseen.sum()):,} of {net.regions.unseen.size:,} pixels unseen, by proof; validation accuracy "
            f"{accuracies['walled']:.1%} walled, {accuracies['unwalled']:.1%} without a wall, after {options.epochs} epochs of "
            f"{options.train_count:,} images ({seconds['training']:.0f} s for both at once). Share of positive attribution on unseen tokens "
            f"(pixels for maps of pixels), mean and 95 % interval over {options.count} images of each set; made by "
            f"`{repeated(options)}`.",
            "",
            "What is multiplied by the attention, or by a token's own gradient, is 0 behind the wall for all weights (T9). The gradient of "
            "attention alone is not: it tells what would happen if a seen token attended to an unseen one, which the wall forbids.",
            "",
            study.markdown(heads, lines),
            "",
            *([f"Not defined on this net: {', '.join(missing)}.", ""] if missing else []),
            f"![Leakage of every method]({NAMES[options.pooled]}.png)",
            "",
        ]
    )


if __name__ == "__main__":
    flags.script("experiments.transformers", main, TransformersRun)

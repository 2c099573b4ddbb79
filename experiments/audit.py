"""Audit CAM methods on the trained walled net, an untrained one and the trained twin without a wall.

    python -m experiments.audit                      the net that python -m experiments.reproduce or .train left
    python -m experiments.audit --unwalled runs/reproduce/unwalled/model.safetensors --out runs/with_twin
    python -m experiments.audit --walled my/model.safetensors --images ~/photographs --out runs/photographs
    GPUs:  add --accelerator gpu, and --devices 8 for several;  nodes: --num_nodes 2, started by srun or torchrun (docs/clusters.md)

The walled net is audited in the region it cannot see; the untrained net is the same network before training; the
twin without a wall is a contrast, measured in the walled net's unseen region, which it does see. By default the
paper's eight methods and four controls on the predicted class of the first 100 images of each set; --methods names
others, and --all_methods audits every one. Leaves in --out: manifest.json, rows/*.parquet, examples/*.npz,
leakage.csv. Started again it goes on where it stopped, and takes more methods, images and metrics into the same folder;
other nets, image sets, targets or another seed are another study and want another --out. Exit status 3: a method gave
no map for some images; it is named, all other rows stand.
"""

from dataclasses import dataclass, field
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from experiments import flags
from wallcheck import models
from wallcheck.cams import CONTROLS, PAPER
from wallcheck.cli import INCOMPLETE
from wallcheck.results import Rows
from wallcheck.running import run_folder
from wallcheck.study import Study, images_for
from wallcheck.tables import print_leakage, progress_bar
from wallcheck.writing import say

SETS = ("stack_mix", "stack_gen", "mix_other_class", "mix_background", "mix_noise", "mix_constant")


@dataclass(frozen=True)
class AuditRun:
    """Audit CAM methods on blind networks.

    Args:
        walled: model.safetensors of the trained walled net.
        unwalled: of its twin without a wall; left out if not given.
        untrained: audit the walled net at initialisation too.
        data: folder of generated sets; if not given, data/ beside the net's folder, where reproduce puts it, or here.
        sets: which of them.
        contrast_sets: those on which the untrained net and the twin without a wall are audited too; all if not given.
        images: folders to audit instead of generated sets: photographs or image sets.
        methods: names of methods.
        all_methods: every method that applies to the net.
        metrics: names of leakage metrics; all if not given.
        count: images of each set.
        examples: images of each set whose maps are kept for the figures.
        targets: "predicted" or "label"; photographs are labelled by their class folders.
        classes: names of the net's classes, if its description has none: a tree TREE/CLASS/IMAGE, an image set, or a text file.
        seed: of every draw by chance.
        batch_size: images at once; changes results in float32 rounding at most.
        budget_mb: memory that one chunk may take; what the device suggests if not given.
        precision: exact, or fast (TF32 on a GPU, bfloat16 for rescored images); kept in the manifest.
        out: run folder.
        devices: for lightning.Trainer.
        num_nodes: for lightning.Trainer.
        accelerator: for lightning.Trainer: cpu, gpu, or auto for what there is.
    """

    walled: str = "runs/reproduce/walled/model.safetensors"
    unwalled: str | None = None
    untrained: bool = True
    data: str | None = None
    sets: list[str] = field(default_factory=lambda: list(SETS))
    contrast_sets: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=lambda: [*PAPER, *CONTROLS])
    all_methods: bool = False
    metrics: list[str] = field(default_factory=list)
    count: int = 100
    examples: int = 8
    targets: str = "predicted"
    classes: str | None = None
    seed: int = 0
    batch_size: int = 20
    budget_mb: float | None = None
    precision: str = "exact"
    out: str = "runs/audit"
    devices: str | int = "auto"
    num_nodes: int = 1
    accelerator: str = "cpu"


def study_of(options: AuditRun) -> Study:
    walled = models.load(options.walled)
    nets, contrasts = {"walled": walled}, {}
    if options.untrained:
        nets["untrained"] = models.untrained(walled, options.seed)
    if options.unwalled:
        nets["unwalled"] = models.load(options.unwalled)
        contrasts["unwalled"] = "walled"
    folders = options.images or [data_of(options) / name for name in options.sets]
    image_sets = [images_for(walled, folder, options.classes, options.targets) for folder in folders]
    methods = None if options.all_methods else options.methods
    return Study(
        nets,
        image_sets,
        methods,
        contrasts,
        options.count,
        options.targets,
        options.seed,
        options.batch_size,
        options.budget_mb,
        options.examples,
        metrics=options.metrics or None,
        only={name: options.contrast_sets for name in nets if name != "walled" and options.contrast_sets},
        precision=options.precision,
    )


def data_of(options: AuditRun) -> Path:
    beside = Path(options.walled).parent.parent / "data"
    return Path(options.data) if options.data else beside if beside.is_dir() else Path("data")


def main(options: AuditRun) -> int:
    trainer = dict(devices=options.devices, num_nodes=options.num_nodes, accelerator=options.accelerator)
    with progress_bar() as tell:
        rows = run_folder(study_of(options), options.out, trainer, tell)
    paper = rows.select(images=["stack_mix", "stack_gen"])
    report(rows if options.images or not paper.measures else paper, options.out)
    return INCOMPLETE if rows.failures else 0


@rank_zero_only
def report(rows: Rows, out: str) -> None:
    print_leakage(rows)
    say(f"rows, manifest and table are in {out}")


if __name__ == "__main__":
    flags.script("experiments.audit", main, AuditRun)

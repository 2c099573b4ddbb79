"""Do modern networks see through walls? Small members of thirteen families behind walls, untrained and trained.

    python -m experiments.zoo                                    96 px, two cores
    python -m experiments.zoo --families resnet vit --seeds 1 --count 8 --train_count 256 --epochs 1       a first look
    python -m experiments.zoo --full                             longer trainings, more seeds and images, on a GPU
    python -m experiments.zoo --pretrained --images IMAGENET/val --models torchvision:resnet50 torchvision:densenet121
    python -m experiments.zoo --pretrained --images FOLDER --weights STATE_DICTS --models torchvision:vgg16_bn

Each family stands behind a head wall (at its last layer where such a wall leaves a tenth of the pixels unseen) and behind a trunk
wall; nets are trained behind their wall on rendered images. The leakage of the paper's gradient methods, Score-CAM, Ablation-CAM
and LIFT-CAM is measured on STACK-MIX, with the controls beside, and told with intervals over images and seeds. --pretrained takes
torchvision's published weights, or NAME.safetensors (.pt, .pth) from the folder --weights, and a folder of photographs.

Leaves in --out: data, nets, parts (rows and facts of each net), rows.parquet, manifest.json; in --docs zoo.md, .png, .json. Started
again, it keeps what is finished.
"""

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch

from data_gen.making import make_set
from experiments import flags
from experiments.zoo.measuring import How, Part, measured
from experiments.zoo.page import page, shown, summary
from wallcheck import plots
from wallcheck.data import open_images
from wallcheck.models import SMALL
from wallcheck.results import Manifest, writable
from wallcheck.tables import progress_bar
from wallcheck.writing import beside, write_text

METHODS = [
    "gradcam",
    "hirescam",
    "gradcampp",
    "xgradcam",
    "layercam",
    "scorecam",
    "ablationcam",
    "liftcam",
    "constant",
    "random",
]
PUBLISHED = ["resnet18", "resnet50", "densenet121", "vgg16_bn", "mobilenet_v3_large", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t"]  # fmt: skip
FULL = dict(seeds=5, count=100, train_count=20_000, val_count=2000, epochs=20)
ALONE = ("out", "docs", "processes", "families", "seeds")  # what may grow or differ in one folder


@dataclass(frozen=True)
class ZooRun:
    """Leakage of methods on small members of many families behind walls, or on published networks.

    Args:
        families: names in wallcheck.models.SMALL.
        kinds: of walls, head and trunk.
        states: of the nets, untrained and trained.
        seeds: nets of each family, wall and state; three at least for an interval over nets.
        methods: what is measured; controls stand beside.
        count: images audited.
        wall: side and share.
        image_size: height and width of published networks' images; the small members' is 96.
        train_count: training images.
        val_count: held-out images.
        epochs: of each training.
        full: a longer study, for a GPU; sets seeds, counts and epochs.
        pretrained: published networks instead of small members.
        models: which published networks, as wallcheck.models.opened names them.
        weights: a folder of state dicts NAME.safetensors, .pt or .pth; torchvision's published weights if not given.
        images: a folder of photographs for published networks.
        processes: how many nets at once; 0 is one per core. Changes no number.
        device: where nets are trained and audited.
        out: the run folder.
        docs: where the page, its figure and its manifest go.
    """

    families: list[str] = field(default_factory=lambda: list(SMALL))
    kinds: list[str] = field(default_factory=lambda: ["head", "trunk"])
    states: list[str] = field(default_factory=lambda: ["untrained", "trained"])
    seeds: int = 3
    methods: list[str] = field(default_factory=lambda: list(METHODS))
    count: int = 12
    wall: str = "bottom:1/2"
    image_size: int = 224
    train_count: int = 1200
    val_count: int = 400
    epochs: int = 4
    full: bool = False
    pretrained: bool = False
    models: list[str] = field(default_factory=lambda: [f"torchvision:{name}" for name in PUBLISHED])
    weights: str | None = None
    images: str | None = None
    processes: int = 0
    device: str = "cpu"
    out: str = "runs/zoo"
    docs: str = "docs/results"


def main(options: ZooRun) -> None:
    options = _complete(options)
    out = writable(options.out)
    manifest, jobs = claimed(options, out), parts(options)
    how = prepared(options, out)
    with progress_bar() as tell:
        for done, name in enumerate(finished(jobs, how, options.processes), 1):
            tell(done, len(jobs), name)
    rows, facts = collected(jobs, out)
    with beside(out / "rows.parquet") as partial:
        rows.to_parquet(partial, index=False)
    write_pages(options, out, manifest, rows, facts, open_images(how.images, how.image_size))


def _complete(options: ZooRun) -> ZooRun:
    """--full and --pretrained worked out; raises ValueError for what cannot be measured."""
    if options.full:
        options = replace(options, **FULL, device="cuda" if torch.cuda.is_available() else options.device)
    if options.pretrained:
        if options.images is None:
            raise ValueError("published networks need photographs; give a folder of them as --images")
        return replace(options, seeds=1, states=["published"])
    for family in options.families:
        SMALL[family]
    return replace(options, image_size=96)


def parts(options: ZooRun) -> list[Part]:
    """Every net of the study; those of a family one after another."""
    names = options.models if options.pretrained else [f"small:{family}" for family in options.families]
    return [
        Part(n, k, state, seed)
        for n in names
        for seed in range(options.seeds)
        for k in options.kinds
        for state in options.states
    ]


def prepared(options: ZooRun, out: Path) -> How:
    """The images, rendered where they are not yet, and what all parts share."""
    images = options.images
    if not options.pretrained:
        for name, count in (("train", options.train_count), ("val", options.val_count), ("stack_mix", options.count)):
            images = str(make_set(name, out / "data", count, options.image_size, seed=0))
    shared = dict(wall=options.wall, methods=tuple(options.methods), count=options.count, epochs=options.epochs)
    return How(
        str(out),
        str(out / "data"),
        images,
        options.image_size,
        **shared,
        weights=options.weights,
        device=options.device,
    )


def finished(jobs: list[Part], how: How, processes: int) -> Iterator[str]:
    """Names of parts as they are done; each process takes the nets of whole families, one thread each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processes = 1 if how.device != "cpu" else processes or cores
    if processes == 1:
        yield from (measured(job, how) for job in jobs)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        waiting = [pool.submit(measured, job, how) for job in jobs]
        try:
            yield from (one.result() for one in as_completed(waiting))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def collected(jobs: list[Part], out: Path) -> tuple[pd.DataFrame, list[dict]]:
    """Rows and facts of every part."""
    tables = [pd.read_parquet(out / "parts" / f"{job.name}.parquet") for job in jobs]
    facts = [json.loads((out / "parts" / f"{job.name}.json").read_text(encoding="utf-8")) for job in jobs]
    return pd.concat([table for table in tables if len(table)], ignore_index=True), facts


def claimed(options: ZooRun, out: Path) -> Manifest:
    """The manifest, written or found again; raises FileExistsError where the folder holds a run of other settings."""
    settings = {name: value for name, value in asdict(options).items() if name not in ALONE}
    manifest = Manifest(config=settings, device=options.device)
    if (out / "manifest.json").is_file():
        kept = Manifest.load(out)
        if kept.config != json.loads(json.dumps(settings)):
            raise FileExistsError(f"{out} holds a run of other settings; choose another --out or remove that folder")
        return kept
    manifest.save(out)
    return manifest


def write_pages(options: ZooRun, out: Path, manifest: Manifest, rows: pd.DataFrame, facts: list[dict], images) -> None:
    name = "zoo_published" if options.pretrained else "zoo"
    figures = plots.save(plots.zoo(rows), out / "figures" / name)
    table, docs = summary(rows), Path(options.docs)
    docs.mkdir(parents=True, exist_ok=True)
    shutil.copy(figures[1], docs / f"{name}.png")
    write_text(docs / f"{name}.md", page(name, table, facts, _words(options), images.name))
    asked = {one: getattr(options, one) for one in ("families", "models", "seeds")}
    kept = {**asdict(manifest), "asked": asked, "nets": facts, "found": table.to_dict("records")}
    write_text(docs / f"{name}.json", json.dumps(kept, indent=1, default=float) + "\n")
    print(shown(table))


def _words(options: ZooRun) -> str:
    """The flags that make these pages again."""
    plain, given = ZooRun(), asdict(options)
    if options.pretrained:
        given |= {"seeds": plain.seeds, "states": plain.states}
    else:
        given |= {"image_size": plain.image_size}
    changed = {k: v for k, v in given.items() if v != getattr(plain, k) and k not in ("out", "docs", "processes")}
    return " ".join(f"--{k} {' '.join(map(str, v)) if isinstance(v, list) else v}" for k, v in changed.items())


if __name__ == "__main__":
    flags.script("experiments.zoo", main, ZooRun)

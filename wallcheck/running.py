"""An audit as a run folder: nets x image sets -> rows, manifest, examples, table. Resumable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from wallcheck.auditing import applicable, finite, require_wall
from wallcheck.cams import Method
from wallcheck.certificate import Certificate, certify, fingerprint
from wallcheck.data import ImageSet, PhotoFolder, class_names, open_images, to_display
from wallcheck.evidence import BUDGET_MB, Evidence
from wallcheck.lit.auditing import Auditor, Numbered, ShardWriter, interruptible, quiet, wait_for_ranks
from wallcheck.models import BlindNet
from wallcheck.results import Manifest, done, merge, shards, summary, writable
from wallcheck.writing import beside, write_text

EXAMPLES, TABLE = "examples", "leakage.csv"


@dataclass(frozen=True)
class Study:
    """What is audited, and how; all of it goes into the manifest.

    nets: name -> net. contrasts: name of a net without a wall -> name of its walled twin.
    image_sets: each with a name of its own. methods: None is every method that applies.
    count: images of each set, from the first on; None is all. targets: "predicted", or "label" for
    the sets' labels. examples: images of each set whose maps are kept for the figures.
    """

    nets: dict[str, BlindNet]
    image_sets: Sequence[ImageSet | PhotoFolder]
    methods: Sequence[str] | None = None
    contrasts: dict[str, str] = field(default_factory=dict)
    count: int | None = 100
    targets: str = "predicted"
    seed: int = 0
    batch_size: int = 20
    budget_mb: float = BUDGET_MB
    examples: int = 8

    def __post_init__(self):
        if self.targets not in ("predicted", "label"):
            raise ValueError(f"targets are {self.targets!r}; choose 'predicted' or 'label'")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count is {self.count}; audit at least 1 image of each set, or None for all")
        names = [images.name for images in self.image_sets]
        if len(set(names)) < len(names):
            raise ValueError(f"two image sets share a name in {names}; rename one folder")
        for images in self.image_sets:
            if self.targets == "label" and (why := images.unlabelled(self.size(images))):
                raise ValueError(f"{images.name} has no labels: {why}")
        for name in self.nets:  # told before any work is done
            if not self.methods_for(name):
                raise ValueError(f"none of the methods is defined on {name}; wallcheck methods lists others")

    def blind(self, name: str) -> BlindNet:
        """The net whose unseen region is used for the net of this name."""
        return require_wall(self.nets[name], self.nets.get(self.contrasts.get(name, "")))

    def methods_for(self, name: str) -> list[Method]:
        """The methods of the study that are defined on the net of this name."""
        net = self.nets[name]
        return [method for method in applicable(net, self.methods) if not method.refuses(net)]

    def size(self, images: ImageSet | PhotoFolder) -> int:
        return len(images) if self.count is None else min(self.count, len(images))

    @property
    def config(self) -> dict:
        """The settings that decide rows. Batch size and memory change them in the last bits at most, so they
        are not among them."""
        methods = {name: [method.name for method in self.methods_for(name)] for name in self.nets}
        return dict(
            weights={name: fingerprint(net) for name, net in self.nets.items()},
            methods=methods,
            contrasts=self.contrasts,
            count=self.count,
            targets=self.targets,
            seed=self.seed,
            examples=self.examples,
        )


def images_for(
    net: BlindNet, folder: str | Path, classes: str | Path | None = None, targets: str = "predicted"
) -> ImageSet | PhotoFolder:
    """The images in a folder at the net's size, labelled by the net's classes.

    Their names are those given (see `wallcheck.data.class_names`), else those that training left in the net's
    description. Where neither is known and labels are asked for, the folders' names have to do (see PhotoFolder).
    """
    logits = net(torch.zeros(0, 3, *net.image_size)).shape[1]  # no image, no work
    names = class_names(classes) if classes else tuple((net.description or {}).get("classes", ()))
    if classes and len(names) != logits:
        raise ValueError(
            f"{classes} names {len(names)} classes, the net has {logits}; give what the net was trained on"
        )
    return open_images(folder, net.image_size[0], names or (logits if targets == "label" else ()))


def run(
    study: Study, out: str | Path, trainer: dict | None = None, progress: Callable[[int, int, str], None] | None = None
) -> pd.DataFrame:
    """Audit into the folder `out`, or go on where an interrupted audit of the same study stopped; all rows.

    trainer: flags of lightning.Trainer (devices, num_nodes, accelerator). progress: told
    (images done, images in all, what is running). Raises BrokenWall for a net that is not blind,
    FileExistsError if out holds another study, PermissionError if it cannot be written.
    """
    for images in study.image_sets:
        if isinstance(images, PhotoFolder):
            images.check(study.size(images))
    out = writable(out)
    certificates = {name: certify(study.blind(name)).raise_if_broken() for name in study.nets}
    _claim(study, certificates, out)
    jobs = [(name, images) for name in study.nets for images in study.image_sets]
    total, finished = sum(study.size(images) for _, images in jobs), 0
    for name, images in jobs:
        todo = sorted(set(range(study.size(images))) - done(out, name, images.name))
        finished += study.size(images) - len(todo)
        tell = _counter(progress, finished, total, f"{name} on {images.name}")
        tell(0)
        if todo:
            _predict(study, name, images, todo, out, trainer or {}, tell)
        finished += len(todo)
        _keep_examples(study, name, images, out)
    wait_for_ranks()
    table = merge(out)
    write_text(out / TABLE, summary(headline(table)).to_csv(index=False))
    return table


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that the table is made of: the paper's ratio as displayed, and the exact measures on cells."""
    shown = (table["view"] == "displayed") & (table["metric"] == "leak_l2")
    cells = (table["view"] == "rectified") & (table["on"] == "grid")
    return table[shown | cells]


def _claim(study: Study, certificates: dict[str, Certificate], out: Path) -> None:
    """Write the manifest, or find that the folder holds this very study already."""
    manifest = Manifest(
        config=study.config,
        certificates={name: certificate.to_dict() for name, certificate in certificates.items()},
        image_sets={images.name: images.identify(study.size(images)) for images in study.image_sets},
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    if shards(out):
        if not Manifest.load(out).same_work_as(manifest):
            raise FileExistsError(
                f"{out} holds an audit of other nets, images or settings; choose another --out or remove that folder"
            )
        return
    manifest.save(out)


def _predict(
    study: Study,
    name: str,
    images: ImageSet | PhotoFolder,
    todo: list[int],
    out: Path,
    trainer: dict,
    tell: Callable[[int], None],
) -> None:
    net = study.nets[name]
    labels = images.labels if study.targets == "label" else None
    settings = dict(seed=study.seed, budget_mb=study.budget_mb)
    module = Auditor(net, study.blind(name), study.methods_for(name), (name, images.name), settings, labels)
    loader = DataLoader(Numbered(images, todo), batch_size=study.batch_size)
    bare = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    with quiet(), interruptible():
        predictor = L.Trainer(**bare, inference_mode=False, callbacks=[ShardWriter(out, tell)], **trainer)
        predictor.predict(module, loader, return_predictions=False)


def _keep_examples(study: Study, name: str, images: ImageSet | PhotoFolder, out: Path) -> None:
    """Images, raw maps and regions of the first images, for figures that need no model."""
    count = min(study.examples, study.size(images))
    path = out / EXAMPLES / f"{name}--{images.name}.npz"
    if path.is_file() or not count:
        return
    path.parent.mkdir(exist_ok=True)
    targets = None if study.targets == "predicted" else np.array(images.labels[:count])
    evidence = Evidence(
        study.nets[name], images.images(slice(0, count)), targets, seed=study.seed, budget_mb=study.budget_mb
    )
    blind, methods = study.blind(name), study.methods_for(name)
    maps = {f"map:{m.name}": finite(m, m(evidence)).cpu().numpy() for m in methods}
    with beside(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            pixels=(255 * to_display(evidence.images)).round().astype(np.uint8),
            targets=evidence.targets.cpu().numpy(),
            labels=np.asarray(images.labels[:count]),
            classes=np.asarray(images.classes, dtype=str),
            unseen_cells=blind.wall.unseen,
            unseen_pixels=blind.regions.unseen,
            halo=blind.regions.halo,
            **maps,
        )


def _counter(
    progress: Callable[[int, int, str], None] | None, before: int, total: int, what: str
) -> Callable[[int], None]:
    seen = [before]

    def tell(images: int) -> None:
        seen[0] = min(seen[0] + images, total)
        if progress is not None:
            progress(seen[0], total, what)

    return tell

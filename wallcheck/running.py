"""An audit as a run folder: nets x image sets -> rows, manifest, examples, table. Resumable, extendable, one study each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from wallcheck import assets
from wallcheck.assets import PREFIX, SETS
from wallcheck.auditing import answered, applicable, checked_settings, chosen_metrics, questions, require_wall, warn_of
from wallcheck.cams import Method
from wallcheck.certificate import Certificate, certify
from wallcheck.data import ImageSet, PhotoFolder, class_names, open_images, sized
from wallcheck.evidence import Evidence
from wallcheck.examples import keep_examples
from wallcheck.identity import Pictures, claim, identity
from wallcheck.lit.auditing import BARE, Auditor, Numbered, ShardWriter, device_of, interruptible, on_device, quiet
from wallcheck.lit.ranks import Ranks, is_first_rank, wait_for_ranks
from wallcheck.memory import told_of
from wallcheck.metrics import TRUTH, Metric
from wallcheck.models import BlindNet, unwrapped
from wallcheck.results import (
    Holdings,
    Manifest,
    Measure,
    Rows,
    compact,
    open_rows,
    rows_of,
    set_foreign_aside,
    summary,
    typed,
    writable,
)
from wallcheck.writing import write_text

TABLE = "leakage.csv"


@dataclass(frozen=True)
class Study:
    """What is audited, and how; all of it goes into the manifest.

    nets: name -> net. contrasts: name of a net without a wall -> name of its walled twin.
    image_sets: each with a name of its own. methods: as `wallcheck.audit` takes them; None is every method that applies; one that
    is defined on some of the nets only is left out on the others. metrics: None is all.
    count: images of each set, from the first on; None is all. targets: "predicted", or "label" for
    the sets' labels. examples: images of each set whose maps are kept for the figures. only: name of a net -> names of the image
    sets it is audited on; a net that is not named is audited on all. budget_mb, precision: see `wallcheck.evidence.Evidence`.

    Methods, metrics, count, examples and only are how much of the study is asked for: a folder takes more of them later. All
    else is the study itself, and another folder's. Batch size and memory change rows in the last bits at most.
    """

    nets: dict[str, BlindNet]
    image_sets: Sequence[ImageSet | PhotoFolder]
    methods: Sequence[object] | None = None
    contrasts: dict[str, str] = field(default_factory=dict)
    count: int | None = 100
    targets: str = "predicted"
    seed: int = 0
    batch_size: int = 20
    budget_mb: float | None = None
    examples: int = 8
    metrics: Sequence[str] | None = None
    only: dict[str, Sequence[str]] = field(default_factory=dict)
    precision: str = "exact"

    def __post_init__(self):
        object.__setattr__(self, "nets", {name: unwrapped(net) for name, net in self.nets.items()})
        object.__setattr__(self, "_found", {})
        checked_settings(self.seed, self.batch_size, self.budget_mb, self.precision)
        chosen_metrics(self.metrics)
        if self.targets not in ("predicted", "label"):
            raise ValueError(f"targets are {self.targets!r}; choose 'predicted' or 'label'")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count is {self.count}; audit at least 1 image of each set, or None for all")
        names = [images.name for images in self.image_sets]
        if len(set(names)) < len(names):
            raise ValueError(f"two image sets share a name in {names}; rename one folder")
        for name, wanted in self.only.items():
            if name not in self.nets or not set(wanted) <= set(names):
                raise ValueError(
                    f"only asks for {name} on {list(wanted)}; there are nets {list(self.nets)} and image sets {names}"
                )
        for images in self.image_sets:
            if self.targets == "label" and (why := images.unlabelled(self.size(images))):
                raise ValueError(f"{images.name} has no labels: {why}")
        self._check_methods()

    def _check_methods(self) -> None:
        """Raise ValueError, before any work is done, for a method that no net has and for a net that has no method."""
        for name, net in self.nets.items():
            if len(self.nets) == 1:
                answered(net, chosen_metrics(self.metrics))
            for method in self._applicable(net):
                if len(self.nets) == 1 and (reason := method.refuses(net)):
                    raise ValueError(f"{method.name} is not defined on {name}: {reason}; leave it out")
            if not self.methods_for(name):
                raise ValueError(f"none of the methods is defined on {name}; wallcheck methods lists others")

    def blind(self, name: str) -> BlindNet:
        """The net whose unseen region is used for the net of this name."""
        return require_wall(self.nets[name], self.nets.get(self.contrasts.get(name, "")))

    def methods_for(self, name: str) -> list[Method]:
        """The methods of the study that are defined on the net of this name."""
        net = self.nets[name]
        return [method for method in self._applicable(net) if not method.refuses(net)]

    def _applicable(self, net: BlindNet) -> list[Method]:
        """Found once for each net: explainers from elsewhere are asked for maps to find out what they give."""
        if id(net) not in self._found:
            self._found[id(net)] = applicable(net, self.methods, lambda: self.image_sets[0].images(slice(0, 2)))
        return self._found[id(net)]

    def keys(self, name: str) -> frozenset:
        """(method, view, on, metric): what every image has on the net of this name."""
        metrics, net = chosen_metrics(self.metrics), self.nets[name]
        return frozenset(
            (method.name, *where) for method in self.methods_for(name) for where in questions(net, method, metrics)
        )

    def sets_for(self, name: str) -> list[ImageSet | PhotoFolder]:
        """The image sets that the net of this name is audited on."""
        return [images for images in self.image_sets if images.name in self.only.get(name, (images.name,))]

    def size(self, images: ImageSet | PhotoFolder) -> int:
        return len(images) if self.count is None else min(self.count, len(images))

    def labels(self, images: ImageSet | PhotoFolder) -> np.ndarray | None:
        """The classes explained, by image; None for the predicted ones."""
        return images.labels if self.targets == "label" else None

    @property
    def config(self) -> dict:
        """What is asked for; a folder keeps the union of all that was."""
        return dict(
            weights={name: net.graph.fingerprint for name, net in self.nets.items()},
            methods={name: [method.name for method in self.methods_for(name)] for name in self.nets},
            image_sets={name: [images.name for images in self.sets_for(name)] for name in self.nets},
            foreign={m.name: m.digest for name in self.nets for m in self.methods_for(name) if m.digest},
            metrics=[metric.name for metric in chosen_metrics(self.metrics)],
            contrasts=self.contrasts,
            count=self.count,
            targets=self.targets,
            seed=self.seed,
            examples=self.examples,
            precision=self.precision,
        )

    @property
    def settings(self) -> dict:
        """What rows depend on beside nets and images. Only another precision than the usual one is named: folders from before
        there was a choice are studies in full float32."""
        usual = dict(targets=self.targets, seed=self.seed)
        return usual if self.precision == "exact" else usual | dict(precision=self.precision)


def images_for(
    net: BlindNet, folder: str | Path, classes: str | Path | None = None, targets: str = "predicted"
) -> ImageSet | PhotoFolder:
    """The images in a folder at the net's size, labelled by the net's classes; or those of a set that comes with wallcheck,
    "assets:stack_mix".

    Their names are those given (see `wallcheck.data.class_names`), else those that training left in the net's
    description. Where neither is known and labels are asked for, the folders' names have to do (see PhotoFolder).
    """
    logits, shipped = net.graph.classes, str(folder).removeprefix(PREFIX)
    if net.image_size[0] != net.image_size[1]:
        raise ValueError(
            f"photographs are read as squares, this net takes {net.image_size}; pass tensors of that size to wallcheck.audit"
        )
    names = class_names(classes) if classes else tuple((net.description or {}).get("classes", ()))
    if classes and len(names) != logits:
        raise ValueError(
            f"{classes} names {len(names)} classes, the net has {logits}; give what the net was trained on"
        )
    if shipped in SETS and str(folder) != shipped:
        return sized(assets.images(shipped, names), net.image_size[0])
    return open_images(folder, net.image_size[0], names or (logits if targets == "label" else ()))


def run(
    study: Study, out: str | Path, trainer: dict | None = None, progress: Callable[[int, int, str], None] | None = None
) -> pd.DataFrame:
    """`run_folder`, and all rows of the folder as one table, for what fits into memory."""
    return run_folder(study, out, trainer, progress).table()


def run_folder(
    study: Study, out: str | Path, trainer: dict | None = None, progress: Callable[[int, int, str], None] | None = None
) -> Rows:
    """Audit into the folder `out`, or go on where an audit of the same study stopped or ended; the rows of the folder, unread.

    What the folder holds is not measured again; more methods, images or metrics are added to it. Several processes may
    work on one folder. trainer: flags of lightning.Trainer (devices, num_nodes, accelerator). progress: told
    (images done, images in all, what is running). A method that fails has no rows for those images and is
    tried again next time; `failures` of the rows lists what this study misses, and an `Incomplete` warning
    tells. Raises BrokenWall for a net that is not blind, FileExistsError if out holds another study, PermissionError if
    it cannot be written.
    """
    pictures = {images.name: Pictures(images) for images in study.image_sets}
    for images in study.image_sets:
        pictures[images.name].first(study.size(images))
        _check_labels(study, images)
    device = device_of(trainer or {})
    with on_device(study.nets.values(), device):
        return _run(study, writable(out), trainer or {}, progress, pictures, device)


def _run(
    study: Study,
    out: Path,
    trainer: dict,
    progress: Callable[[int, int, str], None] | None,
    pictures: dict[str, Pictures],
    device: torch.device,
) -> Rows:
    certified = {blind: certify(blind).raise_if_broken() for blind in dict.fromkeys(map(study.blind, study.nets))}
    certificates = {name: certified[study.blind(name)] for name in study.nets}
    digest = claim(out, _manifest(study, certificates, pictures, device), pictures)
    set_foreign_aside(out, digest)
    with Ranks() as ranks:
        _measure(study, pictures, out, digest, trainer, ranks, progress)
        wait_for_ranks()
        if is_first_rank():
            _finish(study, out)
        wait_for_ranks()
    rows = open_rows(out)
    rows.failures = _missed(study, rows)
    warn_of(rows.failures, stacklevel=4)
    return rows


def _measure(
    study: Study,
    pictures: dict[str, Pictures],
    out: Path,
    digest: str,
    trainer: dict,
    ranks: Ranks,
    progress: Callable[[int, int, str], None] | None,
) -> None:
    """What the folder does not hold yet, net by net and image set by image set."""
    jobs = [(name, images) for name in study.nets for images in study.sets_for(name)]
    total, finished = sum(study.size(images) for _, images in jobs), 0
    for name, images in jobs:
        told = pictures[images.name].first(study.size(images))
        held = Holdings(out, name, images.name, digest, told)
        works = _works(study, name, images, held)
        todo = sum(len(numbers) for numbers, _, _ in works)
        finished += study.size(images) - todo
        tell = _counter(progress, finished, total, f"{name} on {images.name}")
        tell(0)
        for work in works:
            _predict(study, name, images, work, ShardWriter(held, ranks, tell), trainer)
        finished += todo
        keep_examples(study, name, images, out, digest)


def _finish(study: Study, out: Path) -> None:
    """Few shards and the table; a process killed beside this one may have left half a file."""
    writable(out)
    compact(out)
    rows = open_rows(out)
    rows.failures = _missed(study, rows)
    write_text(out / TABLE, leakage_table(rows).to_csv(index=False))


def _missed(study: Study, rows: Rows) -> list[dict]:
    methods = {method.name for name in study.nets for method in study.methods_for(name)}
    return [one for one in rows.failures if one["method"] in methods]


def leakage_table(rows: pd.DataFrame | Rows) -> pd.DataFrame:
    """Means with intervals, and how many images each method misses; a method that misses all has a line of its own."""
    rows = rows_of(rows)
    means = summary(rows.where(is_headline))
    failed = pd.DataFrame(rows.failures, columns=["net", "images", "method", "count"])
    failed = failed.rename(columns={"count": "missing"})
    if failed.empty:
        return means.assign(missing=0)
    names = ["net", "images", "method"]
    joined = means.astype(dict.fromkeys(names, str)).merge(failed, on=names, how="outer")
    return joined.assign(missing=joined["missing"].fillna(0).astype(int), count=joined["count"].fillna(0).astype(int))


def is_headline(measure: Measure) -> bool:
    """What the table is made of: the paper's ratio as displayed, the exact measures on cells, and what is missed."""
    shown = (measure.view, measure.metric) == ("displayed", "leak_l2")
    cells = (measure.view, measure.on) == ("rectified", "grid")
    return shown or cells or measure.metric in TRUTH


def _check_labels(study: Study, images: ImageSet | PhotoFolder) -> None:
    """Raise ValueError for a label that is no class of a net; Evidence knows the classes."""
    labels = study.labels(images)
    if labels is not None:
        last = torch.tensor([int(max(labels[: study.size(images)]))])
        for net in study.nets.values():
            Evidence(net, images.images(slice(0, 1)), last)


def _manifest(
    study: Study, certificates: dict[str, Certificate], pictures: dict[str, Pictures], device: torch.device
) -> Manifest:
    config = study.config | dict(commands=[typed()])
    regions = {name: study.blind(name).graph.fingerprint for name in study.nets}
    sets = {images.name: pictures[images.name].identity(study.size(images)) for images in study.image_sets}
    return Manifest(
        config=config,
        study=identity(config["weights"], regions, study.settings, sets),
        certificates={name: certificate.to_dict() for name, certificate in certificates.items()},
        device=told_of(device),
    )


Work = tuple[list[int], list[Method], list[Metric]]


def _works(study: Study, name: str, images: ImageSet | PhotoFolder, held: Holdings) -> list[Work]:
    """What is still to do: images that miss the same keys, with the methods and metrics of those keys."""
    wanted = study.keys(name)
    groups: dict[frozenset, list[int]] = {}
    for number in range(study.size(images)):
        if missing := held.missing(number, wanted):
            groups.setdefault(missing, []).append(number)
    return [
        (
            numbers,
            [method for method in study.methods_for(name) if any(method.name == key[0] for key in missing)],
            [metric for metric in chosen_metrics(study.metrics) if any(metric.name == key[3] for key in missing)],
        )
        for missing, numbers in groups.items()
    ]


def _predict(
    study: Study, name: str, images: ImageSet | PhotoFolder, work: Work, writer: ShardWriter, trainer: dict
) -> None:
    numbers, methods, metrics = work
    settings = dict(seed=study.seed, budget_mb=study.budget_mb, precision=study.precision)
    names, labels = (name, images.name), study.labels(images)
    net, blind = study.nets[name], study.blind(name)
    module = Auditor(net, blind, (methods, metrics), names, settings, labels, study.keys(name), writer.held)
    loader = DataLoader(Numbered(images, numbers), batch_size=study.batch_size)
    with quiet(), interruptible():
        predictor = L.Trainer(**BARE, inference_mode=False, callbacks=[writer], **trainer)
        predictor.predict(module, loader, return_predictions=False)


def _counter(
    progress: Callable[[int, int, str], None] | None, before: int, total: int, what: str
) -> Callable[[int], None]:
    seen = [before]

    def tell(images: int) -> None:
        seen[0] = min(seen[0] + images, total)
        if progress is not None:
            progress(seen[0], total, what)

    return tell

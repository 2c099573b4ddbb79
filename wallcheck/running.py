"""An audit as a run folder: nets x image sets -> rows, manifest, examples, table. Resumable, extendable, one study each."""

from collections.abc import Callable
from pathlib import Path

import lightning as L
import pandas as pd
import torch
from torch.utils.data import DataLoader

from wallcheck.auditing import warn_of
from wallcheck.cams import Method
from wallcheck.certificate import Certificate, certify
from wallcheck.checking import chosen_metrics
from wallcheck.data import ImageSet, PhotoFolder
from wallcheck.defaults import usual
from wallcheck.evidence import Evidence
from wallcheck.examples import keep_examples
from wallcheck.identity import Pictures, claim, identity
from wallcheck.lit.auditing import (
    BARE,
    Auditor,
    Numbered,
    ShardWriter,
    device_of,
    flags_of,
    interruptible,
    on_device,
    quiet,
)
from wallcheck.lit.ranks import Ranks, is_first_rank, wait_for_ranks
from wallcheck.memory import told_of
from wallcheck.metrics import TRUTH, Metric
from wallcheck.results import (
    TABLE,
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
from wallcheck.study import Study
from wallcheck.writing import write_text


def run(
    study: Study, out: str | Path, trainer: dict | None = None, progress: Callable[[int, int, str], None] | None = None
) -> pd.DataFrame:
    """`run_folder`, and all rows of the folder as one table, for what fits into memory."""
    return run_folder(study, out, trainer, progress).table()


@usual()
def run_folder(
    study: Study, out: str | Path, trainer: dict | None = None, progress: Callable[[int, int, str], None] | None = None
) -> Rows:
    """Audit into the folder `out`, or go on where an audit of the same study stopped or ended; the rows of the folder, unread.

    What the folder holds is not measured again; more methods, images or metrics are added to it. Several processes may
    work on one folder. trainer: flags of lightning.Trainer (devices, num_nodes, accelerator); without an accelerator the nets'
    own device is used. progress: told
    (images done, images in all, what is running). A method that fails has no rows for those images and is
    tried again next time; `failures` of the rows lists what this study misses, and an `Incomplete` warning
    tells. Raises BrokenWall for a net that is not blind, FileExistsError if out holds another study, PermissionError if
    it cannot be written.
    """
    pictures = {images.name: Pictures(images) for images in study.image_sets}
    for images in study.image_sets:
        pictures[images.name].first(study.size(images))
        _check_labels(study, images)
    flags = flags_of(trainer or {}, study.nets.values())
    device = device_of(flags)
    with on_device(study.nets.values(), device):
        out = writable(out).absolute()  # the process may go elsewhere meanwhile
        return _run(study, out, flags, progress, pictures, device)


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
    warn_of(rows.failures, stacklevel=5)
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
    # A generator of its own: it draws a seed for workers that there are not, from the process's generator otherwise.
    own = torch.Generator()
    loader = DataLoader(Numbered(images, numbers), batch_size=study.batch_size, generator=own)
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

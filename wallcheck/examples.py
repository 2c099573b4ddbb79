"""Images, raw maps and regions of the first images of a set, kept in a run folder for figures that need no model."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from wallcheck.auditing import finite
from wallcheck.cams import Method
from wallcheck.data import ImageSet, PhotoFolder, to_display
from wallcheck.evidence import Evidence
from wallcheck.guarding import maps_of
from wallcheck.results import examples_of
from wallcheck.writing import beside

MAP = "map:"


def keep_examples(study, name: str, images: ImageSet | PhotoFolder, out: Path, digest: str) -> None:
    """Keep the maps of the net of this name; maps that are kept already, of as many images, are kept as they are.

    study: a `wallcheck.study.Study`; digest: of what it is. A method that fails on one of the images has no map here:
    its rows say why.
    """
    count = min(study.examples, study.size(images))
    path = examples_of(out, name, images.name)
    kept = _kept(path, digest, count)
    missing = [method for method in study.methods_for(name) if MAP + method.name not in kept]
    if not count or not missing:
        return
    labels = study.labels(images)
    targets = None if labels is None else torch.from_numpy(np.array(labels[:count]))
    net = study.nets[name]
    settings = dict(seed=study.seed, budget_mb=study.budget_mb, precision=study.precision)
    evidence = Evidence(net, images.images(slice(0, count)), targets, **settings)
    kept |= _surroundings(evidence, study.blind(name), images) | dict(study=np.array(digest))
    kept |= {MAP + method.name: raw for method in missing if (raw := _maps(method, evidence)) is not None}
    with beside(path) as partial, partial.open("wb") as file:
        arrays: dict[str, Any] = kept
        np.savez_compressed(file, **arrays)


def _kept(path: Path, digest: str, count: int) -> dict[str, np.ndarray]:
    """What the file holds of this study and of as many images; nothing where it is missing, damaged or another's."""
    try:
        with np.load(path) as found:
            kept = {name: found[name] for name in found}
    except (OSError, BadZipFile, ValueError, KeyError, EOFError):
        return {}
    whole = str(kept.get("study")) == digest and len(kept.get("pixels", ())) >= count
    return kept if whole else {}


def _surroundings(evidence: Evidence, blind, images: ImageSet | PhotoFolder) -> dict[str, np.ndarray]:
    return dict(
        pixels=(255 * to_display(evidence.images)).round().astype(np.uint8),
        targets=evidence.targets.cpu().numpy(),
        labels=np.asarray(images.labels[: len(evidence.images)]),
        classes=np.asarray(images.classes, dtype=str),
        unseen_cells=blind.wall.unseen,
        unseen_pixels=blind.regions.unseen,
        halo=blind.regions.halo,
    )


def _maps(method: Method, evidence: Evidence) -> np.ndarray | None:
    try:
        return finite(method, maps_of(method, evidence).cpu()).numpy()
    except Exception:  # told, image by image, where its rows are missing
        return None

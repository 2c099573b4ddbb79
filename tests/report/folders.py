"""Run folders of audits that never were, as `wallcheck.running.run` lays them out."""

from pathlib import Path

import numpy as np
import pandas as pd

from wallcheck.cams import METHODS
from wallcheck.certificate import Certificate, Check
from wallcheck.results import COLUMNS, EXAMPLES, Failure, Header, Manifest, examples_of, write_shard

CELLS, SIZE = 6, 24
CHECKS = ("graph", "proof", "finite_weights", "bits", "gradient", "maximal")
METRICS = ("leak_mass", "leak_any", "leak_l2")
BROKEN = "attribution is <b>NaN</b> & nothing else"  # an error may hold any letters
FIXED = {"constant": 0.5, "unseen_only": 1.0, "gradcam": 0.75, "gradcampp": 0.25, "eigencam": np.nan}


def write_run(
    run: Path,
    methods=("gradcam", "gradcampp", "hirescam", "eigencam", "inputxgradient", "constant", "seen_only", "scorecam"),
    nets=("walled", "unwalled"),
    sets=("stack_mix", "stack_gen"),
    count: int = 8,
    failing: str | None = "scorecam",
    examples: int = 2,
) -> Path:
    """HiResCAM is dark, Grad-CAM++ at half the constant map's 0.5, Grad-CAM above it, Eigen-CAM's maps are empty, `failing` gives none;
    all else lies between 0.2 and 0.9."""
    study = dict(nets={net: {} for net in nets}, image_sets={name: dict(count=count, pixels="0" * 64) for name in sets})
    config = dict(methods={net: list(methods) for net in nets}, metrics=list(METRICS), count=count, targets="predicted", seed=0,
                  weights=dict.fromkeys(nets, "f" * 64), commands=["wallcheck audit net.safetensors --out run"])  # fmt: skip
    config["contrasts"] = {"unwalled": "walled"} if {"walled", "unwalled"} <= set(nets) else {}
    manifest = Manifest(config, study, {net: certificate().to_dict() for net in nets})
    manifest.save(run)
    for number, (net, images) in enumerate((net, images) for net in nets for images in sets):
        draw = np.random.default_rng(number)
        rows = [part for name in methods if name != failing for part in _rows(net, images, name, count, draw)]
        failures = [Failure(net, images, image, failing, METRICS, BROKEN) for image in range(count) if failing]
        write_shard(run, pd.concat(rows, ignore_index=True), Header(manifest.digest, failures=tuple(failures)))
        if examples:
            (run / EXAMPLES).mkdir(exist_ok=True)
            np.savez(examples_of(run, net, images), **_examples([m for m in methods if m != failing], examples, draw))
    return run


def certificate() -> Certificate:
    checks = [Check(name, "eval", name != "maximal", "holds") for name in CHECKS]
    return Certificate("c" * 64, _below(SIZE, 12), _below(CELLS, 3), (*checks, Check("bits", "train", True, "holds")))


def _below(size: int, start: int) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[start:] = True
    return mask


def _rows(net: str, images: str, name: str, count: int, draw: np.random.Generator):
    on_cells = METHODS[name].grid == "cells"
    zero = METHODS[name].verdict == "zero"
    values = np.full(count, FIXED.get(name, 0.0)) if zero or name in FIXED else draw.uniform(0.2, 0.9, count)
    for view, on in [("rectified", "grid")] * on_cells + [("rectified", "image"), ("displayed", "image")]:
        for metric in METRICS:
            shown = (values > 0).astype(float) if metric == "leak_any" else values
            shown = np.where(np.isnan(values), np.nan, shown)
            row = (net, images, np.arange(count), name, view, on, metric, 0, shown)
            yield pd.DataFrame(dict(zip(COLUMNS, row, strict=True)))


def _examples(methods, count: int, draw: np.random.Generator) -> dict[str, np.ndarray]:
    sides = {name: CELLS if METHODS[name].grid == "cells" else SIZE for name in methods}
    maps = {f"map:{name}": draw.normal(size=(count, side, side)).astype(np.float32) for name, side in sides.items()}
    for name in methods:
        if METHODS[name].verdict == "zero":
            maps[f"map:{name}"][:, sides[name] // 2 :] = 0
    return dict(
        pixels=draw.integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8),
        targets=np.arange(count),
        classes=np.array(["cube", "cone"]),
        unseen_cells=_below(CELLS, 3),
        unseen_pixels=_below(SIZE, 12),
        halo=np.zeros((SIZE, SIZE), bool),
        **maps,
    )

"""Rows and examples of a small audit that never was, and what a figure drew of them."""

import numpy as np
import pandas as pd

from wallcheck.cams import METHODS
from wallcheck.plots._regions import on_image
from wallcheck.results import COLUMNS, sorted_rows

SOME = ("gradcam", "gradcampp", "layercam", "scorecam", "ablationcam", "eigencam", "constant")
SETS = ("stack_mix", "stack_gen", "mix_noise")
VIEWS = (("rectified", "grid"), ("rectified", "image"), ("confined", "image"), ("stretched", "image"),
         ("displayed", "image"))  # fmt: skip


def made_rows(methods=SOME, nets=("walled", "untrained"), sets=SETS, count=6, views=VIEWS) -> pd.DataFrame:
    """Rows of a small audit that never was: local methods at 0, the constant map at 0.6, others anywhere."""
    draw, pieces = np.random.default_rng(0), []
    for net in nets:
        for images in sets:
            for name in methods:
                on_cells = name not in METHODS or METHODS[name].grid == "cells"
                for view, on in views if on_cells else [v for v in views if v[1] == "image" and v[0] != "confined"]:
                    for metric in ("leak_mass", "leak_l2"):
                        local = name in METHODS and METHODS[name].family == "local" and view != "stretched"
                        values = 0.6 if name == "constant" else 0.0 if local else draw.uniform(0.2, 1, count)
                        row = (net, images, np.arange(count), name, view, on, metric, 0, values)
                        pieces.append(pd.DataFrame(dict(zip(COLUMNS, row, strict=True))))
    return sorted_rows(pieces)


def made_examples(count=2) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    cells, pixels = np.zeros((6, 6), bool), np.zeros((24, 24), bool)
    cells[2:], pixels[12:] = True, True
    halo = on_image(cells, (24, 24)) & ~pixels
    maps = {f"map:{name}": draw.normal(size=(count, 6, 6)).astype(np.float32) for name in SOME}
    maps["map:layercam"] = np.where(cells, 0, np.abs(maps["map:layercam"]))
    maps["map:scorecam"] = -np.ones((count, 6, 6), np.float32)
    maps["map:zoomcam"] = draw.normal(size=(count, 24, 24)).astype(np.float32)
    images = draw.integers(0, 256, (count, 24, 24, 3)).astype(np.uint8)
    targets = np.arange(count)
    return dict(
        pixels=images,
        targets=targets,
        labels=targets,
        classes=np.array(["cube", "cone"]),
        unseen_cells=cells,
        unseen_pixels=pixels,
        halo=halo,
        **maps,
    )


def drawn(panel, prefix: str) -> dict[str, np.ndarray]:
    """Coordinates of the artists whose gid starts with `prefix`."""
    lines = [line for line in panel.lines if str(line.get_gid()).startswith(prefix)]
    return {line.get_gid().removeprefix(prefix): np.asarray(line.get_xydata()) for line in lines}

"""Repairs by sealing: leakage against localisation and faithfulness of every cheap method as it is, sealed on cells and on pixels.

    python -m experiments.sealing            32 px, three nets, one thread: some ten minutes
    python -m experiments.sealing --full     on a GPU

Sealed on cells: the raw map is 0 where no gradient of the head reaches (`wallcheck.cams.repairs.sealed`), then displayed; upsampling
still smears it past the seen cells. Sealed on pixels: the displayed map is 0 on unseen pixels (`wallcheck.maps.SEALED`), all else as it
was. What exact repairs cost beside these: `experiments.repairs`. Leaves rows.parquet in --out, and sealing.md, .png and .json in --docs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments import flags, small_nets, study
from experiments.blind_metrics import cheap
from experiments.measured_maps import long, measure, seen_object
from experiments.study import arrowed, markdown
from wallcheck import plots
from wallcheck.auditing import finite
from wallcheck.cams.repairs import sealed
from wallcheck.evidence import Evidence
from wallcheck.maps import SEALED, displayed
from wallcheck.metrics import named
from wallcheck.statistics import DIFFERENCE, SHARE

NAME = "sealing"
AS_IT_IS, ON_CELLS, ON_PIXELS = "as it is", "sealed on cells", "sealed on pixels"
FORMS = (AS_IT_IS, ON_CELLS, ON_PIXELS)
TOLD = (
    "leak_mass",
    "energy_inside",
    "pointing",
    "mask_iou",
    "average_drop",
    "average_increase",
    "insertion",
    "deletion",
)
FULL = dict(seeds=10, images=300, train_count=20000, epochs=15)


@dataclass(frozen=True)
class SealingRun(study.NetsRun):
    """Leakage against localisation and faithfulness, of methods and of their sealed forms."""

    images: int = 8
    out: str = "runs/sealing"


def main(given: SealingRun) -> None:
    study.run(NAME, given, FULL, every, answer)


def answer(rows: pd.DataFrame, options: SealingRun) -> tuple[Figure, str, dict[str, object]]:
    """Figure, page and what is kept of the answer."""
    table = study.crossed_by(rows, ["method", "form", "metric"], SHARE)
    changes = changed(rows)
    found = dict(means=table, changes=changes)
    return plots.pareto(table, FORMS), page(table, changes, options), found


def every(options: SealingRun, out: Path, tell: study.Tell) -> Iterator[pd.DataFrame]:
    """seed, method, form, metric, image, value; each net's kept when it is done."""
    nets = Path(options.nets)
    recipe = options.recipe
    images = small_nets.image_set("stack_mix", options.images, recipe, nets)
    for number, one in enumerate(small_nets.seeds_of(recipe, options.seeds)):
        tell(number, options.seeds, f"seed {one.seed}")
        ev = Evidence(small_nets.trained(one, nets), images.images())
        inside = seen_object(images).to(ev.images.device)
        yield study.kept(out / "parts" / f"{one.digest}.parquet", partial(measured, ev, inside)).assign(seed=one.seed)


def measured(ev: Evidence, inside: Tensor) -> pd.DataFrame:
    """method, form, metric, image, value of maps as they are displayed, from 0 to 1."""
    tables = []
    for method in (m for m in cheap(ev.net) if m.family != "repair"):
        for form, shown in forms_of(ev, method).items():
            found = measure(ev, shown, shown, inside, imputed=False)
            tables.append(long({metric: found[metric] for metric in TOLD}).assign(method=method.name, form=form))
    return pd.concat(tables, ignore_index=True)


def forms_of(ev: Evidence, method) -> dict[str, Tensor]:
    """form -> displayed maps (B, H, W)."""
    raw, size = finite(method, method(ev)), ev.net.image_size
    with ev.plainly():
        on_cells = sealed(method)(ev)
    unseen = torch.from_numpy(ev.regions.unseen.copy()).to(raw.device)
    return {
        AS_IT_IS: displayed(raw, size),
        ON_CELLS: displayed(on_cells, size),
        ON_PIXELS: SEALED.alter(raw, unseen, size),
    }


# -- telling --------------------------------------------------------------------------------------


def changed(rows: pd.DataFrame) -> pd.DataFrame:
    """method, form, metric, change from as it is with its interval over nets and images, same: no map's value differs."""
    lines = []
    for (method, metric), part in rows.groupby(["method", "metric"], sort=False):
        before = study.wide(part[part["form"] == AS_IT_IS])
        for form in (ON_CELLS, ON_PIXELS):
            off = study.wide(part[part["form"] == form]) - before
            found, kept = study.over_nets(off.to_numpy(), DIFFERENCE), off.to_numpy()[off.notna().to_numpy()]
            line = dict(
                method=method, form=form, metric=metric, change=found["mean"], low=found["low"], high=found["high"]
            )
            lines.append(
                line | dict(same=bool((kept == 0).all()), lost=int(off.isna().sum().sum() - before.isna().sum().sum()))
            )
    return pd.DataFrame(lines)


def page(table: pd.DataFrame, changes: pd.DataFrame, options: SealingRun) -> str:
    count = table["method"].nunique()
    return f"""# Sealing: leakage against localisation and faithfulness

{study.made_by(NAME, options)}

{count} cheap methods on cells, controls among them, as displayed on {options.images} images of `stack_mix` and {options.seeds} nets
({options.train_count} images, {options.epochs} epochs), explaining the predicted class: as it is, sealed on cells (the raw map, by the
gradient's reach), sealed on pixels (the displayed map, `wallcheck.maps.SEALED`). Means with 95 % intervals over images and nets
(crossed), cut at the ends of the measure's scale. A map of which sealing leaves nothing has no value and is told as empty.

## What sealing changes, over all methods

{changes_table(changes)}

Sealed on pixels nothing leaks, and **average drop and increase are the same to the bit**: masking what the net cannot see changes
nothing. Sealed on cells a map still bleeds over unseen pixels by upsampling, and stretching to [0, 1] may brighten it.

## Not dominated

Of all methods and forms, those that no other beats in both leakage and the measure named:

{front_lines(table)}

![Leakage against localisation and faithfulness; the line joins what is not dominated]({NAME}.png)

## Means

{means_table(table)}
"""


def changes_table(changes: pd.DataFrame) -> str:
    """By form and metric: methods better, worse (the interval leaves 0 out) and exactly the same, and the median change."""
    lines = []
    for (form, metric), of in changes.groupby(["form", "metric"], sort=False):
        sign = 1 if named(metric).better == "high" else -1
        better, worse = ((sign * of["change"] > 0) & clear(of), (sign * of["change"] < 0) & clear(of))
        counts = [better.sum(), worse.sum(), of["same"].sum()]
        lines.append([form, arrowed(metric), *map(str, counts), f"{of['change'].median():+.4f}", str(of["lost"].sum())])
    return markdown(["form", "measure", "better", "worse", "exactly the same", "median change", "maps emptied"], lines)


def clear(of: pd.DataFrame) -> pd.Series:
    return (of["low"] > 0) | (of["high"] < 0)


def front_lines(table: pd.DataFrame) -> str:
    """One line per measure of `plots.pareto`: what is not dominated, least leakage first."""
    means = table.pivot_table(index=["method", "form"], columns="metric", values="mean")
    lines = []
    for against, down in plots.PARETO.items():
        points = means[["leak_mass", against]].dropna()
        front = points[plots.undominated(points.to_numpy() * np.array([1, 1 if down else -1]))].sort_values("leak_mass")
        told = ", ".join(
            f"`{m}` {f} ({a:.3f}, {b:.3f})" for (m, f), (a, b) in zip(front.index, front.to_numpy(), strict=True)
        )
        lines.append(f"* {arrowed(against)} (leakage, {against}): {told}.")
    return "\n".join(lines)


def means_table(table: pd.DataFrame) -> str:
    lines = []
    for method in plots.in_order(table["method"].unique()):
        for form in FORMS:
            of = table[(table["method"] == method) & (table["form"] == form)].set_index("metric")
            lines.append([method if form == AS_IT_IS else "", form, *(study.said(of.loc[metric]) for metric in TOLD)])
    return markdown(["method", "form", *map(arrowed, TOLD)], lines)


if __name__ == "__main__":
    flags.script(f"experiments.{NAME}", main, SealingRun)

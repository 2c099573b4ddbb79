"""The metrics cannot see the wall: which of them notice what a map says about pixels that the net cannot see?

    python -m experiments.blind_metrics            32 px, three nets, one thread: some ten minutes
    python -m experiments.blind_metrics --full     on a GPU

Two answers. Paint: maps are changed on unseen pixels alone, in five ways, and every metric is taken before and after (claim T8 of
the theory, measured). Rank: does a metric rank methods as leakage does? Spearman's correlation over methods, image by image. Leaves
painted.parquet and methods.parquet in --out, and blind_metrics.md, .png and .json in --docs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from torch import Tensor

from experiments import flags, small_nets, study
from experiments.measured_maps import long, measure, seen_object
from experiments.study import markdown
from wallcheck import plots
from wallcheck.auditing import finite
from wallcheck.cams import METHODS, Method
from wallcheck.evidence import Evidence
from wallcheck.maps import displayed, rectify, upsample
from wallcheck.metrics import FAITHFULNESS, LEAKAGE, LOCALISATION, named
from wallcheck.statistics import percent

NAME = "blind_metrics"
CHEAP = ("0", "1F", "1F+1b", "1F+1f+1b", "1F+2f+3b", "1F+Z f", "1F+K f", "1F+1b+1b+16(f+b)")
FULL = dict(imputed=True, seeds=10, images=300, train_count=20000, epochs=15)
PAINTS = ("dark", "half", "bright", "noise", "twice as bright, stretched again")
AS_IT_IS = "as it is"
# What can be measured on a map alone; coherency and max_sensitivity ask the method for other maps.
MEASURED = (*LEAKAGE, *LOCALISATION, *FAITHFULNESS, "road", "complexity")


@dataclass(frozen=True)
class BlindMetricsRun(study.NetsRun):
    """Which metrics notice what a map says about unseen pixels.

    Args:
        painted: methods whose maps are painted.
        imputed: ROAD over all methods too; filling pixels in takes longer than all else together. Paint has it anyway.
    """

    painted: list[str] = field(default_factory=lambda: ["gradcam", "hirescam", "eigencam"])
    imputed: bool = False
    images: int = 8
    out: str = "runs/blind_metrics"


def main(given: BlindMetricsRun) -> None:
    study.run(NAME, given, FULL, every, answer, tables=("painted", "methods"))


def answer(
    painted: pd.DataFrame, methods: pd.DataFrame, options: BlindMetricsRun
) -> tuple[Figure, str, dict[str, object]]:
    """Figure, page and what is kept of the answer."""
    changes, ranks = moved(painted), ranked(methods)
    found = dict(painted=changes, ranks=ranks)
    return plots.blindness(changes, ranks), page(changes, ranks, methods, options), found


def cheap(net) -> list[Method]:
    """Methods on cells that cost a pass or the head's own, controls and repairs too."""
    return [m for m in METHODS.values() if m.grid == "cells" and m.cost in CHEAP and not m.refuses(net)]


# -- measuring ------------------------------------------------------------------------------------


def every(options: BlindMetricsRun, out: Path, tell: study.Tell) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """(painted, methods) of each net; each net's tables are kept when they are done."""
    nets = Path(options.nets)
    recipe = options.recipe
    images = small_nets.image_set("stack_mix", options.images, recipe, nets)
    inside = seen_object(images)
    for number, one in enumerate(small_nets.seeds_of(recipe, options.seeds)):
        tell(number, options.seeds, f"seed {one.seed}")
        ev = Evidence(small_nets.trained(one, nets), images.images())
        of_net = inside.to(ev.images.device)
        paint = study.kept(out / "parts" / f"painted-{one.digest}.parquet", partial(all_painted, ev, of_net, options))
        every_method = study.kept(
            out / "parts" / f"methods-{one.digest}.parquet", partial(all_methods, ev, of_net, options)
        )
        yield paint.assign(seed=one.seed), every_method.assign(seed=one.seed)


def all_painted(ev: Evidence, inside: Tensor, options: BlindMetricsRun) -> pd.DataFrame:
    """method, paint, metric, image, value."""
    tables = []
    for name in options.painted:
        shown = displayed(finite(METHODS[name], METHODS[name](ev)), ev.net.image_size)
        for paint in (AS_IT_IS, *PAINTS):
            tables.append(long(measure(ev, *[painted(ev, shown, paint)] * 2, inside)).assign(method=name, paint=paint))
    return pd.concat(tables, ignore_index=True)


def all_methods(ev: Evidence, inside: Tensor, options: BlindMetricsRun) -> pd.DataFrame:
    """method, metric, image, value of maps as they are displayed (leakage and localisation: rectified and upsampled)."""
    tables = []
    for method in cheap(ev.net):
        raw, size = finite(method, method(ev)), ev.net.image_size
        bright, shown = upsample(rectify(raw), size), displayed(raw, size)
        tables.append(long(measure(ev, bright, shown, inside, options.imputed)).assign(method=method.name))
    return pd.concat(tables, ignore_index=True)


def painted(ev: Evidence, shown: Tensor, paint: str) -> Tensor:
    """Maps (B, H, W) from 0 to 1 with other values on unseen pixels, seen ones and the halo as they were: their
    normalisation is held fixed. But for the last paint: twice the maximum there, and all halved to fit the scale again."""
    unseen = torch.from_numpy(ev.regions.unseen.copy()).to(shown.device)
    if paint == AS_IT_IS:
        return shown
    if paint == "noise":
        drawn = torch.rand(shown.shape, generator=ev.generator(salt=81), device=shown.device, dtype=shown.dtype)
        return torch.where(unseen, drawn, shown)
    if paint == PAINTS[-1]:
        return torch.where(unseen, torch.ones_like(shown), shown / 2)
    return torch.where(unseen, torch.full_like(shown, {"dark": 0.0, "half": 0.5, "bright": 1.0}[paint]), shown)


# -- telling --------------------------------------------------------------------------------------


def moved(painted: pd.DataFrame) -> pd.DataFrame:
    """metric, paint, before: mean as it is; change with its interval over nets and images (methods averaged); same: share of
    maps whose value is exactly the same; of: number of maps compared."""
    lines = []
    key = ["method", "seed", "image"]
    for metric in MEASURED:
        part = painted[painted["metric"] == metric]
        before = part[part["paint"] == AS_IT_IS].set_index(key)["value"]
        for paint in PAINTS:
            after = part[part["paint"] == paint].set_index(key)["value"]
            change = (after - before).rename("value").reset_index()
            equal = (after == before)[after.notna() & before.notna()]
            found = study.crossed(change.groupby(["seed", "image"])["value"].mean().reset_index())
            line = dict(metric=metric, paint=paint, before=before.mean(), change=found["mean"], low=found["low"])
            lines.append(line | dict(high=found["high"], same=equal.mean(), of=len(equal)))
    return pd.DataFrame(lines)


def ranked(methods: pd.DataFrame) -> pd.DataFrame:
    """metric, mean, low, high: Spearman's correlation with leak_mass over methods, image by image; of: of methods' means."""
    lines = []
    wide = methods.pivot_table(index=["seed", "image", "method"], columns="metric", values="value", dropna=False)
    means = wide.groupby("method").mean()
    for metric in MEASURED:
        if metric == "leak_mass" or metric not in means:
            continue
        values = wide.groupby(["seed", "image"])[["leak_mass", metric]].apply(rank_correlation)
        found = study.crossed(values.rename("value").reset_index(), (-1.0, 1.0))
        whole = means[["leak_mass", metric]].dropna()
        lines.append(dict(metric=metric) | found | dict(of_means=rank_correlation(whole)))
    return pd.DataFrame(lines)


def rank_correlation(columns: pd.DataFrame) -> float:
    """Spearman's of two columns where both have values; NaN where one of them does not vary."""
    first, second = columns.dropna().to_numpy(dtype=float).T
    return spearmanr(first, second).statistic if len(first) > 2 and np.ptp(first) and np.ptp(second) else np.nan


def page(changes: pd.DataFrame, ranks: pd.DataFrame, methods: pd.DataFrame, options: BlindMetricsRun) -> str:
    blind = [
        m for m in MEASURED if (changes[(changes["metric"] == m) & ~changes["paint"].eq(PAINTS[-1])]["same"] == 1).all()
    ]
    count = methods["method"].nunique()
    return f"""# The metrics cannot see the wall

{study.made_by(NAME, options)}

On {options.images} images of `stack_mix` and {options.seeds} trained nets ({options.train_count} images, {options.epochs} epochs),
explaining the predicted class. Means with 95 % intervals over images and nets (crossed).

## Paint on unseen pixels

Maps of {", ".join(f"`{name}`" for name in options.painted)} are changed on the pixels that the net provably cannot see and nowhere
else: made dark, half or fully as bright as the map's maximum, filled with noise. Seen pixels keep their values, so normalisation
is held fixed; in the last column the paint is twice the maximum, and stretching to [0, 1] halves all the rest. Beside each change:
the share of maps whose value is exactly the same. **Under any of the first four paints exactly the same on every map:
{", ".join(f"`{name}`" for name in blind) or "none"}.** These are blind to the wall (claim T8 of the theory). Metrics that go by the
order of pixels notice paint through the steps that it takes, localisation because the object does not lie there.

{painted_table(changes)}

## Do metrics rank methods as leakage does?

Spearman's correlation of each metric with `leak_mass` over {count} cheap methods, on each image of each net; and of the methods'
means. A metric that punished leakage would have +1 where less is better, -1 where more is better (`told by` says which).

{rank_table(ranks)}

![Change under paint; rank correlation with leakage]({NAME}.png)
"""


def painted_table(changes: pd.DataFrame) -> str:
    lines = []
    for metric in MEASURED:
        part = changes[changes["metric"] == metric].set_index("paint")
        cells = []
        for paint in PAINTS:
            line = part.loc[paint]
            cells.append(f"{study.span(line['change'], line['low'], line['high'])}, {same(line['same'])} same")
        lines.append([named(metric).kind, metric, f"{part['before'].iloc[0]:.3f}", *cells])
    return markdown(["kind", "metric", AS_IT_IS, *PAINTS], lines)


def same(share: float) -> str:
    """Only what is all is called all.

    >>> same(1.0), same(0.999)
    ('all', '>99%')
    """
    return "all" if share == 1 else percent(share)


def rank_table(ranks: pd.DataFrame) -> str:
    lines = []
    for _, line in ranks.iterrows():
        metric = named(line["metric"])
        told = "+1" if metric.better == "low" else "-1"
        lines.append(
            [
                metric.kind,
                metric.name,
                told,
                study.said(line, "+.2f"),
                study.span(line["of_means"], np.nan, np.nan, "+.2f"),
            ]
        )
    return markdown(["kind", "metric", "told by", "image by image", "of means"], lines)


if __name__ == "__main__":
    flags.script(f"experiments.{NAME}", main, BlindMetricsRun)

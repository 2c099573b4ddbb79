"""What leakage depends on: what is below the wall, the class explained, the net's shape, its training, the wall's height.

    python -m experiments.dependence            32 px, three nets of each kind, one thread: under half an hour
    python -m experiments.dependence --full     on a GPU

One thing is changed at a time from a net that all share. Leakage is the share of positive attribution on unseen cells. Leaves
rows.parquet in --out (one row per factor, level, net, method and image), and dependence.md, .png and .json in --docs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments import flags, small_nets, study
from experiments.small_nets import BATCH, SMALL, Recipe
from experiments.study import markdown
from wallcheck import plots
from wallcheck.auditing import finite
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.metrics import LEAKAGE
from wallcheck.models import BlindNet
from wallcheck.statistics import DIFFERENCE

NAME = "dependence"
FULL = dict(seeds=10, images=300, train_count=20000, epochs=15)
SHARED = "as all"  # the level that a factor's others are compared with
BELOW = ("as all", "dark", "noise", "mirror of the seen", "another image's")
EXPLAINED = ("as all", "label", "second", "least", "class 0")
SHARES = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5)  # of the training's steps


@dataclass(frozen=True)
class DependenceRun(study.NetsRun):
    """What leakage depends on.

    Args:
        methods: on cells.
    """

    methods: list[str] = field(default_factory=lambda: ["gradcam", "gradcampp", "xgradcam", "eigencam", "hirescam"])
    train_count: int = 1000
    out: str = "runs/dependence"


def main(given: DependenceRun) -> None:
    study.run(NAME, given, FULL, every, answer)


def answer(rows: pd.DataFrame, options: DependenceRun) -> tuple[Figure, str, dict[str, object]]:
    """Figure, page and what is kept of the answer."""
    table = summary(rows)
    return plots.dependence(table), page(table, options), dict(leakage=table)


# -- what is changed ------------------------------------------------------------------------------


def shapes(base: Recipe) -> dict[str, dict[str, Recipe]]:
    """factor -> level -> recipe; each holds the shared net as one of its levels."""
    wide = {f"x {factor:g}": tuple(s if s == "M" else round(s * factor) for s in SMALL) for factor in (0.5, 2)}
    deep = {
        "4 convolutions": (16, "M", 24, "M", 32, "M", 64),
        "7 convolutions": (8, 16, "M", 24, 24, "M", 32, 32, "M", 64),
    }
    return {
        "width": {SHARED: base, **{name: replace(base, plan=plan) for name, plan in wide.items()}},
        "depth": {SHARED: base, **{name: replace(base, plan=plan) for name, plan in deep.items()}},
        "dropout": {SHARED: base, **{f"{p:g}": replace(base, dropout=p) for p in (0.3, 0.6)}},
        "weight decay": {SHARED: base, **{f"{w:g}": replace(base, weight_decay=w) for w in (0.0, 0.5)}},
        "wall": {SHARED: base, **{f"{cells} of 4 rows": replace(base, wall=cells) for cells in (1, 2)}},
    }


def every(options: DependenceRun, out: Path, tell: study.Tell) -> Iterator[pd.DataFrame]:
    """factor, level, seed, method, image, value; kept net by net."""
    base = options.recipe
    work = [
        (f, level, one)
        for f, levels in shapes(base).items()
        for level, r in levels.items()
        for one in seeded(r, options)
    ]
    jobs = [(one, base_study, "images, classes, steps", "") for one in seeded(base, options)]
    jobs += [(one, shape_study, factor, level) for factor, level, one in work]
    for number, (recipe, how, factor, level) in enumerate(jobs):
        tell(number, len(jobs), f"{factor} {level}, seed {recipe.seed}")
        path = out / "parts" / f"{how.__name__}-{recipe.digest}.parquet"
        table = study.kept(path, partial(how, recipe, options))
        yield (table.assign(factor=factor, level=level) if how is shape_study else table).assign(seed=recipe.seed)


def seeded(recipe: Recipe, options: DependenceRun) -> list[Recipe]:
    return small_nets.seeds_of(recipe, options.seeds)


def shape_study(recipe: Recipe, options: DependenceRun) -> pd.DataFrame:
    """method, image, value of one net."""
    nets = Path(options.nets)
    return leaks(small_nets.trained(recipe, nets), pixels(recipe, options), options)


def base_study(recipe: Recipe, options: DependenceRun) -> pd.DataFrame:
    """factor, level, method, image, value of a shared net: other pixels below the wall, other classes, fewer steps."""
    nets, images = Path(options.nets), pixels(recipe, options)
    steps = recipe.epochs * (recipe.train_count // BATCH)
    shots = {f"{share:.0%} of the steps": round(share * steps) for share in SHARES}
    net = small_nets.trained(recipe, nets, list(shots.values()))
    labels = np.array(small_nets.image_set("stack_mix", options.images, recipe, nets).labels)
    tables = [
        leaks(net, below(images, net, level), options).assign(factor="below the wall", level=level) for level in BELOW
    ]
    for level, targets in classes(net, images, torch.from_numpy(labels.astype(np.int64))).items():
        tables.append(leaks(net, images, options, targets).assign(factor="class explained", level=level))
    for level, step in shots.items():
        found = leaks(small_nets.snapshot(recipe, nets, step), images, options)
        tables.append(found.assign(factor="training", level=level))
    tables.append(leaks(net, images, options).assign(factor="training", level=SHARED))
    return pd.concat(tables, ignore_index=True)


def pixels(recipe: Recipe, options: DependenceRun) -> Tensor:
    return small_nets.image_set("stack_mix", options.images, recipe, Path(options.nets)).images()


def below(images: Tensor, net: BlindNet, level: str) -> Tensor:
    """Images with other pixels where the net cannot see: logits do not change by a bit, activations there do."""
    unseen = torch.from_numpy(net.regions.unseen.copy())
    drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(0), dtype=images.dtype)
    other = {
        "as all": images, "dark": torch.full_like(images, float(images.min())), "noise": drawn,
        "mirror of the seen": images.flip(2), "another image's": images.roll(1, 0),
    }[level]  # fmt: skip
    return torch.where(unseen, other, images)


def classes(net: BlindNet, images: Tensor, labels: Tensor) -> dict[str, Tensor | None]:
    """level -> the class explained (B,); None is the predicted one."""
    order = Evidence(net, images).logits.argsort(1, descending=True).cpu()
    return {
        "as all": None,
        "label": labels,
        "second": order[:, 1],
        "least": order[:, -1],
        "class 0": torch.zeros_like(labels),
    }


def leaks(net: BlindNet, images: Tensor, options: DependenceRun, targets: Tensor | None = None) -> pd.DataFrame:
    """method, image, value: leak_mass on cells; NaN for an empty map."""
    ev = Evidence(net, images, targets)
    counted, tables = torch.ones_like(ev.unseen), []
    for name in options.methods:
        found = LEAKAGE["leak_mass"](finite(METHODS[name], METHODS[name](ev)), ev.unseen, counted)
        tables.append(pd.DataFrame(dict(method=name, image=range(len(found)), value=found.double().cpu().numpy())))
    return pd.concat(tables, ignore_index=True)


# -- telling --------------------------------------------------------------------------------------


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """factor, level, method, mean with interval, and change from the shared level on the same images and seeds."""
    lines = []
    for (factor, level, method), part in rows.groupby(["factor", "level", "method"], sort=False):
        shared = rows[(rows["factor"] == factor) & (rows["level"] == SHARED) & (rows["method"] == method)]
        change = study.over_nets((study.wide(part) - study.wide(shared)).to_numpy(), DIFFERENCE)
        line = dict(factor=factor, level=level, method=method) | study.crossed(part, (0.0, 1.0))
        lines.append(line | {f"change_{end}": change[end] for end in ("mean", "low", "high")})
    return pd.DataFrame(lines)


def page(table: pd.DataFrame, options: DependenceRun) -> str:
    parts = [f"## {factor.capitalize()}\n\n{of_factor(table, factor)}" for factor in dict.fromkeys(table["factor"])]
    return f"""# What leakage depends on

{study.made_by(NAME, options)}

Share of positive attribution on unseen cells, over {options.images} images of `stack_mix` and {options.seeds} nets of each kind
({options.train_count} images, {options.epochs} epochs), with 95 % intervals over both (crossed). One thing is changed at a time from
the shared net (`{SHARED}`: layers {" ".join(map(str, SMALL))}, 3 of 4 rows of cells behind the wall, weight decay 0.02, no dropout,
predicted class); below each mean the change from it on the same images and seeds. A method that is local, as HiResCAM, leaks
nothing whatever is changed.

{clear(table)}

![Leakage by factor and level]({NAME}.png)

{chr(10).join(parts)}
"""


def clear(table: pd.DataFrame) -> str:
    """The changes whose interval leaves 0 out, factor by factor."""
    lines = []
    for factor, part in table.groupby("factor", sort=False):
        of = part[(part["change_low"] > 0) | (part["change_high"] < 0)]
        told = [f"{k} at {v} {c:+.3f}" for k, v, c in zip(of["method"], of["level"], of["change_mean"], strict=True)]
        lines.append(f"* {factor}: {'; '.join(told) or 'no change whose interval leaves 0 out'}.")
    return "\n".join(lines)


def of_factor(table: pd.DataFrame, factor: str) -> str:
    part = table[table["factor"] == factor]
    methods, lines = list(dict.fromkeys(part["method"])), []
    for level in dict.fromkeys(part["level"]):
        of = part[part["level"] == level].set_index("method")
        lines.append([level, *(told(of.loc[method], level) for method in methods)])
    return markdown(["", *methods], lines) + "\n"


def told(line: pd.Series, level: str) -> str:
    mean = study.said(line)
    if level == SHARED or np.isnan(line["change_mean"]):
        return mean
    return f"{mean}<br>{study.span(line['change_mean'], line['change_low'], line['change_high'])}"


if __name__ == "__main__":
    flags.script(f"experiments.{NAME}", main, DependenceRun)

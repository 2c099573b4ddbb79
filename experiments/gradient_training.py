"""Does training for interpretable gradients change leakage, localisation and faithfulness?

    python -m experiments.gradient_training            32 px, three nets each way, one thread: some ten minutes
    python -m experiments.gradient_training --full     on a GPU

Nets trained with the regulariser of Torres Figueroa et al. 2024 and without, from equal weights and in an equal order of images;
the same maps of both are held against the same metrics. Whether the regulariser does what it is for is another page's matter
(`experiments.interpretable_gradients`). Leaves rows.parquet in --out, and gradient_training.md, .png and .json in --docs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import flags, small_nets, study
from experiments.measured_maps import long, measure, seen_object
from experiments.small_nets import Recipe
from experiments.study import arrowed, markdown
from wallcheck import plots
from wallcheck.auditing import finite
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.maps import displayed, rectify, upsample
from wallcheck.statistics import DIFFERENCE, compare

NAME = "gradient_training"
TOLD = (
    "leak_mass",
    "energy_inside",
    "pointing",
    "average_drop",
    "average_increase",
    "insertion",
    "deletion",
    "infidelity",
)
FULL = dict(seeds=10, images=300, train_count=20000, epochs=15)


@dataclass(frozen=True)
class GradientTrainingRun(study.NetsRun):
    """Maps of nets trained for interpretable gradients beside maps of nets that were not.

    Args:
        weight: of the regulariser; the paper's best.
        methods: whose maps are compared.
        seeds: nets each way.
    """

    weight: float = 7.5e-3
    methods: list[str] = field(
        default_factory=lambda: ["gradcam", "gradcampp", "xgradcam", "hirescam", "layercam", "eigencam", "gradient"]
    )
    out: str = "runs/gradient_training"


def main(given: GradientTrainingRun) -> None:
    if given.weight <= 0:
        raise ValueError(f"weight is {given.weight}; nets without the regulariser are trained beside, give one above 0")
    study.run(NAME, given, FULL, every, answer)


def answer(rows: pd.DataFrame, options: GradientTrainingRun) -> tuple[Figure, str, dict[str, object]]:
    """Figure, page and what is kept of the answer."""
    table = summary(rows)
    accuracies = {name: accuracies_of(options, weight) for name, weight in ways(options).items()}
    found = dict(changes=table, accuracy=accuracies)
    figure = plots.paired_changes(table, "with the regulariser, less without")
    return figure, page(table, accuracies, options), found


def ways(options: GradientTrainingRun) -> dict[str, float]:
    return {"without": 0.0, "with": options.weight}


def recipes(options: GradientTrainingRun, weight: float) -> list[Recipe]:
    base = options.recipe
    return small_nets.seeds_of(replace(base, regulariser=weight), options.seeds)


def accuracies_of(options: GradientTrainingRun, weight: float) -> list[float]:
    return [small_nets.accuracy(recipe, Path(options.nets)) for recipe in recipes(options, weight)]


def every(options: GradientTrainingRun, out: Path, tell: study.Tell) -> Iterator[pd.DataFrame]:
    """trained (with, without), seed, method, metric, image, value; each net's kept when it is done."""
    work = [(name, recipe) for name, weight in ways(options).items() for recipe in recipes(options, weight)]
    for number, (name, recipe) in enumerate(work):
        tell(number, len(work), f"{name} the regulariser, seed {recipe.seed}")
        table = study.kept(out / "parts" / f"{recipe.digest}.parquet", partial(measured, recipe, options))
        yield table.assign(trained=name, seed=recipe.seed)


def measured(recipe: Recipe, options: GradientTrainingRun) -> pd.DataFrame:
    """method, metric, image, value of one net; the label is explained, so that both nets explain the same."""
    nets = Path(options.nets)
    images = small_nets.image_set("stack_mix", options.images, recipe, nets)
    ev = Evidence(small_nets.trained(recipe, nets), images.images(), np.array(images.labels).tolist())
    inside, tables = seen_object(images).to(ev.images.device), []
    for name in options.methods:
        raw, size = finite(METHODS[name], METHODS[name](ev)), ev.net.image_size
        found = measure(ev, upsample(rectify(raw), size), displayed(raw, size), inside, imputed=False)
        tables.append(long({metric: found[metric] for metric in TOLD}).assign(method=name))
    return pd.concat(tables, ignore_index=True)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """method, metric, without, with, change with its interval over nets and images, and `compare` over images (each the mean
    over nets), Holm-corrected over all lines."""
    lines, values, pairs = [], {}, []
    for (method, metric), part in rows.groupby(["method", "metric"], sort=False):
        of = {name: study.wide(part[part["trained"] == name]) for name in ("without", "with")}
        change = study.over_nets((of["with"] - of["without"]).to_numpy(), DIFFERENCE)
        line = {name: float(np.nanmean(wide)) if wide.notna().to_numpy().any() else np.nan for name, wide in of.items()}
        lines.append(dict(method=method, metric=metric) | line | {"change": change["mean"], **ends(change)})
        pairs.append(tuple(f"{method}, {metric}, {name}" for name in ("with", "without")))
        values |= dict(zip(pairs[-1], (of["with"].mean(axis=1), of["without"].mean(axis=1)), strict=True))
    tested = compare(pd.DataFrame(values), pairs)[["p_holm", "rank_biserial"]]
    return pd.concat([pd.DataFrame(lines), tested], axis=1)


def ends(found: dict[str, float]) -> dict[str, float]:
    return {name: found[name] for name in ("low", "high", "nets", "count", "empty")}


def page(table: pd.DataFrame, accuracies: dict[str, list[float]], options: GradientTrainingRun) -> str:
    reached = "; ".join(f"{name} {', '.join(f'{a:.1%}' for a in of)}" for name, of in accuracies.items())
    sure = table[table["p_holm"] < 0.05]
    told = ", ".join(
        f"`{m}` of {k} ({c:+.3f})" for m, k, c in zip(sure["metric"], sure["method"], sure["change"], strict=True)
    )
    clear = table[(table["low"] > 0) | (table["high"] < 0)]
    return f"""# What training for interpretable gradients does to maps

{study.made_by(NAME, options)}

{options.seeds} nets each way, trained on {options.train_count} images for {options.epochs} epochs with the regulariser at weight
{options.weight:g} and without it, from equal weights and in an equal order of images. Held-out accuracy: {reached}.
Measured on the image on {options.images} images of `stack_mix`, explaining the label. Changes are with less without on the same image
and seed, with 95 % intervals over images and nets (crossed); p is Wilcoxon's over images (each the mean over nets), Holm-corrected
over all {len(table)} lines, and says nothing about other nets; the effect is the rank-biserial correlation.

The interval over nets leaves 0 out in {len(clear)} of {len(table)} lines; by p below 0.05: {told or "none"}.

{markdown(["method", "metric", "without", "with", "change", "p (Holm)", "effect"], lines_of(table))}

![Change of each metric by method]({NAME}.png)
"""


def lines_of(table: pd.DataFrame) -> list[list[str]]:
    return [
        [
            line["method"],
            arrowed(line["metric"]),
            f"{line['without']:.3f}",
            f"{line['with']:.3f}",
            study.span(line["change"], line["low"], line["high"]),
            f"{line['p_holm']:.2g}",
            f"{line['rank_biserial']:+.2f}",
        ]
        for _, line in table.iterrows()
    ]


if __name__ == "__main__":
    flags.script(f"experiments.{NAME}", main, GradientTrainingRun)

"""Two-sided truth: what does a method show that is not there, and what does it miss that is?

    python -m experiments.two_sided            32 px, three nets of each kind, one thread: some twenty minutes
    python -m experiments.two_sided --full     on a GPU

A map that says nothing leaks nothing. On nets whose head is one linear layer, on the map averaged or flattened, what each cell
adds to the logit is known exactly, logit = bias + sum_u c(u), c(u) = sum_k W_k(u) A_k(u), and 0 behind the wall. Every method with a
map of cells is held against it: leakage (share of positive attribution on unseen cells), `missed` and `precision` (of c > 0),
agreement of signs and of ranks, and how much of the map is bright. Leaves rows.parquet in --out (one row per net, image, method
and metric), and two_sided.md, .png and .json in --docs.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments import flags, small_nets, study
from experiments.small_nets import Recipe
from experiments.study import markdown
from wallcheck import plots
from wallcheck.auditing import Incomplete, audit
from wallcheck.cams import METHODS, called
from wallcheck.metrics import TRUTH
from wallcheck.models import BlindNet
from wallcheck.tables import EVERYWHERE

NAME = "two_sided"
HEADS = {"pooled": dict(pooled=True), "flat": dict(pooled=False)}
CELLS = dict(
    plan=(8, 16, "M", 24, "M", 64), hidden=(), wall=4
)  # 8 x 8 cells, half of them and a quarter of the pixels unseen
MEASURES = ("leak_mass", *TRUTH)
CLEAN, LITTLE, MUCH = 0.005, 0.05, 0.25  # what is told as no leakage, as hardly anything missed, as much
FULL = dict(seeds=10, images=200, train_count=20000, epochs=15)


@dataclass(frozen=True)
class TwoSidedRun(study.NetsRun):
    """Methods against what each cell adds to the logit.

    Args:
        methods: names of methods; all that have a map of cells if none are given.
        images: STACK-MIX images, two of one class, the seam at the wall.
    """

    methods: list[str] = field(default_factory=list)
    images: int = 12
    out: str = "runs/two_sided"


def main(given: TwoSidedRun) -> None:
    study.run(NAME, given, FULL, every, answer)


def answer(rows: pd.DataFrame, options: TwoSidedRun) -> tuple[Figure, str, dict[str, object]]:
    """Figure, page and what is kept of the answer."""
    table, nets = summary(rows), accuracies(options)
    return figure(table), page(table, nets, options), dict(nets=nets, truth=table)


def recipes(options: TwoSidedRun) -> Iterator[tuple[str, str, Recipe]]:
    """(head, state, recipe) of every net."""
    for head, changes in HEADS.items():
        base = replace(options.recipe, **CELLS, **changes)
        for state, epochs in (("untrained", 0), ("trained", options.epochs)):
            for recipe in small_nets.seeds_of(replace(base, epochs=epochs), options.seeds):
                yield head, state, recipe


# -- measuring ------------------------------------------------------------------------------------


def every(options: TwoSidedRun, out: Path, tell: study.Tell) -> Iterator[pd.DataFrame]:
    """head, state, seed, image, method, metric, value; each method's part of a net is kept when it is done."""
    work = list(recipes(options))
    for number, (head, state, recipe) in enumerate(work):
        net = small_nets.trained(recipe, Path(options.nets))
        methods = asked(net, options)
        for place, method in enumerate(methods):
            total = len(work) * len(methods)
            tell(number * len(methods) + place, total, f"{head} head, {state}, seed {recipe.seed}: {method}")
            path = out / "parts" / recipe.digest / f"{method}.parquet"
            table = study.kept(path, lambda n=net, r=recipe, m=method: measured(n, r, m, options))
            yield table.assign(head=head, state=state, seed=recipe.seed)


def asked(net: BlindNet, options: TwoSidedRun) -> list[str]:
    """The methods that are defined on the net and give a map of cells."""
    names = options.methods or list(METHODS)
    return [name for name in names if METHODS[name].grid == "cells" and not METHODS[name].refuses(net)]


def measured(net: BlindNet, recipe: Recipe, method: str, options: TwoSidedRun) -> pd.DataFrame:
    """image, method, metric, value of one method; no rows for images that it gives no map for."""
    images = small_nets.image_set("stack_mix", options.images, recipe, Path(options.nets)).images()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Incomplete)  # told on the page, by the images that are left
        rows = audit(net, images, method, metrics=list(MEASURES), batch_size=len(images))
    rows = rows[(rows["metric"] != "leak_mass") | ((rows["view"] == "rectified") & (rows["on"] == "grid"))]
    return rows[["image", "method", "metric", "value"]].astype({"method": str, "metric": str}).reset_index(drop=True)


def accuracies(options: TwoSidedRun) -> pd.DataFrame:
    """head, seed, accuracy of the trained nets on held-out images."""
    found = [
        dict(head=head, seed=recipe.seed, accuracy=small_nets.accuracy(recipe, Path(options.nets)))
        for head, state, recipe in recipes(options)
        if state == "trained"
    ]
    return pd.DataFrame(found)


# -- telling --------------------------------------------------------------------------------------


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """head, state, method, metric and `over_nets` of each."""
    by = ["head", "state", "method", "metric"]
    parts = [
        study.crossed_by(part, by, (-1.0, 1.0) if metric == "rank_agreement" else (0.0, 1.0))
        for metric, part in rows.groupby("metric", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def means(table: pd.DataFrame, head: str, state: str = "trained") -> pd.DataFrame:
    """Methods by metrics."""
    part = table[(table["head"] == head) & (table["state"] == state)]
    return part.pivot(index="method", columns="metric", values="mean")


def figure(table: pd.DataFrame) -> Figure:
    """A panel for each head, trained."""
    return plots.two_sided(points(table), [f"{head} head, trained" for head in HEADS])


def points(table: pd.DataFrame) -> pd.DataFrame:
    """panel, method, leak_mass, missed."""
    panels = [
        means(table, head, state)[["leak_mass", "missed"]].reset_index().assign(panel=f"{head} head, {state}")
        for head in HEADS
        for state in dict.fromkeys(table["state"])
    ]
    return pd.concat(panels, ignore_index=True)


def table_of(table: pd.DataFrame, head: str) -> str:
    """One line per method on trained nets; beside them what is missed before training."""
    part = table[table["head"] == head].set_index(["state", "method", "metric"])
    lines = []
    for method in plots.in_order(table["method"].unique()):
        if ("trained", method, "missed") not in part.index:
            continue
        cells = [study.said(part.loc["trained", method, metric], ".2f") for metric in MEASURES]
        before = study.said(part.loc["untrained", method, "missed"], ".2f")
        family = METHODS[method].family if method in METHODS else "own"
        lines.append([method, family, *cells, before])
    return markdown(["method", "family", "leak_mass (cells)", *MEASURES[1:], "missed, untrained"], lines)


def page(table: pd.DataFrame, nets: pd.DataFrame, options: TwoSidedRun) -> str:
    parts = "\n\n".join(f"## {head.capitalize()} head, trained\n\n{table_of(table, head)}" for head in HEADS)
    told = "; ".join(
        f"{head} {part['accuracy'].min():.0%} to {part['accuracy'].max():.0%}" for head, part in nets.groupby("head")
    )
    return f"""# Two-sided truth: what is shown that is not there, and what is missed that is

{study.made_by(NAME, options)}

A map that is 0 everywhere has no leakage, so leakage alone does not tell a good map from an empty one. These nets have one linear
layer above the target layer, on the map averaged over seen cells (pooled) or flattened; so logit = bias + sum over cells of c(u),
c(u) = sum over channels of W_k(u) A_k(u), exactly, and c(u) = 0 behind the wall. Held-out accuracy: {told}. {options.images} STACK-MIX images and
{options.seeds} nets of each kind, the predicted class; means with 95 % intervals over both. 8 x 8 cells, the lower half unseen.

* `leak_mass`: share of positive attribution on unseen cells. `missed`: share of what speaks for the class, c > 0, on cells where the
  map shows nothing (S <= 0): one less recall. `precision`: share of positive attribution on cells with c > 0.
* `sign_agreement`: share of |c| on cells where the map has c's sign. `rank_agreement`: Spearman's correlation with c over all cells.
* `bright_area`: share of cells above half the maximum. A map that is bright on {EVERYWHERE:.0%} of its cells misses nothing, and tells nothing.

HiResCAM is c itself on such heads, and so are methods that come down to activation times gradient; what differs from 1 there is rounding.
Methods whose weights are the channels' (Grad-CAM and its kin) are exact on a pooled head up to the wall: they give unseen cells
what a seen cell with these activations would have. Where all cells that speak for a class are shown but so is the rest, a method
misses nothing and is not precise: read the columns together.

{verdict(table)}

![Leakage against what is missed](two_sided.png)

{parts}
"""


def verdict(table: pd.DataFrame) -> str:
    """Who is right on both sides, who is clean by saying little, who shows everything."""
    lines = []
    for head in HEADS:
        of = means(table, head)
        clean, leaks = of[of["leak_mass"].fillna(0) < CLEAN], of[of["leak_mass"] >= CLEAN]
        right, silent = clean[clean["missed"] < LITTLE], clean[clean["missed"] >= MUCH]
        everywhere = of[of["bright_area"] >= EVERYWHERE]
        lines.append(
            f"* {head} head: {len(clean)} of {len(of)} methods do not leak (below {CLEAN}). Of these {len(right)} miss less than {LITTLE:.0%} "
            f"of what speaks for the class, and {len(silent)} miss {MUCH:.0%} or more: {_named(silent)}. Of the {len(leaks)} that leak, "
            f"{int((leaks['missed'] < LITTLE).sum())} miss less than {LITTLE:.0%}. Bright everywhere in the mean: {_named(everywhere)}."
        )
    return "\n".join(lines)


def _named(of: pd.DataFrame) -> str:
    return ", ".join(f"{called(name)} ({of.loc[name, 'missed']:.2f})" for name in plots.in_order(of.index)) or "none"


if __name__ == "__main__":
    flags.script(f"experiments.{NAME}", main, TwoSidedRun)

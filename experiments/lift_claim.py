"""LIFT-CAM's claim: whose channel weights come nearest to exact SHAP values of the channels?

    python -m experiments.lift_claim            32 px, three nets of each kind, one thread: some ten minutes
    python -m experiments.lift_claim --full     on a GPU

SHAP's value of a channel is its mean gain to the logit over all orders in which channels are added to an empty map. With
--channels of them all 2^K sets are asked; for --many a sum over so many random orders stands in, told beside how well two
halves of it agree. Jung and Oh 2021 compare methods' weights with SHAP values so. Leaves rows.parquet in --out (one row per
net, image and method), and lift_claim.md, .png and .json in --docs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments import flags, small_nets, study
from experiments.small_nets import Recipe
from experiments.study import markdown
from wallcheck import plots
from wallcheck.cams.ablation.attribution import (
    PERMUTATIONS,
    exact_shap_weights,
    lift_weights,
    lime_weights,
    lrp_weights,
    sampled_shapley,
)
from wallcheck.cams.ablation.channels import ablation_drops
from wallcheck.cams.pooled.gradients import gradcam_weights, xgradcam_weights
from wallcheck.evidence import Evidence
from wallcheck.numerics import correlation, ratio

NAME = "lift_claim"
HEADS = {
    "linear": dict(hidden=()),
    "pooled": dict(hidden=(), pooled=True),
    "deep": dict(hidden=(64, 32)),
}
BLOCK = 32  # permutations at once: 32 x 257 x 256 presences are 8 MiB in single precision
WIDE = 64  # channels; the cost of an order goes with their square, so wider layers get fewer images and orders
FULL = dict(seeds=10, images=500, channels=12, orders=8192, train_count=20000, epochs=15)


@dataclass(frozen=True)
class LiftRun(study.NetsRun):
    """Channel weights against SHAP values of the channels.

    Args:
        channels: of the small target layer, all of whose sets are asked; at most 12.
        many: of larger target layers (deep heads), held against random orders.
        orders: random orders of the large layers' reference; half of them each time.
        images: held-out images; a sixth of them (6 at least), and a quarter of the orders, where a layer has more than 64
            channels.
    """

    channels: int = 10
    many: list[int] = field(default_factory=lambda: [64, 256])
    orders: int = 1024
    images: int = 40
    out: str = "runs/lift_claim"


def weight_functions(channels: int) -> dict[str, Callable[[Evidence], Tensor]]:
    """Method -> its channel weights (B, K): the methods' own functions, without the maps."""
    lime = {f"LIME, {n} K samples": lambda ev, n=n: lime_weights(ev, n * channels) for n in (1, 4, 16)}
    lime["LIME, 16 K, no penalty"] = lambda ev: lime_weights(ev, 16 * channels, alpha=0)
    return {
        "Grad-CAM": gradcam_weights,
        "XGrad-CAM": xgradcam_weights,
        "Ablation-CAM": ablation_drops,
        **lime,
        "LRP": lrp_weights,
        "LIFT": lift_weights,
        f"SHAP, {PERMUTATIONS} orders": lambda ev: sampled_shapley(ev, PERMUTATIONS),
    }


def main(given: LiftRun) -> None:
    study.run(NAME, given, FULL, every, answer)


def answer(rows: pd.DataFrame, options: LiftRun) -> tuple[Figure, str, dict[str, object]]:
    """Figure, page and what is kept of the answer."""
    table = summary(rows)
    return plots.shap_agreement(table), page(table, options), dict(agreement=table)


def recipes(options: LiftRun) -> Iterator[tuple[str, int, str, Recipe]]:
    """(head, channels, state, recipe) of every net."""
    kinds = [(head, options.channels) for head in HEADS] + [("deep", channels) for channels in options.many]
    for head, channels in kinds:
        base = replace(options.recipe, **HEADS[head]).with_last(channels)
        for state, epochs in (("untrained", 0), ("trained", options.epochs)):
            for recipe in small_nets.seeds_of(replace(base, epochs=epochs), options.seeds):
                yield head, channels, state, recipe


def every(options: LiftRun, out: Path, tell: study.Tell) -> Iterator[pd.DataFrame]:
    """head, channels, state, seed, image, method, correlation, cosine, error; each net's kept when it is done."""
    work = list(recipes(options))
    for number, (head, channels, state, recipe) in enumerate(work):
        tell(number, len(work), f"{head}, {channels} channels, {state}, seed {recipe.seed}")
        table = study.kept(out / "parts" / f"{recipe.digest}.parquet", lambda r=recipe: measured(r, options))
        yield table.assign(head=head, channels=channels, state=state, seed=recipe.seed)


def measured(recipe: Recipe, options: LiftRun) -> pd.DataFrame:
    """image, method, correlation, cosine, error of one net."""
    nets = Path(options.nets)
    count = options.images if recipe.plan[-1] <= WIDE else max(6, options.images // 6)
    images = small_nets.image_set("val", small_nets.HELD_OUT, recipe, nets).images(slice(0, count))
    ev = Evidence(small_nets.trained(recipe, nets), images)
    channels = ev.activations.shape[1]
    halves = (
        [exact_shap_weights(ev)] * 2 if channels <= options.channels else converged(ev, orders_of(channels, options))
    )
    truth = (halves[0] + halves[1]) / 2
    tables = [compared(function(ev), truth, name) for name, function in weight_functions(channels).items()]
    if channels > options.channels:
        tables.append(compared(halves[0], halves[1], HALVES))
    return pd.concat(tables, ignore_index=True)


def orders_of(channels: int, options: LiftRun) -> int:
    return options.orders if channels <= WIDE else options.orders // 4


HALVES = "reference: one half against the other"


def converged(ev: Evidence, orders: int) -> list[Tensor]:
    """Two independent estimates (B, K) of SHAP values, from half of the orders each."""
    halves = []
    for half in range(2):
        blocks = range(0, orders // 2, BLOCK)
        salts = [1000 + half * len(blocks) + block for block in range(len(blocks))]
        halves.append(torch.stack([sampled_shapley(ev, BLOCK, salt).double() for salt in salts]).mean(0))
    return halves


def compared(weights: Tensor, truth: Tensor, name: str) -> pd.DataFrame:
    """Pearson's r and cosine of weights with the truth, both (B, K), and |w - t| / |t|; NaN where all weights are 0, which
    have no direction."""
    w, t = weights.double(), truth.double()
    norms = w.norm(dim=1) * t.norm(dim=1)
    cosine = ratio((w * t).sum(1), norms).masked_fill(norms == 0, torch.nan)
    error = ratio((w - t).norm(dim=1), t.norm(dim=1)).masked_fill(t.norm(dim=1) == 0, torch.nan)
    found = dict(correlation=correlation(w, t), cosine=cosine, error=error)
    columns = {key: value.cpu().numpy() for key, value in found.items()}
    return pd.DataFrame(dict(image=range(len(w)), method=name) | columns)


# -- telling --------------------------------------------------------------------------------------

MEASURES = ("correlation", "cosine", "error")


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """head, channels, state, method, measure and `over_nets` of each."""
    long = rows.melt(
        id_vars=["head", "channels", "state", "seed", "image", "method"], value_vars=MEASURES, var_name="measure"
    )
    by, ends = ["head", "channels", "state", "method", "measure"], {"error": (0.0, np.inf)}
    parts = [
        study.crossed_by(part, by, ends.get(name, (-1.0, 1.0))) for name, part in long.groupby("measure", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def table_of(table: pd.DataFrame, head: str, channels: int) -> str:
    part = table[(table["head"] == head) & (table["channels"] == channels)]
    states = list(dict.fromkeys(part["state"]))
    lines = []
    for method in dict.fromkeys(part["method"]):
        cells = []
        for state in states:
            of = part[(part["method"] == method) & (part["state"] == state)].set_index("measure")
            cells += [study.said(of.loc[measure]) for measure in MEASURES]
        lines.append([method, *cells])
    return markdown(["weights", *(f"{state}: {measure}" for state in states for measure in MEASURES)], lines)


def page(table: pd.DataFrame, options: LiftRun) -> str:
    kinds = list(dict.fromkeys(zip(table["head"], table["channels"], strict=True)))
    parts = "\n\n".join(
        f"## {titled(table, head, channels, options)}\n\n{table_of(table, head, channels)}" for head, channels in kinds
    )
    return f"""# LIFT-CAM's claim: channel weights against SHAP values

{study.made_by(NAME, options)}

Means over held-out images (their number stands in each heading) and {options.seeds} nets with 95 % intervals over both (nets and images crossed), of
the predicted class. SHAP's value of a channel is its mean gain to the logit over all orders of channels, exactly over all
2^{options.channels} sets for {options.channels} channels. Correlation and cosine are over the channels of an image; the error is
|w - SHAP| / |SHAP|, which also asks for SHAP's scale: Grad-CAM and XGrad-CAM have another one (a slope, not a gain). Where all
weights are 0 there is no direction: told as empty. LIME-CAM's Lasso has its penalty of 0.01 in units of the logit, and an
untrained net's channels move it by less.

{verdict(table, options)}

![Cosine of channel weights with SHAP values](lift_claim.png)

{parts}
"""


def titled(table: pd.DataFrame, head: str, channels: int, options: LiftRun) -> str:
    of = table[(table["head"] == head) & (table["channels"] == channels)]
    truth = "exact" if channels <= options.channels else f"by {orders_of(channels, options)} random orders"
    return f"{head.capitalize()} head, {channels} channels, SHAP {truth}; {of['count'].max()} images, {of['nets'].max()} nets"


def verdict(table: pd.DataFrame, options: LiftRun) -> str:
    """What the claim comes to on each kind of net: who is nearest by cosine, and where LIFT stands."""
    lines = []
    chosen = table[(table["measure"] == "cosine") & (table["method"] != HALVES)]
    for (head, channels, state), part in chosen.groupby(["head", "channels", "state"], sort=False):
        order = part.sort_values("mean", ascending=False)
        cheap = order[~order["method"].str.startswith("SHAP")]
        means = part.set_index("method")["mean"]
        lines.append(
            f"* {head} head, {channels} channels, {state}: nearest by cosine, SHAP's own sampling aside: "
            f"{', '.join(nearest(cheap))} ({cheap['mean'].iloc[0]:.3f}); LIFT {means['LIFT']:.3f}, Ablation-CAM "
            f"{means['Ablation-CAM']:.3f}, Grad-CAM {means['Grad-CAM']:.3f}."
        )
    return "\n".join(lines)


def nearest(ordered: pd.DataFrame) -> list[str]:
    """The best, and what equals it to rounding."""
    return list(ordered.loc[ordered["mean"] >= ordered["mean"].iloc[0] - 1e-6, "method"])


if __name__ == "__main__":
    flags.script(f"experiments.{NAME}", main, LiftRun)

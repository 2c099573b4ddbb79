"""DiPart's question: four images stacked two by two, the head reads one; how much of a map lies inside it?

    python -m experiments.quadrants            four tiles of 32 px, two nets, one thread: some fifteen minutes
    python -m experiments.quadrants --full     on a GPU

A net without a wall is trained on single images. Then the same features run on four tiles at once, and what stands above a cut layer
is handed one quadrant of it, each in turn, as if that were an image: a head wall whose seen cells are the quadrant. The other three
show other classes, each told with confidence by the net when alone. Three cuts: the last three layers that differ in resolution.
Every cheap method that is defined at all three explains the class of the quadrant that is seen. Leaves rows.parquet in --out (one row
per net, cut, quadrant, image and method, with its map), and quadrants.md, .png and .json in --docs: a table, and the mean maps of
percentiles, images in the order of the share inside (AggAtt), instead of chosen ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments import flags, small_nets, study
from experiments.blind_metrics import cheap
from experiments.quadrant_nets import SURE, behind, cuts, stacked
from experiments.small_nets import Recipe
from experiments.study import markdown
from wallcheck import plots
from wallcheck.cams import METHODS, PAPER, called
from wallcheck.certificate import certify
from wallcheck.evidence import Evidence
from wallcheck.guarding import each
from wallcheck.maps import rectify
from wallcheck.models import BlindNet
from wallcheck.numerics import probabilities

NAME = "quadrants"
QUADRANTS = ("top left", "top right", "bottom left", "bottom right")
BINS = (0, 5, 50, 95, 100)  # percentiles of the share inside
FULL = dict(seeds=5, images=200, train_count=20000, epochs=15)


@dataclass(frozen=True)
class QuadrantRun(study.NetsRun):
    """Each quadrant of a stacked image in turn is the seen one.

    Args:
        methods: names of methods; every cheap one with a map of cells if none are given.
        images: stacked images; each is asked four times, once for each quadrant.
    """

    methods: list[str] = field(default_factory=list)
    seeds: int = 2
    images: int = 12
    train_count: int = 4000
    epochs: int = 8
    out: str = "runs/quadrants"


def main(given: QuadrantRun) -> None:
    study.run(NAME, given, FULL, every, answer)


def answer(rows: pd.DataFrame, options: QuadrantRun) -> tuple[Figure, str, dict[str, object]]:
    """Figure, page and what is kept of the answer."""
    nets = pd.concat(
        [
            study.kept(Path(options.out) / "nets" / f"{r.digest}.parquet", lambda r=r: of_net(r, options))
            for r in recipes(options)
        ]
    )
    table = summary(rows)
    deepest = rows[rows["depth"] == rows["depth"].max()]
    shown = [name for name in PAPER if name in set(rows["method"])] or list(dict.fromkeys(rows["method"]))[:8]
    figure = plots.aggregated({name: pictures(deepest[deepest["method"] == name]) for name in shown})
    return figure, page(table, nets, options), dict(nets=nets, inside=table)


def recipes(options: QuadrantRun) -> list[Recipe]:
    """Nets without a wall, on single images."""
    return small_nets.seeds_of(replace(options.recipe, wall=0), options.seeds)


# -- measuring ------------------------------------------------------------------------------------


def every(options: QuadrantRun, out: Path, tell: study.Tell) -> Iterator[pd.DataFrame]:
    """seed, depth, quadrant, image, method, inside, map; the part of a net, cut and quadrant is kept when it is done."""
    nets, work = recipes(options), 3 * len(QUADRANTS)
    for number, recipe in enumerate(nets):
        tell(number * work, len(nets) * work, f"seed {recipe.seed}: training")
        net = small_nets.trained(recipe, Path(options.nets))
        asked = None
        for place in range(work):
            depth, quadrant = divmod(place, len(QUADRANTS))
            tell(number * work + place, len(nets) * work, f"seed {recipe.seed}: cut {depth + 1}, {QUADRANTS[quadrant]}")
            path = out / "parts" / f"{recipe.digest}-{depth}-{quadrant}.parquet"
            if not path.is_file() and asked is None:
                asked = stacked(net, recipe, options.images, Path(options.nets)), chosen_methods(net, options)
            yield study.kept(path, lambda n=net, d=depth, q=quadrant, a=asked: measured(n, d, q, *a)).assign(
                seed=recipe.seed, depth=depth, quadrant=quadrant
            )


def chosen_methods(net: BlindNet, options: QuadrantRun) -> list[str]:
    """What is defined at every cut: only then are methods compared at equal layers."""
    walled = [behind(net, cut, 0) for cut in cuts(net)]
    names = options.methods or [method.name for method in cheap(walled[0])]
    return [
        name
        for name in names
        if METHODS[name].grid == "cells" and not any(METHODS[name].refuses(one) for one in walled)
    ]


def measured(
    net: BlindNet, depth: int, quadrant: int, images: tuple[Tensor, Tensor], methods: list[str]
) -> pd.DataFrame:
    """image, method, inside (share of positive attribution on the seen quadrant; NaN for an empty map) and the map: rectified, as
    shares of its sum, turned so that the seen quadrant is the top left one."""
    walled = behind(net, cuts(net)[depth], quadrant)
    certify(walled).raise_if_broken()
    pixels, classes = images
    ev, tables = Evidence(walled, pixels, classes[:, quadrant]), []
    for name in methods:
        kept, values, _ = each(METHODS[name], ev, lambda raw, _: [shares(raw, quadrant)])
        if kept:
            half, cells = len(ev.unseen) // 2, values[0].unflatten(1, ev.unseen.shape).clone()
            cells[:, :half, :half] *= 0  # what is 0 outside is 1 inside, to the bit; an empty map stays NaN
            inside = 1 - cells.sum((1, 2))
            columns = dict(image=kept, inside=inside.cpu().numpy(), map=list(values[0].float().cpu().numpy()))
            tables.append(pd.DataFrame(columns).assign(method=name))
    return pd.concat(tables, ignore_index=True)


def shares(raw: Tensor, quadrant: int) -> Tensor:
    """(N, cells) of maps (N, h, w); NaN where nothing is positive.

    >>> shares(torch.tensor([[[0.0, 3.0], [1.0, -5.0]]]), quadrant=1)
    tensor([[0.7500, 0.0000, 0.0000, 0.2500]], dtype=torch.float64)
    """
    below, right = divmod(quadrant, 2)
    turned = rectify(raw.double()).flip([axis for axis, other in ((1, below), (2, right)) if other])
    total = turned.sum((1, 2), keepdim=True)
    return (turned / total.where(total > 0, torch.nan)).flatten(1)


def of_net(recipe: Recipe, options: QuadrantRun) -> pd.DataFrame:
    """seed, accuracy alone; per cut: cells a side, shares of unseen pixels and of the halo, and how often, and how surely, the walled
    net tells the class of the quadrant that it sees."""
    net, found = small_nets.trained(recipe, Path(options.nets)), []
    pixels, classes = stacked(net, recipe, options.images, Path(options.nets))
    for depth, cut in enumerate(cuts(net)):
        right, sure = [], []
        for quadrant in range(len(QUADRANTS)):
            walled = behind(net, cut, quadrant)
            with torch.no_grad():
                own = probabilities(walled(pixels).double()).cpu()
            right.append((own.argmax(1) == classes[:, quadrant]).double().mean().item())
            sure.append(own.gather(1, classes[:, quadrant, None]).mean().item())
        regions, cells = walled.regions, walled.wall.seen.shape[0]
        places = dict(cells=cells, unseen=float(regions.unseen.mean()), halo=float(regions.halo.mean()))
        found.append(
            dict(seed=recipe.seed, depth=depth, **places, right=float(np.mean(right)), sure=float(np.mean(sure)))
        )
    return pd.DataFrame(found).assign(alone=small_nets.accuracy(recipe, Path(options.nets)))


# -- telling --------------------------------------------------------------------------------------


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """method, depth and `over_nets` of the share inside; an image asked about four quadrants counts as four."""
    asked = rows.assign(image=rows["image"] * len(QUADRANTS) + rows["quadrant"], value=rows["inside"])
    return study.crossed_by(asked, ["method", "depth"], (0.0, 1.0))


def pictures(rows: pd.DataFrame) -> list[tuple[str, np.ndarray]]:
    """(title, mean map (h, w)) of each bin of percentiles of the share inside, best first; empty maps are left out."""
    kept = rows[rows["inside"].notna()].sort_values("inside", ascending=False, kind="stable")
    edges = np.round(np.array(BINS) / 100 * len(kept)).astype(int)
    found = []
    for start, stop, (low, high) in zip(edges, np.maximum(edges[1:], edges[:-1] + 1), pairwise(BINS), strict=False):
        part = kept.iloc[start:stop]
        if len(part):
            maps = np.stack(part["map"].to_list()).astype(float)
            side = round(maps.shape[1] ** 0.5)
            found.append((f"{low}–{high} %: {part['inside'].mean():.2f}", maps.mean(0).reshape(side, side)))
    return found


def table_of(table: pd.DataFrame, nets: pd.DataFrame) -> str:
    depths = sorted(table["depth"].unique())
    cells = nets.groupby("depth")["cells"].first()
    of, lines = table.set_index(["method", "depth"]), []
    for method in plots.in_order(table["method"].unique()):
        shown = [
            study.said(of.loc[method, depth], ".2f") if (method, depth) in of.index else "no map" for depth in depths
        ]
        lines.append([method, METHODS[method].family, METHODS[method].verdict, *shown])
    return markdown(
        ["method", "family", "expected", *(f"{cells[depth]} x {cells[depth]} cells" for depth in depths)], lines
    )


def page(table: pd.DataFrame, nets: pd.DataFrame, options: QuadrantRun) -> str:
    return f"""# DiPart's question: how much of a map lies inside the quadrant that the head reads?

{study.made_by(NAME, options)}

Four rendered tiles of four classes, each told with confidence by the net when it stands alone (the surest {SURE} of each class); the
same net's features run on all four, and the layers above the cut are handed one quadrant of the map, proved to be all that
they see. {options.images} stacked images, each quadrant in turn, {options.seeds} nets; every cheap method that is defined at all three cuts, at equal layers,
for the class in the quadrant that is seen. `inside`: share of positive attribution on the seen quadrant's cells, one less leakage;
means with 95 % intervals over nets and images. A constant map has 0.25.

{nets_told(nets)}

{verdict(table)}

## What is and what is not new here

Rao, Böhle and Schiele (*Towards Better Understanding Attribution Methods*, CVPR 2022) asked this of ImageNet networks two years before
the paper that wallcheck began with. They stack images of distinct classes; in DiPart each classification head is handed the part
of the last map that belongs to one image, in DiFull the images do not meet in any layer. What is visible is then controlled, and
attribution outside it is impossible; they measure the share of positive attribution inside, compare methods at equal layers, and
show images by percentiles of it (AggAtt) instead of chosen ones. The table and the figure here put their question to wallcheck's nets.
wallcheck differs in four things. *Proof*: what is unseen is proved on the graph that runs, pixel by pixel, for every weight and input,
and an audit refuses a net whose wall does not hold. *Halo*: behind a shared backbone a seen cell looks past the border (DiPart's heads
do too), so pixels between are neither seen nor unseen and are left out of pixel counts. *Theory*: why a method leaks follows from
its formula, and how much at initialisation is computed exactly. *Repairs*: what makes a method blind behind the wall, and what
that costs.

![Mean maps by percentiles of the share inside](quadrants.png)

Maps of the deepest cut, as shares of their sum, turned so that the seen quadrant is the top left one (outlined); columns: percentiles
of the images by the share inside, the best first, and the mean share of each.

## Share inside, by method and cut

{table_of(table, nets)}
"""


def nets_told(nets: pd.DataFrame) -> str:
    means = nets.groupby("depth").mean(numeric_only=True)
    lines = [
        f"* {one.cells:.0f} x {one.cells:.0f} cells: {one.unseen:.0%} of the pixels unseen, {one.halo:.0%} halo; the walled net names the class of the "
        f"seen quadrant in {one.right:.0%} of cases, with a mean probability of {one.sure:.2f}."
        for one in means.itertuples()
    ]
    return "\n".join(
        [f"Alone, the nets name {nets['alone'].min():.0%} to {nets['alone'].max():.0%} of held-out images.", "", *lines]
    )


def verdict(table: pd.DataFrame) -> str:
    """Who is exactly inside at every cut, and who gains or loses most from shallow to deep."""
    wide = table.pivot(index="method", columns="depth", values="mean")
    exact, rest = wide[(wide == 1).all(axis=1)], wide[~(wide == 1).all(axis=1)].dropna()
    told = f"Exactly inside at every cut: {', '.join(map(called, plots.in_order(exact.index))) or 'none'}."
    if len(rest):
        first, last = rest.iloc[:, 0], rest.iloc[:, -1]
        change = last - first
        moved = change.abs().idxmax()
        told += (
            f" The other {len(rest)} have {first.mean():.2f} inside at the shallowest cut and {last.mean():.2f} at the deepest, "
            f"from {called(last.idxmin())} ({last.min():.2f}) to {called(last.idxmax())} ({last.max():.2f}); "
            f"the cut moves {called(moved)} most ({change[moved]:+.2f})."
        )
    return told


if __name__ == "__main__":
    flags.script(f"experiments.{NAME}", main, QuadrantRun)

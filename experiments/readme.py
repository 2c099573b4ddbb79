"""Bring the README's figures up to date from a finished run.

    python -m experiments.readme --run runs/reproduce
    python -m experiments.readme --all_methods runs/every --pooled runs/every_pooled --benchmark runs/benchmark

Replaces what stands between <!-- NAME --> and <!-- /NAME --> in README.md by tables made from the runs' rows, and
copies their figures and the benchmark's page into docs/. Nothing in those places is written by hand.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments import flags
from experiments.benchmark.duels import Duel
from experiments.markdown import markdown
from wallcheck.cams import METHODS, PAPER, Method
from wallcheck.results import merge
from wallcheck.statistics import interval, told
from wallcheck.writing import beside, write_text

FIGURES = ("main", "leakage", "prediction", "sources", "controls", "training")
TOLD = {
    "ablationcam_published": ["pytorch_grad_cam.AblationCAM"],
    "scorecam": ["pytorch_grad_cam.ScoreCAM"],
    "scorecam_torchcam": ["torchcam.ScoreCAM"],
}
NETS = {"walled": "trained", "untrained": "untrained"}
SETS = {"stack_mix": "STACK-MIX", "stack_gen": "STACK-GEN"}


@dataclass(frozen=True)
class Update:
    """Bring the README up to date.

    Args:
        run: folder of a finished python -m experiments.reproduce.
        all_methods: folder of a finished audit of every method, for the longer table; left alone if not given.
        pooled: folder of the same audit on vgg_small_pooled, for methods that ask for a pooled head.
        benchmark: folder of a finished benchmark; left alone if not given.
        readme: the file to bring up to date.
    """

    run: str = "runs/reproduce"
    all_methods: str | None = None
    pooled: str | None = None
    benchmark: str | None = None
    readme: str = "README.md"


def main(options: Update) -> None:
    readme = Path(options.readme)
    text = replaced(readme.read_text(), "paper-table", paper_table(merge(options.run)))
    figures = [Path(options.run, "figures", f"{name}.png") for name in FIGURES]
    if options.all_methods:
        pooled = merge(options.pooled) if options.pooled else None
        text = replaced(text, "all-table", all_table(merge(options.all_methods), pooled))
        figures.append(Path(options.all_methods, "figures", "families.png"))
    if options.benchmark:
        kept = json.loads(Path(options.benchmark, "benchmark.json").read_text())
        text = replaced(text, "speed", "\n".join(speed(one) for one in kept["measured"]))
        figures += [Path(options.benchmark, f"benchmark.{kind}") for kind in ("md", "png")]
    missing = [path for path in figures if not path.is_file()]
    if missing:  # told before anything is replaced
        raise FileNotFoundError(
            f"{missing[0]} is missing; figures are drawn by python -m experiments.figures --run RUN --out RUN/figures"
        )
    write_text(readme, text)
    for path in figures:
        with beside(Path("docs") / path.name) as partial:
            shutil.copy(path, partial)


def paper_table(rows: pd.DataFrame) -> str:
    """The paper's eight methods and two controls on the trained walled net, with its twin as contrast."""
    heads = [
        "method",
        "family",
        *(f"{s}: mass on unseen cells" for s in SETS.values()),
        *(f"{s}: L2 share, displayed" for s in SETS.values()),
        "twin without a wall: mass there (STACK-MIX)",
    ]
    lines = []
    for name in [*PAPER, "constant", "random"]:
        mass = [cell(rows, "walled", s, name, "rectified", "grid", "leak_mass") for s in SETS]
        shown = [cell(rows, "walled", s, name, "displayed", "image", "leak_l2") for s in SETS]
        twin = cell(rows, "unwalled", "stack_mix", name, "rectified", "grid", "leak_mass")
        lines.append([name, METHODS[name].family, *mass, *shown, twin])
    return markdown(heads, lines)


def all_table(rows: pd.DataFrame, pooled: pd.DataFrame | None = None) -> str:
    """Every method on the trained walled net and on the same net before training; a method that is defined on a pooled
    head only, on a net with one."""
    heads = [
        "method",
        "family",
        "cost",
        "expected",
        *(f"{s}: mass on unseen cells" for s in SETS.values()),
        *(f"maps with any, {label}{images_of(rows, net)}" for net, label in NETS.items()),
    ]
    lines, elsewhere = [], set() if pooled is None else set(pooled["method"].unique())
    present = set(rows["method"].unique())
    for method in METHODS.values():
        if method.name in present:
            lines.append([method.name, *described(method, rows)])
        elif method.name in elsewhere:
            lines.append([f"{method.name} (pooled head)", *described(method, pooled)])
    missing = sorted(set(METHODS) - present - elsewhere)
    told = f"\n\nDefined on smaller nets only, and tested there: {', '.join(missing)}." if missing else ""
    return markdown(heads, lines) + told


def images_of(rows: pd.DataFrame, net: str) -> str:
    """How many images, where an audit that was stopped has fewer of this net than of the walled one."""
    counts = rows[rows["images"] == "stack_mix"].groupby("net")["image"].nunique()
    return "" if counts[net] == counts["walled"] else f" (first {counts[net]} images)"


def described(method: Method, rows: pd.DataFrame) -> list[str]:
    """One line of the long table, but for the name."""
    on = "grid" if method.grid == "cells" else "image"
    mass = [cell(rows, "walled", s, method.name, "rectified", on, "leak_mass") for s in SETS]
    anywhere = [pick(rows, net, "stack_mix", method.name, "rectified", on, "leak_any") for net in NETS]
    return [method.family, method.cost, method.verdict, *mass, *(told(interval(a), ".0%") for a in anywhere)]


def speed(measured: dict) -> str:
    """What one net's benchmark says in a line."""
    duels = {(d["name"].split(",")[0], d["against"]): Duel(**d) for d in measured["duels"]}
    forward = duels["cheap suite", "one forward to the target layer"]
    (same,) = (d for (_, against), d in duels.items() if against == "pytorch-grad-cam, one after another")
    facts = [f"{forward.name} (one forward, one head-backward) together take {forward.share} of one forward"]
    facts.append(f"{same.name} {same.speedup} times faster than its own one after another")
    for name, against in TOLD.items():
        for library in against:
            found = duels.get((name, library))
            if found and found.ours:
                facts.append(f"`{name}` {found.speedup} times faster than {library}")
    threads = f"{measured['threads']} thread{'s' * (measured['threads'] > 1)}"
    memory = f"; memory of the suite {measured['memory']['cheap suite']:.0f} MiB" if measured["memory"] else ""
    return f"* `{measured['net']}`, {measured['device']}, {threads}: {', '.join(facts)}{memory}."


def cell(rows: pd.DataFrame, *where: str) -> str:
    """mean [95 % interval] of one group of rows, and the share of empty maps."""
    return told(interval(pick(rows, *where)))


def pick(rows: pd.DataFrame, *where: str):
    chosen = pd.Series(True, index=rows.index)
    for column, value in zip(("net", "images", "method", "view", "on", "metric"), where, strict=True):
        chosen &= rows[column] == value
    return rows.loc[chosen, "value"].to_numpy()


def replaced(text: str, name: str, content: str) -> str:
    """text with what stands between the two marks of this name replaced; raises ValueError without them."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the README has no marks <!-- {name} --> ... <!-- /{name} -->; put them where the table goes")
    return pattern.sub(lambda marks: f"{marks[1]}{content}\n{marks[2]}", text)


if __name__ == "__main__":
    flags.script("experiments.readme", main, Update)

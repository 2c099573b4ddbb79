"""Bring the README's table, the page of methods, figures and docs/results up to date from finished runs.

    python -m experiments.readme --seeds runs/over_seeds --run runs/reproduce
    python -m experiments.readme --benchmark runs/benchmark

--seeds: what several trained nets say (python -m experiments.over_seeds) is kept in docs/results/over_seeds.json, with what
it was made by, and the tables of README.md and docs/methods.md are made of that file alone; docs/families.png shows every method on
the first of these nets. --run: figures of a finished python -m experiments.reproduce. --benchmark: its page, figure and numbers, and the lines
on speed of docs/results/index.md. What stands between <!-- NAME --> and <!-- /NAME --> is replaced; nothing there is written by hand.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from experiments import flags
from experiments.benchmark.duels import FORWARD
from experiments.benchmark.kept import Kept, Measured
from experiments.over_seeds import EVERY, PAPER, rows_of
from experiments.study import markdown
from wallcheck import cams, plots
from wallcheck.cams import METHODS, called
from wallcheck.metrics import named
from wallcheck.results import open_rows
from wallcheck.statistics import over_nets, told
from wallcheck.writing import beside, write_text

FIGURES = ("main", "leakage", "prediction", "sources", "controls", "training")
TOLD = {
    "ablationcam_published": ["pytorch_grad_cam.AblationCAM"],
    "scorecam": ["pytorch_grad_cam.ScoreCAM"],
    "scorecam_torchcam": ["torchcam.ScoreCAM"],
}
SETS = {"stack_mix": "STACK-MIX", "stack_gen": "STACK-GEN"}
KEPT, SPEED = "results/over_seeds.json", "results/index.md"
NOT_KNOWN: dict[str, float] = {}


@dataclass(frozen=True)
class Update:
    """Bring README and docs up to date.

    Args:
        seeds: folder of a finished python -m experiments.over_seeds; tables are left alone if not given.
        run: folder of a finished python -m experiments.reproduce; its figures are left alone if not given.
        benchmark: folder of a finished benchmark; left alone if not given.
        readme: the file to bring up to date.
        docs: the folder of pages and figures.
    """

    seeds: str | None = None
    run: str | None = None
    benchmark: str | None = None
    readme: str = "README.md"
    docs: str = "docs"


def main(options: Update) -> None:
    readme, docs, copies = Path(options.readme), Path(options.docs), []
    text, pages = readme.read_text(encoding="utf-8"), {}
    if options.seeds:
        kept = measured(Path(options.seeds))
        text, pages["methods.md"] = with_tables(text, (docs / "methods.md").read_text(encoding="utf-8"), kept)
        pages[KEPT] = json.dumps(kept, indent=1) + "\n"
        if "every" in kept:
            copies.append(families(Path(options.seeds)))
    if options.run:
        copies += [Path(options.run, "figures", f"{name}.png") for name in FIGURES]
    if options.benchmark:
        lines = "\n".join(map(speed, Kept(options.benchmark).shown))
        pages[SPEED] = replaced((docs / SPEED).read_text(encoding="utf-8"), "speed", lines)
        copies += [Path(options.benchmark, f"benchmark.{kind}") for kind in ("md", "png", "jsonl")]
    missing = [path for path in copies if not path.is_file()]
    if missing:  # told before anything is replaced
        raise FileNotFoundError(
            f"{missing[0]} is missing; figures are drawn by python -m experiments.figures --run RUN --out RUN/figures"
        )
    for name, page in pages.items():
        write_text(docs / name, page)
    write_text(readme, text)
    docs.mkdir(exist_ok=True)
    for path in copies:
        with beside(docs / path.name) as partial:
            shutil.copy(path, partial)


def families(seeds: Path) -> Path:
    """Every method on the first seed's net, drawn into the folder of the seeds."""
    rows = open_rows(seeds / "seed-0" / EVERY)
    return plots.save(plots.families(rows), seeds / "figures" / "families")[1]


def measured(seeds: Path) -> dict:
    """What the tables show, and what it was made by: {"made", "paper", "every"}, each cell a `over_nets`."""
    if not (seeds / "nets.json").is_file():
        raise FileNotFoundError(
            f"{seeds} holds no nets.json; finish it with python -m experiments.over_seeds --out {seeds}"
        )
    made = json.loads((seeds / "nets.json").read_text(encoding="utf-8"))
    made["settings"].pop("out", None)  # a folder of the machine it was made on
    paper = rows_of(seeds, PAPER)
    names = [*cams.PAPER, "constant", "random"]
    found = {"made": made, "paper": {name: _paper_cells(paper, name) for name in names}}
    if made["settings"]["every"]:
        every = rows_of(seeds, EVERY)
        present = set(every["method"].unique())
        found["every"] = {name: _every_cells(every, name) for name in METHODS if name in present}
    return found


def _paper_cells(rows: pd.DataFrame, name: str) -> dict[str, dict]:
    cells = {
        f"{label}: mass on unseen cells": ("walled", s, "rectified", "grid", "leak_mass") for s, label in SETS.items()
    }
    cells |= {
        f"{label}: L2 share on unseen pixels, displayed": ("walled", s, "displayed", "image", "leak_l2")
        for s, label in SETS.items()
    }
    cells["twin without a wall: mass on those cells (STACK-MIX)"] = (
        "unwalled",
        "stack_mix",
        "rectified",
        "grid",
        "leak_mass",
    )
    cells["missed (STACK-MIX)"] = ("walled", "stack_mix", "raw", "grid", "missed")
    return {title: over(rows, name, *where) for title, where in cells.items()}


def _every_cells(rows: pd.DataFrame, name: str) -> dict[str, dict]:
    on = "grid" if METHODS[name].grid == "cells" else "image"
    cells = {f"{label}: mass on them": ("walled", s, "rectified", on, "leak_mass") for s, label in SETS.items()}
    cells |= {
        f"maps with any, {label}": (net, "stack_mix", "rectified", on, "leak_any")
        for net, label in {"walled": "trained", "untrained": "untrained"}.items()
    }
    cells["missed (STACK-MIX)"] = ("walled", "stack_mix", "raw", "grid", "missed")
    return {title: over(rows, name, *where) for title, where in cells.items()}


def over(rows: pd.DataFrame, method: str, net: str, images: str, view: str, on: str, metric: str) -> dict[str, float]:
    """Mean over nets and images with its interval, of one measure of one method; see `over_nets`. NOT_KNOWN where it was not
    measured."""
    chosen = np.ones(len(rows), dtype=bool)
    for column, value in dict(method=method, net=net, images=images, view=view, on=on, metric=metric).items():
        chosen &= (rows[column] == value).to_numpy()
    if not chosen.any():
        return NOT_KNOWN
    wide = rows[chosen].pivot_table(index="image", columns="seed", values="value", observed=True, dropna=False)
    return {
        key: None if isinstance(value, float) and np.isnan(value) else float(value)
        for key, value in over_nets(wide.to_numpy(), named(metric).bounds).items()
    }


def with_tables(text: str, page: str, kept: dict) -> tuple[str, str]:
    """README and page of methods with the tables that `kept` holds."""
    text = replaced(text, "paper-table", paper_table(kept))
    return text, replaced(page, "all-table", all_table(kept)) if "every" in kept else page


def paper_table(kept: dict) -> str:
    """The paper's eight methods and two controls on the trained walled nets, with their twins as contrast."""
    titles = told_in(kept["paper"])
    heads = ["method", "family", *titles]
    lines = [[name, METHODS[name].family, *(cell(cells[t]) for t in titles)] for name, cells in kept["paper"].items()]
    return f"{markdown(heads, lines)}\n\n{_of_what(kept, 'count')} {_of_truth(kept['paper'])}"


def all_table(kept: dict) -> str:
    """Every method on the trained walled nets and on the same nets before training."""
    titles = told_in(kept["every"])
    heads = ["method", "name", "family", "cost", "expected", "unseen", *titles]
    lines = []
    for name, cells in kept["every"].items():
        method = METHODS[name]
        shown = [cell(cells[title], ".0%" if title.startswith("maps with any") else ".3f") for title in titles]
        lines.append([name, f"`{name}`", method.family, method.cost, method.verdict, method.grid, *shown])
    missing = sorted(set(METHODS) - set(kept["every"]))
    rest = f"\n\nNot defined on this net, and tested on others: {', '.join(map(called, missing))}." if missing else ""
    return f"{markdown(heads, lines)}\n\n{_of_what(kept, 'every')} {_of_truth(kept['every'])}{rest}"


def told_in(table: dict[str, dict]) -> list[str]:
    """The columns that say something of any method."""
    titles = next(iter(table.values()))
    return [title for title in titles if any(cells[title] for cells in table.values())]


def _of_what(kept: dict, count: str) -> str:
    made = kept["made"]
    nets = [net["walled"]["validation_accuracy"] for net in made["nets"].values()]
    return (
        f"{len(nets)} nets trained from different seeds (validation accuracy {min(nets):.1%} to {max(nets):.1%}), the same "
        f"{made['settings'][count]} images of each set; mean and 95 % interval over nets and images, cut at the ends of the measure's scale. Made by `{made['command']}`, "
        f"torch {made['versions']['torch']}; kept with its manifest in docs/{KEPT}."
    )


def cell(found: dict, style: str = ".3f") -> str:
    """mean [95 % interval] of one measure, and the share of empty maps; nothing where it is not known."""
    if not found:
        return ""
    return told({key: np.nan if value is None else value for key, value in found.items()}, style)


def _of_truth(table: dict[str, dict]) -> str:
    """What the column `missed` says, or why it says nothing."""
    if any(cells.get("missed (STACK-MIX)") for cells in table.values()):
        return (
            "`missed`: share of what speaks for the class, cell by cell, on cells where the map shows nothing (an empty map leaks nothing "
            "and misses all)."
        )
    return (
        "An empty map leaks nothing. What a map misses is not told here, because these nets' heads do not add up over cells, so that what "
        "each adds has no one answer; on heads that do, `python -m experiments.two_sided`, docs/results/two_sided.md."
    )


def speed(measured: Measured) -> str:
    """What one net's benchmark says in a line."""
    duels, terms, facts = {(d.name.split(",")[0], d.against): d for d in measured.duels if d.ours}, measured.terms, []
    if forward := duels.get(("cheap suite", FORWARD)):
        facts.append(f"{forward.name} (one forward, one head-backward) together take {forward.share} of one forward")
    facts += [
        f"{found.name} {found.speedup} times faster than its own one after another"
        for (_, against), found in duels.items()
        if against == "pytorch-grad-cam, one after another"
    ]
    for name, against in TOLD.items():
        for library in against:
            if found := duels.get((name, library)):
                facts.append(f"`{name}` {found.speedup} times faster than {library}")
    threads = f"{terms.threads} thread{'s' * (terms.threads > 1)}"
    suite = measured.memory.get("cheap suite")
    memory = f"; memory of the suite {suite:.0f} MiB" if suite else ""
    return f"* `{terms.net}`, {terms.device}, {threads}: {', '.join(facts) or 'nothing told yet'}{memory}."


def replaced(text: str, name: str, content: str) -> str:
    """text with what stands between the two marks of this name replaced; raises ValueError without them."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"there are no marks <!-- {name} --> ... <!-- /{name} -->; put them where the table goes")
    return pattern.sub(lambda marks: f"{marks[1]}{content}\n{marks[2]}", text)


if __name__ == "__main__":
    flags.script("experiments.readme", main, Update)

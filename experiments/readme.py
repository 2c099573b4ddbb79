"""Bring the README's figures up to date from a finished run.

    python -m experiments.readme --run runs/reproduce

Replaces what stands between <!-- NAME --> and <!-- /NAME --> in README.md by tables made from the run's rows, and
copies its figures into docs/. Nothing in those places is written by hand.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments import flags
from wallcheck.cams import METHODS, PAPER
from wallcheck.results import interval, merge
from wallcheck.writing import write_text

FIGURES = ("main", "leakage", "prediction", "sources", "controls", "training")
SETS = {"stack_mix": "STACK-MIX", "stack_gen": "STACK-GEN"}


@dataclass(frozen=True)
class Update:
    """Bring the README up to date.

    Args:
        run: folder of a finished python -m experiments.reproduce.
        all_methods: folder of a finished audit of every method, for the longer table; left alone if not given.
        readme: the file to bring up to date.
    """

    run: str = "runs/reproduce"
    all_methods: str | None = None
    readme: str = "README.md"


def main(options: Update) -> None:
    readme = Path(options.readme)
    text = replaced(readme.read_text(), "paper-table", paper_table(merge(options.run)))
    if options.all_methods:
        text = replaced(text, "all-table", all_table(merge(options.all_methods)))
    write_text(readme, text)
    wanted = [Path(options.run, "figures", f"{name}.png") for name in FIGURES]
    if options.all_methods:
        wanted.append(Path(options.all_methods, "figures", "families.png"))
    for path in wanted:
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing; draw it with python -m experiments.figures --run {path.parents[1]}"
            )
        shutil.copy(path, Path("docs") / path.name)


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


def all_table(rows: pd.DataFrame) -> str:
    """Every method on the trained walled net."""
    heads = [
        "method",
        "family",
        "cost",
        "expected",
        *(f"{s}: mass on unseen cells" for s in SETS.values()),
        "maps with any",
    ]
    lines = []
    present = set(rows["method"].unique())
    for method in METHODS.values():
        if method.name in present:
            on = "grid" if method.grid == "cells" else "image"
            mass = [cell(rows, "walled", s, method.name, "rectified", on, "leak_mass") for s in SETS]
            any_ = pick(rows, "walled", "stack_mix", method.name, "rectified", on, "leak_any")
            lines.append(
                [method.name, method.family, method.cost, method.verdict, *mass, f"{interval(any_)['mean']:.0%}"]
            )
    return markdown(heads, lines)


def cell(rows: pd.DataFrame, *where: str) -> str:
    """mean [95 % interval] of one group of rows."""
    values = interval(pick(rows, *where))
    return f"{values['mean']:.3f} [{values['low']:.3f}, {values['high']:.3f}]"


def pick(rows: pd.DataFrame, *where: str):
    chosen = pd.Series(True, index=rows.index)
    for column, value in zip(("net", "images", "method", "view", "on", "metric"), where, strict=True):
        chosen &= rows[column] == value
    return rows.loc[chosen, "value"].to_numpy()


def markdown(heads: list[str], lines: list[list[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def replaced(text: str, name: str, content: str) -> str:
    """text with what stands between the two marks of this name replaced; raises ValueError without them."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the README has no marks <!-- {name} --> ... <!-- /{name} -->; put them where the table goes")
    return pattern.sub(lambda marks: f"{marks[1]}{content}\n{marks[2]}", text)


if __name__ == "__main__":
    flags.script("experiments.readme", main, Update)

"""Figures of published studies anew, from the tables in their JSON files: no net, no images, seconds.

    python -m experiments.redraw                                  every one of docs/results that can be drawn so
    python -m experiments.redraw --results docs/results/h200      those of another folder
    python -m experiments.redraw --only sealing two_sided

A study whose figure shows single images or maps keeps less than that in its JSON file; its own command draws it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from matplotlib.figure import Figure

from experiments import conceptor_forms, devices, flags, scale, sealing, two_sided
from wallcheck import plots
from wallcheck.writing import beside

Found = dict[str, pd.DataFrame]
FIGURES: dict[str, Callable[[Found], Figure]] = {
    "blind_metrics": lambda found: plots.blindness(found["painted"], found["ranks"]),
    "conceptor_claim": lambda found: plots.conceptor_gains(found["forms"], conceptor_forms.PLAIN),
    "dependence": lambda found: plots.dependence(found["leakage"]),
    "devices": lambda found: plots.devices(found["maps"], devices.BOUND),
    "gradient_training": lambda found: plots.paired_changes(found["changes"], "with the regulariser, less without"),
    "lift_claim": lambda found: plots.shap_agreement(found["agreement"]),
    "peers": lambda found: plots.peers(found["peers"]),
    "scale": lambda found: plots.scale(found["steps"], scale.LIMIT_GIB),
    "sealing": lambda found: plots.pareto(found["means"], sealing.FORMS),
    "two_sided": lambda found: two_sided.figure(found["truth"]),
}


@dataclass(frozen=True)
class Redraw:
    """Figures of published studies anew.

    Args:
        results: the folder of pages, figures and JSON files.
        only: names of studies; all that can be drawn so if none is given.
    """

    results: str = "docs/results"
    only: list[str] = field(default_factory=list)


def main(options: Redraw) -> None:
    folder = Path(options.results)
    if unknown := sorted(set(options.only) - set(FIGURES)):
        raise ValueError(f"{unknown[0]} cannot be drawn from its JSON file; one of {', '.join(FIGURES)}")
    names = options.only or [name for name in FIGURES if (folder / f"{name}.json").is_file()]
    if not names:
        raise FileNotFoundError(
            f"{folder} has no study that can be drawn anew; give the folder of its pages: --results"
        )
    for name in names:
        draw(name, folder)
        print(folder / f"{name}.png")


def draw(name: str, folder: Path) -> None:
    """NAME.png from NAME.json."""
    figure = FIGURES[name](tables_of(folder / f"{name}.json"))
    with TemporaryDirectory() as partial, beside(folder / f"{name}.png") as target:
        target.write_bytes(plots.save(figure, Path(partial) / name)[1].read_bytes())


def tables_of(path: Path) -> Found:
    """The tables that a study published; what else it published is left out."""
    found = json.loads(path.read_text(encoding="utf-8"))["found"]
    return {key: pd.DataFrame(columns) for key, columns in found.items() if is_table(columns)}


def is_table(value: object) -> bool:
    """Whether this is what `study.columns_of` makes of a table: columns of one length."""
    return isinstance(value, dict) and all(isinstance(column, list) for column in value.values())


if __name__ == "__main__":
    flags.script("experiments.redraw", main, Redraw)

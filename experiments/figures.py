"""Draw every figure that the inputs allow: from rows, kept examples and logs; no model is loaded.

    python -m experiments.figures --run runs/audit --training runs/walled runs/unwalled --theory runs/theory \\
        --out runs/figures
    python -m experiments.figures --run runs/audit --image 3        another image than the second in the main figure

--training and --theory may be left out: no curves, no theory. Leaves PDF and PNG of:
main (one image, raw maps and overlays), gallery, leakage (on cells) and leakage_displayed (the paper's ratio on
the displayed image), controls, sources, families, two_sided (leakage against what is missed, where the head tells), prediction (after experiments.prediction),
training; and theory's figures as theory_*.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from jsonargparse import ArgumentParser
from matplotlib.figure import Figure

from wallcheck import plots
from wallcheck.cams import PAPER
from wallcheck.results import Manifest, Rows, examples_of, open_rows, rows_of, summary
from wallcheck.writing import at_home, say


@dataclass(frozen=True)
class Inputs:
    """An audit's rows and folder, and what stands beside it.

    paper: the rows of the paper's methods and the controls; where the audit has none of the paper's, all rows.
    """

    run: Path
    rows: Rows
    paper: Rows
    net: str
    images: str
    image: int | None

    @classmethod
    def read(cls, run: str, image: int | None) -> "Inputs":
        """Raises FileNotFoundError where `run` is no finished or interrupted audit."""
        Manifest.load(Path(run))
        rows = open_rows(run)
        nets, sets = rows.unique("net"), rows.unique("images")
        methods = [m for m in rows.unique("method") if m in PAPER or plots.family_of(m) == "control"]
        paper = rows.select(method=methods) if set(methods) & set(PAPER) else rows
        net = "walled" if "walled" in nets else nets[0]
        images = "stack_mix" if "stack_mix" in sets else sets[0]
        return cls(Path(run), rows, paper, net, images, image)

    @property
    def kept(self) -> Path:
        return examples_of(self.run, self.net, self.images)


def figures_of_rows(inputs: Inputs) -> dict[str, Callable[[], Figure]]:
    """Name -> how to draw it, for what the rows hold."""
    drawn = {
        "leakage": partial(plots.leakage, inputs.paper),
        "leakage_displayed": partial(plots.leakage, inputs.paper, "leak_l2", "displayed", "image"),
        "sources": lambda: plots.sources(inputs.paper.split(), inputs.net),
        "families": partial(plots.families, inputs.rows, images=inputs.images, net=inputs.net),
    }
    predicted = inputs.run / "prediction.parquet"
    if predicted.is_file():
        drawn["prediction"] = partial(plots.prediction, pd.read_parquet(predicted))
    if "missed" in inputs.rows.unique("metric"):
        drawn["two_sided"] = lambda: plots.two_sided(sides_of(inputs.rows))
    if len(inputs.rows.unique("images")) > 1:
        drawn["controls"] = partial(plots.controls, inputs.paper, net=inputs.net)
    return drawn


def sides_of(rows: pd.DataFrame | Rows) -> pd.DataFrame:
    """panel, method, leak_mass, missed of nets that tell what is missed; a panel for each net and image set."""
    told = {("rectified", "grid", "leak_mass"), ("raw", "grid", "missed")}
    means = summary(rows_of(rows).where(lambda measure: measure[3:] in told))
    found = means.pivot(index=["net", "images", "method"], columns="metric", values="mean")
    found = found[found["missed"].notna()].reset_index()
    return found.assign(panel=found["net"] + ", " + found["images"])


def figures_of_examples(inputs: Inputs) -> dict[str, Callable[[], Figure]]:
    """The pictures, where the audit kept maps."""
    if not inputs.kept.is_file():
        print(f"no main figure and no gallery: {inputs.kept} was not kept")
        return {}
    examples = plots.Examples.load(inputs.kept)
    methods = [name for name in examples.maps if name in PAPER] or None
    image = min(1, len(examples.pixels) - 1) if inputs.image is None else inputs.image
    return {
        "main": partial(plots.main_figure, examples, image, methods),
        "gallery": partial(plots.gallery, examples, methods=methods),
    }


def draw_training(folders: Sequence[str], out: Path) -> list[Path]:
    logs = {Path(folder).resolve().name: plots.read_training(folder) for folder in folders}
    return plots.save(plots.training(logs), out / "training")


def copy_theory(folder: str, out: Path) -> list[Path]:
    """Theory draws its own figures; they are put beside the others."""
    found = sorted(path for path in (Path(folder) / "figures").glob("*") if path.suffix in (".png", ".svg", ".pdf"))
    if not found:
        raise FileNotFoundError(f"{folder} holds no figures/; run python -m theory --out {folder} first")
    out.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(path, out / f"theory_{path.name}")) for path in found]


def parser() -> ArgumentParser:
    built = ArgumentParser(prog="python -m experiments.figures", description=__doc__.splitlines()[0])
    built.add_argument("--run", type=str, default="runs/audit", help="run folder of an audit")
    built.add_argument("--training", type=str, nargs="*", default=[], help="training folders, or their metrics.csv")
    built.add_argument("--theory", type=str | None, default=None, help="the --out of python -m theory")
    built.add_argument(
        "--image",
        type=int | None,
        default=None,
        help="which kept image the main figure shows; the second if there is one",
    )
    built.add_argument("--out", type=str, default="runs/figures", help="where the figures go")
    return built


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    out = at_home(options.out)
    inputs = Inputs.read(str(at_home(options.run)), options.image)
    written = []
    for name, draw in (figures_of_examples(inputs) | figures_of_rows(inputs)).items():
        written += plots.save(draw(), out / name)
    if options.training:
        written += draw_training([at_home(folder) for folder in options.training], out)
    if options.theory:
        written += copy_theory(at_home(options.theory), out)
    print(f"drew into {out}: {', '.join(path.name for path in written)}")


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        say("")
    except (ValueError, OSError, LookupError) as error:
        sys.exit(f"experiments.figures: {error}")

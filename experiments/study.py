"""What every study does: claim a folder, keep what is finished, publish a page with its figure and its manifest."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.small_nets import Recipe
from wallcheck import plots
from wallcheck.cams import METHODS, called
from wallcheck.metrics import LEAKAGE, named
from wallcheck.results import Manifest, writable
from wallcheck.statistics import over_nets, percent
from wallcheck.terminal import progress_bar
from wallcheck.writing import beside, write_text

PLACES = ("out", "docs", "nets", "full")  # flags that no number depends on, or that stand for others


class Options(Protocol):
    """Flags with which a page is published."""

    out: str
    docs: str


@dataclass(frozen=True)
class StudyRun:
    """What the flags of every study on small nets hold; a study adds its own, and its default folder.

    Args:
        full: the settings for a GPU.
        nets: where nets are kept, for all studies.
        out: the run folder.
        docs: where the page, its figure and its manifest go.
    """

    full: bool = False
    nets: str = "runs/nets"
    out: str = "runs/study"
    docs: str = "docs/results"


@dataclass(frozen=True)
class NetsRun(StudyRun):
    """What a study holds that asks several small nets, drawn from seeds, about the same images.

    Args:
        seeds: nets of each kind.
        images: held-out images, another object below the wall.
        train_count: training images.
        epochs: of each training.
    """

    seeds: int = 3
    images: int = 20
    train_count: int = 2000
    epochs: int = 6

    @property
    def recipe(self) -> Recipe:
        """The training that these flags ask for."""
        return Recipe(train_count=self.train_count, epochs=self.epochs)


class Sized(Options, Protocol):
    """Flags of a study that has larger settings for a GPU."""

    full: bool


T = TypeVar("T", bound=Sized)
Tell = Callable[[int, int, str], None]


def run(
    name: str,
    given: T,
    larger: dict[str, object],
    every: Callable[[T, Path, Tell], Iterable[pd.DataFrame | tuple[pd.DataFrame, ...]]],
    answer: Callable[..., tuple[Figure, str, dict[str, object]]],
    tables: tuple[str, ...] = ("rows",),
) -> None:
    """A study from its flags to its page.

    given: the flags; larger: the settings for a GPU, those of `--full`. every: options, the run folder and a progress -> the rows,
    part by part; of several kinds a tuple each. tables: what these kinds are called; each is kept as a Parquet file. answer: all
    rows of each kind, and the options -> figure, page, and what the manifest keeps of the answer. Raises FileExistsError where the run folder holds a run of other settings.
    """
    options = in_full(given, larger)
    out, manifest = claimed(options)
    with progress_bar() as tell:
        parts = [part if isinstance(part, tuple) else (part,) for part in every(options, out, tell)]
    found = [pd.concat(some, ignore_index=True) for some in zip(*parts, strict=True)]
    for table, rows in zip(tables, found, strict=True):
        rows.to_parquet(out / f"{table}.parquet", index=False)
    figure, page, kept = answer(*found, options)
    publish(name, options, manifest, figure, page, kept)
    print(f"rows are in {out}, the page is {Path(options.docs) / (name + '.md')}")


def in_full(options: T, larger: dict[str, object]) -> T:
    """With `--full`, the settings for a GPU in place of those for two cores."""
    return replace(options, **larger) if options.full else options


def settings_of(options: Options) -> dict[str, object]:
    return {name: value for name, value in asdict(options).items() if name not in PLACES}


def claimed(options: Options) -> tuple[Path, Manifest]:
    """The run folder and its manifest, written or found again; FileExistsError where it holds a run of other settings."""
    out, manifest = writable(options.out), Manifest(config=settings_of(options))
    if manifest.claim(out):
        return out, manifest
    found, ours = Manifest.load(out), json.loads(json.dumps(manifest.config))
    other = [name for name in {**found.config, **ours} if found.config.get(name) != ours.get(name)]
    if other:
        told = f"{other[0]}: {found.config.get(other[0])} there, {ours.get(other[0])} here"
        raise FileExistsError(
            f"{out} holds a run of other settings ({told}); choose another --out or remove that folder"
        )
    return out, found


def kept(path: Path, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table at path, made now if it is not there: what is finished is never done again."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside(path) as partial:
            make().to_parquet(partial, index=False)
    return pd.read_parquet(path)


def publish(
    name: str, options: Options, manifest: Manifest, figure: Figure, page: str, found: dict[str, object]
) -> None:
    """NAME.md, NAME.png and NAME.json (settings, versions, figures; tables as columns, four digits) in --docs; the figure as PDF
    too in the run folder."""
    docs = Path(options.docs)
    docs.mkdir(parents=True, exist_ok=True)
    drawn = plots.save(figure, Path(options.out) / "figures" / name)
    shutil.copy(drawn[1], docs / f"{name}.png")
    write_text(docs / f"{name}.md", page)
    about = json.dumps(asdict(manifest), indent=1, default=str).rstrip("}\n")
    told = ",\n".join(f'  "{key}": {json.dumps(columns_of(value))}' for key, value in found.items())
    write_text(docs / f"{name}.json", f'{about},\n "found": {{\n{told}\n }}\n}}\n')


def columns_of(value: object) -> object:
    """A table as {column: values}, numbers rounded to four significant digits, none where there is none; else as it is.

    >>> columns_of(pd.DataFrame(dict(metric=["leak_mass"], mean=[0.123456])))
    {'metric': ['leak_mass'], 'mean': [0.1235]}
    """
    if not isinstance(value, pd.DataFrame):
        return value
    return {name: [rounded(one) for one in column.tolist()] for name, column in value.items()}


def rounded(value: object) -> object:
    if not isinstance(value, float):
        return value
    return None if np.isnan(value) else float(f"{value:.4g}")


def command(name: str, options: Options) -> str:
    """What to type to repeat it."""
    given = {name: value for name, value in settings_of(options).items() if value != []}
    words = " ".join(f"--{k} {' '.join(map(str, v)) if isinstance(v, list) else v}" for k, v in given.items())
    return f"python -m experiments.{name} {words}"


def made_by(name: str, options: Options) -> str:
    return (
        f"Made by `{command(name, options)}`; not written by hand. Settings, versions and figures are in `{name}.json`."
    )


def markdown(heads: list[str], lines: list[list[str]]) -> str:
    """A table; a cell that is a method's registered name is written as the method is called, `name` in code stays to be typed.

    >>> print(markdown(["", "gradcam"], [["hirescam", "`hirescam`"]]))
    |  | Grad-CAM |
    | --- | --- |
    | HiResCAM | `hirescam` |
    """
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(called(cell) if cell in METHODS else cell for cell in row)} |" for row in rows)


def arrowed(metric: str, on: str = "pixels") -> str:
    """The heading of a column: the metric, of leakage on which positions, and which way is better.

    >>> arrowed("leak_mass"), arrowed("insertion")
    ('leak_mass (pixels) ↓', 'insertion ↑')
    """
    where = f" ({on})" if metric in LEAKAGE else ""
    return f"{metric}{where} {'↓' if named(metric).better == 'low' else '↑'}"


# -- intervals over images and nets ---------------------------------------------------------------


def wide(rows: pd.DataFrame, value: str = "value") -> pd.DataFrame:
    """Images by nets, of rows with columns seed, image and `value`."""
    return rows.pivot_table(index="image", columns="seed", values=value, dropna=False, observed=True)


def crossed(rows: pd.DataFrame, scale: tuple[float, float] | None = None) -> dict[str, float]:
    """`over_nets` of rows with columns seed, image and value, one row per net and image; ends within the scale, if there
    is one, and otherwise unchanged."""
    return over_nets(wide(rows).to_numpy(dtype=float), scale)


def crossed_by(rows: pd.DataFrame, by: Iterable[str], scale: tuple[float, float] | None = None) -> pd.DataFrame:
    """`crossed` of each group, in the order of first appearance."""
    by = list(by)
    groups = rows.groupby(by, sort=False, observed=True)
    return pd.DataFrame([dict(zip(by, key, strict=True)) | crossed(part, scale) for key, part in groups])


def ratio_of_means(top: pd.DataFrame, bottom: pd.DataFrame) -> dict[str, float]:
    """mean(top) / mean(bottom) with its interval by the delta method: that of top - R bottom, over mean(bottom).

    Both: images by nets. NaN where the bottom's mean is 0.
    """
    both = top.notna() & bottom.notna()
    top, bottom = top.where(both).to_numpy(dtype=float), bottom.where(both).to_numpy(dtype=float)
    below = float(np.nanmean(bottom)) if np.isfinite(bottom).any() else np.nan
    if not below:
        return dict(mean=np.nan, low=np.nan, high=np.nan)
    share = float(np.nanmean(top)) / below
    off = over_nets((top - share * bottom) / below, None)
    return dict(mean=share, low=share + off["low"], high=share + off["high"])


def said(found: dict[str, float] | pd.Series, style: str = ".3f") -> str:
    """An interval over nets for the reader.

    >>> said(dict(mean=0.5, low=0.4, high=0.6, empty=0.0))
    '0.500 [0.400, 0.600]'
    """
    if np.isnan(found["mean"]):
        return "all empty"
    told = span(found["mean"], found["low"], found["high"], style)
    return told + (f", {percent(found['empty'])} empty" if found.get("empty", 0) else "")


def span(mean: float, low: float, high: float, style: str = "+.3f") -> str:
    """A number with its ends; alone where there are none, a dash where there is no number.

    >>> span(0.25, 0.2, 0.3), span(0.25, float("nan"), float("nan")), span(float("nan"), 0.0, 0.0)
    ('+0.250 [+0.200, +0.300]', '+0.250', '–')
    """
    if np.isnan(mean):
        return "–"
    return f"{mean:{style}}" + ("" if np.isnan(low) else f" [{low:{style}}, {high:{style}}]")

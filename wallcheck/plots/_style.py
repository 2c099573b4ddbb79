"""What all figures share: the look of a family, the order and names of methods, the choice of rows, saving."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wallcheck.cams import FAMILIES, METHODS
from wallcheck.results import KEY, Rows, rows_of
from wallcheck.statistics import percent
from wallcheck.writing import beside

# Okabe and Ito's palette: told apart with any colour vision.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999",
)  # fmt: skip
WINE = "#882255"  # of Tol's muted palette: darker than any of the eight but black, so apart from them in grey too
WIDTH = 7.2  # inches: 8 pt letters are 14 px high at 900 px, and 5.4 pt on a page 4.8 in wide
STYLE = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "hatch.linewidth": 0.6,
    "savefig.dpi": 200, "pdf.fonttype": 42,
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """A colour, and a marker for those who do not see it."""

    colour: str
    marker: str
    filled: bool = True

    @property
    def mark(self) -> dict:
        """Keywords of a plotted marker."""
        face = self.colour if self.filled else "white"
        return dict(marker=self.marker, color=self.colour, mfc=face, mec=BLACK if self.filled else self.colour, mew=0.6)


FAMILY = {
    "head": Look(YELLOW, "d"),
    "pooled": Look(RED, "o"),
    "local": Look(GREEN, "s"),
    "rescoring": Look(BLUE, "^"),
    "ablation": Look(ORANGE, "v"),
    "subspace": Look(PURPLE, "D"),
    "conceptor": Look(SKY, "P"),
    "attention": Look(WINE, ">"),
    "layered": Look(GREY, "X"),
    "pixel": Look(BLACK, "*"),
    "repair": Look(GREEN, "s", filled=False),
    "control": Look(GREY, "o", filled=False),
    "peer": Look(SKY, "h", filled=False),
    "own": Look(BLACK, "p", filled=False),
}
# Methods that stand in one figure with the first of their family: a marker and a shade of their own, in every figure.
BESIDE = {
    "gradcampp": Look("#8A3B00", "p"),
    "xgradcam": Look("#F2A679", "<"),
    "layercam": Look("#7FD1B9", "8"),
    "liftcam": Look("#8A6200", "H"),
    "random": Look(GREY, "x", filled=False),
}
SPARE = "h8pH<*"  # where a figure's methods would look alike all the same
SETS = {
    "stack_mix": "STACK-MIX",
    "stack_gen": "STACK-GEN",
    "mix_other_class": "other class",
    "mix_background": "background",
    "mix_noise": "noise",
    "mix_constant": "constant",
}
NETS = {"unwalled": "unwalled (contrast)"}
MEASURES = {
    "leak_l2": "share of L2 norm",
    "leak_mass": "share of attribution",
    "leak_peak": "peak, relative",
    "leak_area": "share of bright area",
    "leak_pointing": "maximum is unseen",
    "leak_any": "any leakage",
}


def family_of(method: str) -> str:
    return METHODS[method].family if method in METHODS else "own"


def look(method: str) -> Look:
    """The one look of a method, whatever the figure: its own, or its family's."""
    return BESIDE.get(method) or FAMILY[family_of(method)]


def marks(methods: Iterable[str]) -> dict[str, dict]:
    """Method -> keywords of its plotted marker, in order, for figures that tell methods by their marks alone: one that would look
    like another before it has that one's colour and a spare marker."""
    taken: list[Look] = []
    for method in in_order(methods):
        own = look(method)
        spare = (Look(own.colour, marker, own.filled) for marker in SPARE)
        taken.append(next((one for one in (own, *spare) if one not in taken), own))
    return {method: one.mark for method, one in zip(in_order(methods), taken, strict=True)}


def in_order(methods: Iterable[str]) -> list[str]:
    """Methods by family, within a family as registered; a user's own after them, controls last."""
    families = [*(name for name in FAMILIES if name != "control"), "own", "control"]
    places = {name: place for place, name in enumerate(METHODS)}
    return sorted(set(methods), key=lambda m: (families.index(family_of(m)), places.get(m, len(places)), m))


def choose(rows: pd.DataFrame | Rows, metric: str, view: str, on: str, **equal: str) -> Rows:
    """The rows of one measure, and of nets and image sets if given: `net="walled", images="stack_mix"`.

    A pixel map has no cells: where the grid is asked for, it is measured on the image in the same view.
    Raises ValueError where a column is missing or nothing is left.
    """
    if isinstance(rows, pd.DataFrame):
        need(rows, [*KEY, "value"])
    rows = rows_of(rows).select(**equal, metric=metric, view=view)
    gridless = set(rows.unique("method")) - set(rows.select(on=on).unique("method")) if on == "grid" else ()
    wanted = rows.where(lambda measure: measure.on == on or measure.method in gridless)
    if not wanted.measures:
        named = ", ".join(f"{k} {v}" for k, v in dict(**equal, metric=metric, view=view, on=on).items())
        raise ValueError(f"no rows with {named}; audit them first, or draw something the rows have")
    return wanted


def need(table: pd.DataFrame, columns: Iterable[str]) -> None:
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(
            f"the table has no column {', '.join(missing)}, only {', '.join(map(str, table.columns))}; "
            f"give rows as wallcheck.audit returns them"
        )


def written(found: dict) -> str:
    """The mean of a `results.interval` for the reader, exact zero told from little; and the share of empty maps."""
    mean = found["mean"]
    text = "–" if np.isnan(mean) else "0" if mean == 0 else "<0.01" if 0 < mean < 0.005 else f"{mean:.2f}"
    return text + emptiness(found["empty"])


def emptiness(share: float) -> str:
    """What stands beside a mean that leaves this share of the maps out because they are empty; nothing if none is."""
    return f" ∅{percent(share)}" if share else ""


def styled(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the style above and leave matplotlib's settings as they were."""

    @wraps(function)
    def draw(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return draw


def family_legend(figure: Figure, methods: Iterable[str], extra: Iterable[Line2D] = (), **where) -> None:
    """One entry per family present, in order, and what else is to be explained."""
    present = dict.fromkeys(family_of(method) for method in in_order(methods))
    marks = [Line2D([], [], ls="", ms=5, label=name, **FAMILY[name].mark) for name in present]
    handles = [*marks, *extra]
    figure.legend(handles=handles, **dict(loc="outside upper center", ncols=min(len(handles), 7)) | where)


def save(figure: Figure, stem: str | Path) -> list[Path]:
    """Write stem.pdf and stem.png, each beside and renamed; equal figures give equal files."""
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("pdf", "png")]
    for path in paths:
        dated = {"CreationDate": None} if path.suffix == ".pdf" else {}
        with matplotlib.rc_context(STYLE), beside(path) as partial:
            figure.savefig(partial, format=path.suffix[1:], metadata=dated)
    return paths

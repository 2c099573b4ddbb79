"""What a method shows that is not there against what it misses that is: leakage beside `missed`."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wallcheck.cams import called
from wallcheck.plots._style import WIDTH, family_legend, in_order, look, need, styled

SIDES = {
    "leak_mass": "shown, though unseen: share of positive attribution, on cells",
    "missed": "missed: share of what speaks for the class",
}
CROWD = (
    0.4,
    0.055,
)  # marks nearer than this to one that has its name, which takes that much room, bear none of their own


@styled
def two_sided(table: pd.DataFrame, panels: Sequence[str] | None = None) -> Figure:
    """A panel each, a mark per method; left and down is better, and a map that says nothing stands above on the left.

    table: panel, method, leak_mass, missed (means). panels: which, in order; all if not given.
    """
    need(table, ["panel", "method", *SIDES])
    panels = list(panels or dict.fromkeys(table["panel"]))
    figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
    for axes, panel in zip(
        figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0], panels, strict=True
    ):
        _panel(axes, table[table["panel"] == panel].set_index("method"))
        axes.set(title=panel, xlim=(-0.04, 1.04), ylim=(-0.05, 1.05))
    figure.supxlabel(SIDES["leak_mass"], fontsize=8)
    figure.supylabel(SIDES["missed"], fontsize=8)
    family_legend(figure, table["method"].unique())
    return figure


def _panel(axes: Axes, means: pd.DataFrame) -> None:
    """An empty map has no leakage to speak of: it stands at 0."""
    told: list[tuple[float, float]] = []
    for method in in_order(means.index):
        at = means.loc[method, list(SIDES)].fillna({"leak_mass": 0.0})
        x, y = float(at["leak_mass"]), float(at["missed"])
        axes.plot([x], [y], ls="", ms=4.5, alpha=0.85, gid=f"mean:{method}", **look(method).mark)
        if all(abs(x - a) > CROWD[0] or abs(y - b) > CROWD[1] for a, b in told):
            axes.annotate(called(method), (x, y), xytext=(3, 2), textcoords="offset points", fontsize=6)
            told.append((x, y))

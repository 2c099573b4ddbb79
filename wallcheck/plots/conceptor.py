"""What conceptors do for a base: change of average drop and average increase, by base and by form."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wallcheck.cams import called
from wallcheck.plots._style import BLACK, GREY, WIDTH, in_order, look, need, styled

BETTER = {"average_drop": "lower is better", "average_increase": "higher is better"}


@styled
def conceptor_gains(table: pd.DataFrame, plain: str) -> Figure:
    """Above: difference from the base by base for the form `plain`, with intervals; below: all bases of every form.

    table: base, form, measure, difference, low, high.
    """
    need(table, ["base", "form", "measure", "difference", "low", "high"])
    bases, forms = in_order(table["base"].unique()), list(dict.fromkeys(table["form"]))
    height = 0.13 * len(bases) + 0.2 * len(forms) + 1.0
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(
        2, 2, sharey="row", sharex="col", height_ratios=[0.13 * len(bases) + 0.4, 0.2 * len(forms) + 0.4]
    )
    for (above, below), (measure, better) in zip(axes.T, BETTER.items(), strict=True):
        part = table[table["measure"] == measure]
        _by_base(above, part[part["form"] == plain].set_index("base").loc[bases])
        above.set(
            title=f"{measure.replace('_', ' ')}: {better}", yticks=range(len(bases)), ylim=(len(bases) - 0.4, -0.6)
        )
        above.set_yticklabels([called(base) for base in bases], fontsize=6)
        _by_form(below, part, forms)
        below.set(
            xlabel="conceptor form less base",
            yticks=range(len(forms)),
            ylim=(len(forms) - 0.4, -0.6),
            yticklabels=forms,
        )
        for each in (above, below):
            each.axvline(0, color=GREY, lw=0.6, zorder=0)
    return figure


def _by_base(axes: Axes, of: pd.DataFrame) -> None:
    axes.hlines(range(len(of)), of["low"], of["high"], color=GREY, lw=1)
    for place, (base, value) in enumerate(of["difference"].items()):
        axes.plot([value], [place], ls="", ms=3.5, gid=f"mean:{base}", **look(base).mark)


def _by_form(axes: Axes, part: pd.DataFrame, forms: list[str]) -> None:
    for place, form in enumerate(forms):
        values = part.loc[part["form"] == form, "difference"]
        axes.plot(values, [place] * len(values), "|", color=GREY, ms=6)
        axes.plot([values.median()], [place], "o", color=BLACK, ms=3.5)

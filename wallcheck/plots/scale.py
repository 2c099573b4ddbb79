"""How long a run folder takes by the number of its images, and how much memory."""

from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure

from wallcheck.plots._style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, WIDTH, Look, need, styled

# A step each.
LOOKS = tuple(map(Look, (RED, BLUE, GREEN, ORANGE, PURPLE, SKY, GREY), "o^svDPX"))
MEASURED = {"processor": "processor seconds", "gib": "memory at its peak, GiB"}


@styled
def scale(table: pd.DataFrame, limit: float) -> Figure:
    """A panel for time, one for memory; a line per step. Images and time are logarithmic, memory starts at 0.

    table: images, step, processor, gib. limit: of memory in GiB, a line.
    """
    need(table, ["images", "step", *MEASURED])
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    panels = figure.subplots(1, len(MEASURED))
    for axes, (name, label) in zip(panels, MEASURED.items(), strict=True):
        for look, (step, part) in zip(cycle(LOOKS), table.groupby("step", sort=False), strict=False):
            axes.plot(part["images"], part[name], lw=0.8, ms=4, gid=f"{name}:{step}", label=step, **look.mark)
        axes.set(xscale="log", xlabel="images", ylabel=label)
    panels[0].set_yscale("log")
    panels[-1].set_ylim(0, 1.1 * max(limit, table["gib"].max()))
    panels[-1].axhline(limit, color=BLACK, lw=0.6, ls=":", label=f"{limit:g} GiB")
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure

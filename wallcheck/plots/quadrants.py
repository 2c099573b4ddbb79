"""Aggregated maps: the mean of many, by percentiles of how they score, in place of chosen images."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from wallcheck.cams import called
from wallcheck.plots._style import BLACK, WIDTH, styled
from wallcheck.plots.pictures import HEAT


@styled
def aggregated(maps: dict[str, list[tuple[str, np.ndarray]]]) -> Figure:
    """A row of panels per method, a panel per bin: (title, mean map (h, w)); the top left quarter, which is seen, is outlined.

    Each row has one scale, from white at 0 to its brightest cell. A title says which percentiles of the maps, and their mean share.
    """
    columns = max(len(bins) for bins in maps.values())
    lines = -(-len(maps) // 2)
    side = WIDTH / (2 * columns + 1.2)
    figure = Figure(figsize=(WIDTH, lines * (side + 0.28) + 0.35), layout="constrained")
    panels = figure.subplots(lines, 2 * columns, squeeze=False)
    for axes in panels.ravel():
        axes.set_axis_off()
    for place, (method, bins) in enumerate(maps.items()):
        line, start = divmod(place, 2)
        top = max((picture.max() for _, picture in bins), default=1.0)
        for axes, (title, picture) in zip(panels[line, start * columns :], bins, strict=False):
            axes.set_axis_on()
            axes.imshow(picture, cmap=HEAT.with_extremes(under="white"), vmin=1e-12, vmax=top, interpolation="nearest")
            rows, across = picture.shape
            axes.add_patch(Rectangle((-0.5, -0.5), across / 2, rows / 2, fill=False, ec=BLACK, lw=1.2))
            axes.set(xticks=[], yticks=[])
            axes.set_title(title, fontsize=5.5, pad=2)
        if bins:
            panels[line, start * columns].set_ylabel(called(method), fontsize=6.5, labelpad=2)
    figure.supxlabel(
        "outlined: the quadrant that is seen; above each: percentiles of the maps by the share that lies in it, and its mean",
        fontsize=7,
    )
    return figure

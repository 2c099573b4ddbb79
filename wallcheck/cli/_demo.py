"""`demo`: an audit of what comes with wallcheck, from nothing to a table and a picture."""

from pathlib import Path

from jsonargparse import Namespace
from numpy import argsort

from wallcheck import assets, plots
from wallcheck.cli._auditing import answer
from wallcheck.cli._status import INCOMPLETE
from wallcheck.plots import Examples
from wallcheck.results import examples_of
from wallcheck.running import run_folder
from wallcheck.study import Study, images_for
from wallcheck.terminal import progress_bar
from wallcheck.writing import at_home, say

# What most people use, a subspace, two that see no further than the wall; and the map that says nothing.
METHODS = ("gradcam", "gradcampp", "xgradcam", "eigencam", "scorecam", "hirescam", "layercam", "constant")
EXAMPLES = 8


def demo(options: Namespace) -> int:
    """A run folder with demo.png in it; a finished one is shown again."""
    shipped = assets.named(options.net)
    if shipped is None or not shipped[1]:
        names = ", ".join(f"{assets.PREFIX}{name}" for name in assets.NETS)
        raise ValueError(f"the demo's nets are {names}, got {options.net!r}; wallcheck audit takes any other")
    out, net = at_home(options.out), assets.net(*shipped)
    images = images_for(net, options.images)
    study = Study({shipped[0]: net}, [images], METHODS, examples=EXAMPLES)
    with progress_bar() as tell:
        rows = run_folder(study, out, progress=tell)
    picture = _picture(out, shipped[0], images.name)
    answer(rows, options)
    if not options.json and not options.markdown:
        cells, pixels = net.wall.unseen.mean(), net.regions.unseen.mean()
        say(
            f"This net provably cannot see the lower half of an image: {pixels:.0%} of its pixels, {cells:.0%} of its cells. A constant "
            f"map scores that share of cells; a method that shows only what the net uses scores 0.\n"
            f"picture: {picture}\nrun folder: {out}\nnext: wallcheck report {out}"
        )
    return INCOMPLETE if rows.failures else 0


def _picture(out: Path, net: str, images: str) -> Path:
    """The image of those kept on which Grad-CAM leaks as it does on half of them."""
    examples = Examples.load(examples_of(out, net, images))
    leaks = [examples.leaked_pixels("gradcam", image) for image in range(len(examples.pixels))]
    shown = [name for name in METHODS if name in examples.maps and name != "constant"]
    figure = plots.main_figure(examples, int(argsort(leaks)[len(leaks) // 2]), shown)
    return next(path for path in plots.save(figure, out / "demo") if path.suffix == ".png")

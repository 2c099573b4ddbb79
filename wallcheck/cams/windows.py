"""Layered over image sizes: a base method asked of windows of the enlarged image, its maps put back where they came from (SESS).

A window moves whatever it holds to places that the net sees. So this looks at unseen pixels in earnest, and the map leaks over
every base, even one that is blind.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from wallcheck.cams._blur import reflected
from wallcheck.cams._method import Method, cam_method
from wallcheck.cams.local.products import hirescam
from wallcheck.cams.pooled.gradients import gradcam
from wallcheck.cams.rescoring.masks import bilinear, upsample
from wallcheck.evidence import Evidence
from wallcheck.maps import displayed
from wallcheck.memory import slices
from wallcheck.models import BlindNet
from wallcheck.numerics import probabilities, ratio

SCALES, GROWTH = 12, 2 / 7  # image sizes, and by what share of the net's they grow
REACH, SIGMA = 5, 5.0  # of the blur, in pixels whatever the image


def needs_squares(net: BlindNet) -> str | None:
    """Why windows of an enlarged image do not fit net; None where its images are square."""
    height, width = net.image_size
    return None if height == width else f"its images are {height} x {width} and windows are square; use the base method"


def sess(base: Method) -> Callable[[Evidence], Tensor]:
    """SESS over a base method, as grad-cam 1.5.7 releases it."""

    def enhanced(ev: Evidence) -> Tensor:
        """Mean over windows with a value above 0 of p_w / max_w p_w times the base's map of window w as displayed; blurred.

        The image is enlarged to 12 sizes, from its own by 2/7 of it each, and cut into windows of its own size, the last of a
        row or column shifted in: 122 windows of 224 pixels, 129 of 24, as sizes are rounded. Their maps are pasted into an empty map of
        the enlarged image and reduced bilinearly; the mean over windows is taken pixel by pixel. p is the class's probability;
        where it is 0 in every window the map is 0 (released: the mean of the maps as they are).
        """
        side = ev.net.image_size[0]
        total, count, largest = (torch.zeros_like(ev.images[:, 0], dtype=torch.float64) for _ in range(3))
        for places_of, windows in windows_of(ev, side):
            point = ev.at(windows.flatten(0, 1))
            chances = point.of_target(probabilities(point.logits.double())).unflatten(0, windows.shape[:2])
            maps = displayed(base(point), (side, side)).unflatten(0, windows.shape[:2])
            for placed, chance, shown in zip(places_of, chances[..., None, None], maps, strict=True):
                weighed = chance * placed(shown)
                total, count, largest = total + weighed, count + (weighed > 0), torch.maximum(largest, chance)
        blur = reflected(side, REACH, SIGMA).to(total)
        return (blur @ ratio(ratio(total, count), largest) @ blur.T).to(ev.images)

    return enhanced


Placed = Callable[[Tensor], Tensor]


def windows_of(ev: Evidence, side: int) -> Iterator[tuple[list[Placed], Tensor]]:
    """(of each window, what puts maps (B, side, side) of it back on the image; the windows (n, B, 3, side, side) of every image), as
    many windows at a time as fit the budget."""
    many = max(1, ev.chunk(ev.graph.widest_whole) // max(1, len(ev.images)))
    for size, starts in places(side):
        wide = upsample(ev.images, (size, size))
        back = bilinear(size, side, False).to(ev.images)
        spans = [slice(start, start + side) for start in starts]
        both = [(rows, columns) for rows in spans for columns in spans]
        for some in slices(0, len(both), many):
            windows = torch.stack([wide[:, :, rows, columns] for rows, columns in both[some]])
            yield [_placed(back[:, rows], back[:, columns]) for rows, columns in both[some]], windows


def _placed(rows: Tensor, columns: Tensor) -> Placed:
    return lambda maps: rows @ maps @ columns.T


def places(side: int) -> list[tuple[int, list[int]]]:
    """(size of the enlarged image, where windows start along its side) of each size.

    >>> places(224)[:3]
    [(224, [0]), (288, [0, 64]), (352, [0, 128])]
    """
    sizes = [side + round(side * GROWTH) * number for number in range(SCALES)]
    return [(size, [*range(0, size - side, side), size - side]) for size in sizes]


for base in (gradcam, hirescam):
    cam_method(
        name=f"sess_{base.name}",
        family="layered",
        grid="pixels",
        source=f"Tursun et al. 2022 (SESS), grad-cam 1.5.7, over {base.name}: its defaults, mean of windows, no patch left out",
        cost="123F+122b",
        verdict="may_leak",
        refuses=needs_squares,
    )(sess(base))

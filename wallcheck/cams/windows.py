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
        for placed, windows in windows_of(ev, side):
            point = ev.at(windows)
            chance = ev.of_target(probabilities(point.logits.double()))[:, None, None]
            weighed = chance * placed(displayed(base(point), (side, side)))
            total, count, largest = total + weighed, count + (weighed > 0), torch.maximum(largest, chance)
        blur = reflected(side, REACH, SIGMA).to(total)
        return (blur @ ratio(ratio(total, count), largest) @ blur.T).to(ev.images)

    return enhanced


def windows_of(ev: Evidence, side: int) -> Iterator[tuple[Callable[[Tensor], Tensor], Tensor]]:
    """(what puts maps (B, side, side) of the window back on the image, the window (B, 3, side, side) of every image)."""
    for size, starts in places(side):
        wide = upsample(ev.images, (size, size))
        back = bilinear(size, side, False).to(ev.images)
        for top in starts:
            for left in starts:
                rows, columns = back[:, top : top + side], back[:, left : left + side]
                window = wide[:, :, top : top + side, left : left + side].contiguous()
                yield (lambda maps, rows=rows, columns=columns: rows @ maps @ columns.T), window


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

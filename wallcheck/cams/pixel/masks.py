"""Pixel level, by what becomes of the logit when parts of the image are hidden.

The net is a black box here, and so is its wall: an unseen pixel is told from a seen one only as well
as the masks tell their neighbours apart.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from wallcheck.cams._blur import blurred
from wallcheck.cams._method import cam_method
from wallcheck.cams.rescoring.masks import upsample
from wallcheck.evidence import Evidence
from wallcheck.numerics import probabilities, ratio

PIXEL: dict[str, Any] = dict(family="pixel", grid="pixels")


# -- RISE -----------------------------------------------------------------------------------------


def rise_with(masks: int, cells: int = 7, keep: float = 0.5) -> Callable[[Evidence], Tensor]:
    """RISE with this many masks of cells x cells, each kept with probability `keep`; the paper has 4000 to 8000."""
    trials = trials_with(masks, cells, keep)

    def published(ev: Evidence) -> Tensor:
        """sum_i p(x * M_i) M_i(u) / (N keep). An unseen pixel gets the mean of p, a floor, not 0."""
        chances, drawn = ev.once(trials)
        return torch.einsum("bn,nhw->bhw", chances, drawn) / (masks * keep)

    return published


def rise_centred_with(masks: int, cells: int = 7, keep: float = 0.5) -> Callable[[Evidence], Tensor]:
    """Centred RISE with this many masks; the registered one shares its masks and scores with RISE."""
    trials = trials_with(masks, cells, keep)

    def centred(ev: Evidence) -> Tensor:
        """Cov(p, M(u)) / Var(M(u)) over masks: the slope of p in the visibility of u; 0 where M(u) never changes.

        The floor is gone in expectation. What is left on unseen pixels is sampling noise, and the
        correlation with seen neighbours that share their mask cell.
        """
        chances, drawn = ev.once(trials)
        drawn = drawn - drawn.mean(0)
        together = torch.einsum("bn,nhw->bhw", chances - chances.mean(1, keepdim=True), drawn)
        return ratio(together, drawn.square().sum(0).expand_as(together))

    return centred


@cache
def trials_with(masks: int, cells: int, keep: float) -> Callable[[Evidence], tuple[Tensor, Tensor]]:
    """Evidence -> (p (B, N) of the explained class through each mask, masks M (N, H, W)); all images share the masks."""

    def trials(ev: Evidence) -> tuple[Tensor, Tensor]:
        drawn = random_masks(ev, masks, cells, keep)
        visible = drawn[(..., *ev.graph.visible)][:, None]
        chances = []
        for image, target in zip(ev.images[(..., *ev.graph.visible)], ev.targets.tolist(), strict=True):
            logits = ev.rescore_visible(lambda piece, image=image: image * visible[piece], masks)
            chances.append(probabilities(logits)[:, target])
        return torch.stack(chances), drawn

    return trials


def random_masks(ev: Evidence, count: int, cells: int, keep: float) -> Tensor:
    """(N, H, W) in [0, 1]: grids of 0 and 1 enlarged bilinearly to one cell more than the image, and cut at random.

    The outermost half cell mirrors the grid, as in the authors' code and in TorchRay, which rounds the cells' size.
    """
    draw = ev.generator(salt=32)
    grids = (torch.rand(count, cells, cells, generator=draw, dtype=torch.float64) < keep).to(ev.images)
    masks = grids
    for axis, side in enumerate(ev.net.image_size):
        cell = -(-side // cells)
        shifts = torch.randint(cell, (count,), generator=draw)
        enlarge = mirrored(cells, (cells + 1) * cell)
        lines = enlarge[shifts[:, None] + torch.arange(side)].to(ev.images)  # (N, side, cells)
        masks = lines @ masks if axis == 0 else masks @ lines.mT
    return masks


@cache
def mirrored(cells: int, pixels: int) -> Tensor:
    """(pixels, cells), float64: bilinear with half-pixel centres; beyond the first and last cell's centre the grid is
    mirrored without repeating that cell, so an edge is half the first cell and half the second.

    >>> mirrored(2, 4).tolist()
    [[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.25, 0.75]]
    """
    place = ((torch.arange(pixels, dtype=torch.float64) + 0.5) * (cells / pixels) - 0.5).abs()
    place = (cells - 1 - (cells - 1 - place).abs()).clamp(min=0)  # one cell alone is its own mirror image
    return (1 - (place[:, None] - torch.arange(cells)).abs()).clamp(min=0)


RISE = 400

rise = cam_method(
    **PIXEL,
    name="rise",
    source=f"Petsiuk et al. 2018, eq. 6; 7 x 7 cells, keep 1/2 (as in TorchRay), {RISE} masks (paper: 4000 to 8000), "
    "probabilities",
    cost=f"{RISE}F",
    verdict="leaks",
)(rise_with(RISE))

rise_centred = cam_method(
    **PIXEL,
    name="rise_centred",
    source=f"wallcheck: RISE (Petsiuk et al. 2018) as a regression slope, {RISE} masks",
    cost=f"{RISE}F",
    verdict="may_leak",
    repairs="rise",
)(rise_centred_with(RISE))


# -- occlusion ------------------------------------------------------------------------------------


def occlusion_with(patch: float = 1 / 6, stride: float = 1 / 12) -> Callable[[Evidence], Tensor]:
    """Occlusion by black squares; side and stride in image sides, at least 2 pixels and 1 pixel."""

    def occluded(ev: Evidence) -> Tensor:
        """The mean, over squares that cover u, of y(x) - y(x with the square black).

        A square that covers no pixel the net can see changes nothing and is not scored; one across the
        border gives its whole effect to all its pixels.
        """
        squares = all_squares(ev, patch, stride)
        seen = torch.from_numpy(~ev.regions.unseen).to(squares.device)
        touching = (squares.bool() & seen).any((1, 2))
        kept = 1 - torch.cat([squares[touching], torch.zeros_like(squares[:1])])  # the last hides nothing
        drops = torch.zeros(len(ev.images), len(squares)).to(squares)
        for image, target in enumerate(ev.targets.tolist()):
            part = ev.images[image][(..., *ev.graph.visible)]
            masks = kept[(..., *ev.graph.visible)][:, None]
            scores = ev.rescore_visible(lambda piece, part=part, m=masks: part * m[piece], len(kept))[:, target]
            drops[image, touching] = scores[-1] - scores[:-1]
        return torch.einsum("bn,nhw->bhw", drops, squares) / squares.sum(0)

    return occluded


def all_squares(ev: Evidence, patch: float, stride: float) -> Tensor:
    """(N, H, W): 1 inside each square, 0 outside; the last of a row or column is flush with the border."""
    axes = []
    for side in ev.net.image_size:
        width, step = max(2, round(patch * side)), max(1, round(stride * side))
        starts = torch.tensor([*range(0, side - width, step), side - width])[:, None]
        place = torch.arange(side)
        axes.append(((place >= starts) & (place < starts + width)).to(ev.images))
    rows, columns = axes
    return (rows[:, None, :, None] * columns[None, :, None, :]).flatten(0, 1)


occlusion = cam_method(
    **PIXEL,
    name="occlusion",
    source="Zeiler and Fergus 2014, sec. 4.2; black squares of 1/6 side at a stride of 1/12, mean over squares",
    cost="121F",
    verdict="may_leak",
)(occlusion_with())


# -- extremal perturbation ------------------------------------------------------------------------


def extremal_with(iterations: int, area: float = 0.1, cells: int = 14) -> Callable[[Evidence], Tensor]:
    """Soft extremal perturbation of one area by this many steps; published are 800."""

    def extremal(ev: Evidence) -> Tensor:
        """The smooth mask of about `area` that keeps the logit highest when the rest of the image is blurred.

        Gradient ascent on y(x blurred by 1 - m) - lambda mean (m - r)^2 over cell values in [0, 1], from
        1 on; momentum 0.9, rate 0.01, lambda growing from 300 to 4900: as in TorchRay. Ours: r (0 below the
        (1 - area)-quantile of m, 1 above) rises over a width of 0.5, where TorchRay compares the sorted values with a
        step: ties, of which the start is full, are so not broken by rounding, nor is rounding blown up where ranks
        decide. The area is that of the mask's cells (TorchRay: its pixels and a margin of 21 around them), of which there
        are 14 x 14 (32 x 32 in 224 px), the Gaussian is not flat near its centre (see `smooth`), the first step is damped
        like every other (there it is ten times as long), the blur takes no weight from outside the image (there
        black), and the image is never flipped (there every other step).

        The area term decides what is left behind the wall: TorchRay's formulas in 40 steps leave 0.38 of the positive
        attribution on unseen pixels of vgg_small where this leaves 0.002 (docs/disagreements.md).
        """
        values = torch.ones(len(ev.images), cells, cells).to(ev.images)
        levels, speed = blur_levels(ev), torch.zeros_like(values)
        for step in range(iterations):
            reward = values.detach().requires_grad_()
            with ev.plainly(), torch.enable_grad():
                mask = smooth(reward)
                size = 300 * 16.4 ** (step / iterations) * (mask - ranked(mask.detach(), area)).square().mean((1, 2))
                gain = (ev.explained(kept_logits(ev, levels, mask)) - size).sum()
                (slope,) = torch.autograd.grad(gain, reward)
            speed = 0.9 * speed + 0.1 * slope
            values = (values + 0.01 * speed).clamp(0, 1)
        return upsample(smooth(values), ev.net.image_size)

    return extremal


def smooth(values: Tensor) -> Tensor:
    """(B, G, G) -> same: the softmax-weighted mean (coldness 20) of all values, each seen through a Gaussian of
    21 / 224 of the side; so a mask has no detail finer than that. TorchRay's kernel, exp(-2 max(d / sigma - 1/2, 0)^2),
    is 1 within half a sigma and falls faster from one sigma on."""
    cells = values.shape[-1]
    place = torch.arange(cells, device=values.device, dtype=values.dtype) / cells
    distance = (place[:, None] - place).square()
    reach = (-0.5 * (distance[:, None, :, None] + distance[None, :, None, :]) / (21 / 224) ** 2).exp()
    near = reach.flatten(2).flatten(0, 1) * values.flatten(1)[:, None]  # (B, to, from)
    return ((20 * near).softmax(2) * near).sum(2).view_as(values)


def ranked(mask: Tensor, area: float) -> Tensor:
    """What the area asks of each cell: 1 above the (1 - area)-quantile of the mask, 0 below, linear within 0.25 of it."""
    edge = mask.flatten(1).quantile(1 - area, dim=1)[:, None, None]
    return (2 * (mask - edge) + 0.5).clamp(0, 1)


def blur_levels(ev: Evidence, count: int = 8) -> Tensor:
    """(B, L, 3, r, c): the visible part of the images, from blurred by 20 / 224 of the side to sharp."""
    widths = [20 / 224 * (1 - level / (count - 1)) for level in range(count - 1)]
    return torch.stack(
        [blurred(ev.images, width)[(..., *ev.graph.visible)] for width in widths]
        + [ev.images[(..., *ev.graph.visible)]],
        1,
    )


def kept_logits(ev: Evidence, levels: Tensor, mask: Tensor) -> Tensor:
    """(B, D): logits of the images, each pixel at the blur level its mask value names, between two in proportion."""
    fine = upsample(mask, ev.net.image_size)[(..., *ev.graph.visible)]
    count = levels.shape[1]
    level = torch.arange(count, device=fine.device)[:, None, None]
    share = (1 - ((count - 1) * fine[:, None] - level).abs()).clamp(min=0)  # (B, L, r, c)
    return ev.graph.visible_logits((share[:, :, None] * levels).sum(1))


extremal_soft = cam_method(
    **PIXEL,
    name="extremal_soft",
    source="wallcheck: after Fong et al. 2019 (extremal perturbations), area 0.1, preserve, with ranks made soft; 40 iterations "
    "(published: 800), 14 x 14 cells; kernel, area term and first step are not TorchRay's",
    cost="40(F+B)",
    verdict="may_leak",
)(extremal_with(40))

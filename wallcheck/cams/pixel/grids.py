"""Pixel level, by one grid of masks: how the score depends on each of 7 x 7 cells, which a mask shows or hides (black).

Sobol asks how much of the score's variance a cell takes part in, HSIC how far score and cell depend on each other, LIME and
KernelSHAP fit a sum of cells to the score. Each asks the net as often as RISE does; all images share the masks.
"""

from typing import Any

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.numerics import probabilities, ratio

CELLS = 7
MASKS = 400
DESIGNS = 8  # 8 (49 + 1) = 400 masks
GRID: dict[str, Any] = dict(family="pixel", grid="pixels", verdict="may_leak", cost=f"{MASKS}F")
WIDTH, RIDGE = 0.25, 1.0  # of LIME: its kernel, in cosine distance; its penalty
SHOWN, SOBOL, COALITIONS = 33, 34, 35  # salts


@cam_method(
    **GRID,
    source=f"Fel et al. 2021 (Sobol), by Jansen's estimator on the logit; {CELLS} x {CELLS} cells, {DESIGNS} designs of "
    "random numbers (code: 8 x 8, 32 of a Sobol sequence), black behind the masks",
)
def sobol(ev: Evidence) -> Tensor:
    """sum_n (y(x A_n) - y(x C_n))^2 / (2 N Var y(x A)), C_n the mask A_n with another draw in the cell: its total index.

    A mask holds a value from 0 to 1 per cell. A cell with no pixel that the net can see changes nothing and is given 0 without
    being scored; one across the border gives its whole index to all its pixels, where the code enlarges bicubically. An image
    whose score no mask moves has the map 0.
    """
    drawn = torch.rand(2, DESIGNS, CELLS**2, generator=ev.generator(salt=SOBOL)).double().to(ev.images.device)
    heard = heard_cells(ev).flatten().nonzero()[:, 0]
    changed = drawn[0].repeat(len(heard), 1, 1)  # (heard, N, d)
    changed[torch.arange(len(heard)), :, heard] = drawn[1].T[heard]
    masks = torch.cat([drawn[0], changed.flatten(0, 1)]).unflatten(1, (CELLS, CELLS))
    scores = of_class(ev, logits_behind(ev, masks)).double()
    plain, other = scores[:, None, :DESIGNS], scores[:, DESIGNS:].unflatten(1, (len(heard), DESIGNS))
    total = torch.zeros(len(scores), CELLS**2, dtype=torch.float64, device=scores.device)
    total[:, heard] = ratio((plain - other).square().sum(2), 2 * DESIGNS * plain.var(2))
    return on_pixels(ev, total)


@cam_method(
    **GRID,
    source=f"Novello et al. 2022 (HSIC), the authors' kernels: 1 + 1/2 - (m - m')^2 on masks, Gaussian of the median score on "
    f"probabilities; {CELLS} x {CELLS} cells, {MASKS} masks of fair coins (code: 8 x 8, 500 of a Sobol sequence)",
)
def hsic(ev: Evidence) -> Tensor:
    """sum_nm (m_n - m)(m_m - m) 2 exp(-(p_n - p_m)^2 / 2 s^2) / N, m_n is the cell shown in mask n, s the median of the p.

    That is trace(K H L H) / N for coins, whose kernel K is 2 m m' and terms that centring takes away. Never negative: what
    chance leaves on cells that do not matter does not cancel, as it does under a regression.
    """
    shown, logits = ev.once(coins)
    apart = shown - shown.mean(0)
    found = []
    for chances in of_class(ev, probabilities_of(logits)).double():
        width = chances.quantile(0.5)
        alike = (-ratio((chances[:, None] - chances).square(), 2 * width.square().expand(MASKS, MASKS))).exp()
        found.append(2 * (apart * (alike @ apart)).sum(0) / MASKS)
    return on_pixels(ev, torch.stack(found))


@cam_method(
    **GRID,
    source=f"Ribeiro et al. 2016 (LIME), the lime package's image settings: ridge with penalty 1, kernel width 0.25 of the cosine "
    f"distance, on probabilities; ours: {CELLS} x {CELLS} cells for superpixels, black for their mean colour, {MASKS} masks",
)
def lime(ev: Evidence) -> Tensor:
    """w minimises sum_n pi_n (p_n - b - w . m_n)^2 + |w|^2, m_n the cells shown, pi = exp(-(1 - c)^2 / 2 0.25^2).

    c = sqrt(share of cells shown) is the cosine of a mask with the whole image. A cell that does not matter weighs 0 but for
    sampling noise.
    """
    shown, logits = ev.once(coins)
    chances = of_class(ev, probabilities_of(logits)).double()
    kernel = (-(1 - shown.mean(1).sqrt()).square() / (2 * WIDTH**2)).exp()[:, None]
    apart = shown - (kernel * shown).sum(0) / kernel.sum()
    curve = apart.T @ (kernel * apart) + RIDGE * torch.eye(CELLS**2).to(apart)
    return on_pixels(ev, torch.linalg.solve(curve, apart.T @ (kernel * chances.T)).T)


@cam_method(
    **GRID,
    source=f"Lundberg and Lee 2017 (KernelSHAP), on the logit; {CELLS} x {CELLS} cells over black, {MASKS // 2 - 1} coalitions "
    "drawn by the Shapley kernel, each with its complement",
)
def kernelshap(ev: Evidence) -> Tensor:
    """phi minimises sum_n (y(x M_n) - y(0) - phi . m_n)^2 with sum phi = y(x) - y(0), the image and the black one exact.

    Coalitions of s cells come with probability as 1 / (s (49 - s)), so that each counts once. A pixel holds the whole value of
    its cell. A cell that does not matter is given 0 but for sampling noise.
    """
    joined = coalitions(ev)
    ends = torch.stack([torch.zeros_like(joined[0]), torch.ones_like(joined[0])])
    scores = of_class(ev, logits_behind(ev, torch.cat([ends, joined]).unflatten(1, (CELLS, CELLS)))).double()
    whole, gained = scores[:, 1] - scores[:, 0], scores[:, 2:] - scores[:, :1]
    conditions = torch.zeros(CELLS**2 + 1, CELLS**2 + 1).to(joined)  # Lagrange: 2 M'M phi + l = 2 M'g, sum phi = whole
    conditions[:-1, :-1], conditions[-1, :-1], conditions[:-1, -1] = joined.T @ joined, 1, 1
    wanted = torch.cat([joined.T @ gained.T, whole[None]])
    return on_pixels(ev, torch.linalg.solve(conditions, wanted)[:-1].T)


def coins(ev: Evidence) -> tuple[Tensor, Tensor]:
    """Masks of fair coins (N, d), 1 is shown, float64; logits (B, N, D) behind them. HSIC and LIME share them."""
    draw = ev.generator(salt=SHOWN)
    shown = (torch.rand(MASKS, CELLS**2, generator=draw, dtype=torch.float64) < 0.5).double().to(ev.images.device)
    return shown, logits_behind(ev, shown.unflatten(1, (CELLS, CELLS)))


def coalitions(ev: Evidence) -> Tensor:
    """(N, d) float64: sets of cells, each followed by its complement."""
    draw, cells = ev.generator(salt=COALITIONS), CELLS**2
    size = torch.arange(1, cells, dtype=torch.float64)
    chosen = 1 + torch.multinomial(1 / (size * (cells - size)), MASKS // 2 - 1, replacement=True, generator=draw)
    place = torch.rand(len(chosen), cells, generator=draw).argsort(1).argsort(1)
    inside = (place < chosen[:, None]).double().to(ev.images.device)
    return torch.stack([inside, 1 - inside], 1).flatten(0, 1)


def logits_behind(ev: Evidence, masks: Tensor) -> Tensor:
    """(B, N, D): logits of every image times every mask (N, g, g), a pixel times the value of its cell."""
    rows, columns = (of[part] for of, part in zip(cells_of_pixels(ev), ev.graph.visible, strict=True))
    masks = masks.to(ev.images)
    return torch.stack(
        [
            ev.rescore_visible(lambda piece, x=x: x * masks[piece][:, None, rows[:, None], columns], len(masks))
            for x in ev.images[(..., *ev.graph.visible)]
        ]
    )


def of_class(ev: Evidence, answers: Tensor) -> Tensor:
    """(B, N): the explained class's entry of answers (B, N, D)."""
    return answers.gather(2, ev.targets[:, None, None].expand(-1, answers.shape[1], -1))[..., 0]


def probabilities_of(logits: Tensor) -> Tensor:
    """(B, N, D) -> same."""
    return probabilities(logits.flatten(0, 1)).view_as(logits)


def cells_of_pixels(ev: Evidence) -> tuple[Tensor, Tensor]:
    """(H,), (W,): the row and the column of the grid that each pixel belongs to."""
    return tuple(torch.arange(side, device=ev.images.device) * CELLS // side for side in ev.net.image_size)


def heard_cells(ev: Evidence) -> Tensor:
    """(g, g) Boolean: cells with a pixel that may reach a logit."""
    rows, columns = cells_of_pixels(ev)
    heard = torch.zeros(CELLS, CELLS, dtype=torch.bool, device=rows.device)
    i, j = torch.from_numpy(~ev.regions.unseen).to(rows.device).nonzero(as_tuple=True)
    heard[rows[i], columns[j]] = True
    return heard


def on_pixels(ev: Evidence, values: Tensor) -> Tensor:
    """(B, d) -> (B, H, W): each pixel has the value of its cell."""
    rows, columns = cells_of_pixels(ev)
    return values.unflatten(1, (CELLS, CELLS))[:, rows[:, None], columns].to(ev.images)

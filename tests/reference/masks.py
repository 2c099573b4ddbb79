"""Twins of the methods that hide parts of the image: mask by mask, whole images through the whole net."""

import math
from functools import cache

import torch
from torch.nn.functional import interpolate

from tests.reference import twin_of
from tests.reference.factor import blurred
from tests.reference.pixel import draws_of


def trials(net, image, target, seed):
    """400 masks, one by one, and the class's probability through each."""
    draw, (H, W) = draws_of(seed, 32), net.image_size
    grids = torch.rand(400, 7, 7, generator=draw, dtype=torch.float64) < 0.5
    down = torch.randint(math.ceil(H / 7), (400,), generator=draw).tolist()
    across = torch.randint(math.ceil(W / 7), (400,), generator=draw).tolist()
    lines = [mirror_lines(7, 8 * math.ceil(side / 7)) for side in (H, W)]
    chances, masks = [], []
    for grid, i, j in zip(grids, down, across, strict=True):
        masks.append(lines[0][i : i + H] @ grid.double() @ lines[1][j : j + W].T)
        with torch.no_grad():
            chances.append(float(net((image * masks[-1])[None])[0].softmax(0)[target]))
    return chances, masks


def mirror_lines(cells, pixels):
    """(pixels, cells): each pixel between the two cells beside it; cell -1 is cell 1, and cell `cells` the last but one."""
    lines = torch.zeros(pixels, cells, dtype=torch.float64)
    for p in range(pixels):
        place = (p + 0.5) * cells / pixels - 0.5
        for cell in (math.floor(place), math.floor(place) + 1):
            real = -cell if cell < 0 else 2 * (cells - 1) - cell if cell >= cells else cell
            lines[p, real] += 1 - abs(place - cell)
    return lines


@twin_of("rise")
def slow_rise(net, image, target, seed):
    chances, masks = trials(net, image, target, seed)
    return sum(p * m for p, m in zip(chances, masks, strict=True)) / (len(masks) * 0.5)


@twin_of("rise_centred")
def slow_rise_centred(net, image, target, seed):
    chances, masks = trials(net, image, target, seed)
    middle, mean = sum(chances) / len(chances), sum(masks) / len(masks)
    together = sum((p - middle) * (m - mean) for p, m in zip(chances, masks, strict=True))
    return together / sum((m - mean) ** 2 for m in masks)


@twin_of("occlusion")
def slow_occlusion(net, image, target, seed):
    (H, W), total, covered = net.image_size, torch.zeros(net.image_size).double(), torch.zeros(net.image_size).double()
    with torch.no_grad():
        whole = net(image[None])[0, target]
        for i in [*range(0, H - round(H / 6), round(H / 12)), H - round(H / 6)]:
            for j in [*range(0, W - round(W / 6), round(W / 12)), W - round(W / 6)]:
                hidden = image.clone()
                hidden[:, i : i + round(H / 6), j : j + round(W / 6)] = 0
                total[i : i + round(H / 6), j : j + round(W / 6)] += whole - net(hidden[None])[0, target]
                covered[i : i + round(H / 6), j : j + round(W / 6)] += 1
    return total / covered


@twin_of("extremal_soft")
def slow_extremal_soft(net, image, target, seed):
    values, speed = torch.ones(14, 14, dtype=torch.float64), torch.zeros(14, 14, dtype=torch.float64)
    levels = [blurred(image, 20 / 224 * (1 - n / 7)) for n in range(7)] + [image]
    for step in range(40):
        leaf = values.clone().requires_grad_()
        mask = smooth(leaf)
        fine = enlarged(mask, net.image_size)
        mixed = sum((1 - (7 * fine - n).abs()).clamp(min=0) * level for n, level in enumerate(levels))
        edge = quantile(mask.flatten().tolist(), 0.9)
        wanted = ((mask.detach() - edge) / 0.5 + 0.5).clamp(0, 1)
        size = 300 * 16.4 ** (step / 40) * ((mask - wanted) ** 2).mean()
        (slope,) = torch.autograd.grad(net(mixed[None])[0, target] - size, leaf)
        speed = 0.9 * speed + 0.1 * slope
        values = (values + 0.01 * speed).clamp(0, 1)
    return enlarged(smooth(values), net.image_size)


def enlarged(mask, size):
    return interpolate(mask[None, None], size, mode="bilinear", align_corners=False)[0, 0]


@cache
def reaches():
    """The Gaussian around each of 14 x 14 cells, (14, 14) each; sigma 21 / 224 of the side."""
    cells = range(14)
    around = [
        torch.tensor(
            [[math.exp(-0.5 * ((i - a) ** 2 + (j - b) ** 2) / (14 * 21 / 224) ** 2) for b in cells] for a in cells],
            dtype=torch.float64,
        )
        for i in cells
        for j in cells
    ]
    return torch.stack(around)


def smooth(values):
    near = reaches() * values  # (196 places to, 14, 14 places from)
    weights = (20 * near).exp()
    return ((near * weights).sum((1, 2)) / weights.sum((1, 2))).view(14, 14)


def quantile(numbers, share):
    numbers = sorted(numbers)
    place = share * (len(numbers) - 1)
    low = int(place)
    return numbers[low] + (place - low) * (numbers[min(low + 1, len(numbers) - 1)] - numbers[low])

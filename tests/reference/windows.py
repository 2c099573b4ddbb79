"""Twins of SESS: window by window, as the released code goes."""

import torch
from torch.nn.functional import conv2d, interpolate, pad

from tests.reference import twin_of
from tests.reference.basic import parts
from tests.reference.rescoring import chance, stretch, up


def shown(raw, size):
    """Rectified, stretched, enlarged, stretched; a map of one value above 0 is bright everywhere."""
    raw = raw.clamp(min=0)
    if raw.max() == raw.min():
        return torch.full(size, float(raw.max() > 0), dtype=torch.float64)
    return stretch(up(stretch(raw), size))


def starts(length, side):
    found, here = [], 0
    while here + side < length:
        found.append(here)
        here += side
    return [*found, length - side]


def sess_twin(name, base):
    @twin_of(name)
    def slow(net, image, target, seed):
        side = net.image_size[0]
        pasted, chances = [], []
        for number in range(12):
            size = side + number * round(side * 2 / 7)
            wide = interpolate(image[None], (size, size), mode="bilinear")[0]
            for y in starts(size, side):
                for x in starts(size, side):
                    window = wide[:, y : y + side, x : x + side].contiguous()
                    full = torch.zeros(1, 1, size, size, dtype=torch.float64)
                    full[0, 0, y : y + side, x : x + side] = shown(base(*parts(net, window, target)[:2]), (side, side))
                    pasted.append(interpolate(full, (side, side), mode="bilinear")[0, 0])
                    chances.append(chance(net, window, target))
        total, count = torch.zeros(side, side, dtype=torch.float64), torch.zeros(side, side, dtype=torch.float64)
        for map_, p in zip(pasted, chances, strict=True):
            total += p / max(chances) * map_
            count += map_ > 0
        mean = torch.where(count > 0, total / count.clamp(min=1), 0.0)
        line = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / 50)
        kernel = line[:, None] * line / line.sum() ** 2
        return conv2d(pad(mean[None, None], (5, 5, 5, 5), mode="reflect"), kernel[None, None])[0, 0]


sess_twin("sess_gradcam", lambda A, G: sum(G[k].mean() * A[k] for k in range(len(A))))
sess_twin("sess_hirescam", lambda A, G: sum(G[k] * A[k] for k in range(len(A))))

"""The features once more, for rescoring: the same cells from fewer bytes.

A rectification commutes with a max-pool, so it is done after it, in place, on a quarter of the values; a
2 x 2 pool is two maxima of strided views; and a pool, or a convolution where that saves enough, makes only
the rows and columns that a seen cell still looks at. Given memory to spare, wide convolutions go Winograd's way, which
alone is not to the bit but to float32 rounding. BlindNet itself keeps its plain chain of modules, which
autograd and hooks rely on.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from wallcheck.geometry import lengths, seen_by
from wallcheck.models import _winograd
from wallcheck.models._blind import BlindNet
from wallcheck.models._chain import chain

Step = Callable[[Tensor], Tensor]

WORTH = 1 / 20  # of a map's rows or columns: less is not worth the copy that leaves them out


def lean_features(net: BlindNet) -> Step:
    """net.activations for use without autograd: images (n, 3, H, W) -> the whole target layer."""
    return _in_turn(list(_steps(net, whole=True)))


def lean_cells(net: BlindNet, spare_mb: float = 0) -> Step:
    """net.seen_cells for use without autograd: visible parts (n, 3, r, c) -> what the head reads.

    spare_mb: MiB that weights transformed for wide convolutions may take; with 0 the result is the same to the bit.
    """
    features = _in_turn(list(_steps(net, whole=False, spare_mb=spare_mb)))
    return lambda parts: net._hand_over(features(parts), net._first)


def _in_turn(steps: list[Step]) -> Step:
    def run(images: Tensor) -> Tensor:
        maps = images.contiguous(memory_format=torch.channels_last)
        for step in steps:
            maps = step(maps)
        return maps

    return run


def _steps(net: BlindNet, whole: bool, spare_mb: float = 0) -> Iterator[Step]:
    """The modules of the features, rectification after pooling; in place only on what a step has just made."""
    modules, fresh, windows = chain(net.features), False, 0
    while modules:
        module = modules.pop(0)
        if type(module) is nn.ReLU and modules and _halves(modules[0]):
            modules.insert(1, module)
            continue
        windows += isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d))
        if _halves(module):
            yield _halving(*(net.image_size if whole else _needed(net, windows)))
        elif type(module) is nn.Conv2d and not whole:
            size = 16 / 9 * module.weight.numel() * 4 / 2**20  # MiB of its transformed weights
            wide = size <= spare_mb and _winograd.pays(module)
            spare_mb -= size * wide
            yield (_wide if wide else _narrowing)(module, _needed(net, windows))
        else:
            yield torch.relu_ if type(module) is nn.ReLU and fresh else module
        fresh = _halves(module) or type(module) is nn.Conv2d


def _halving(rows: int, columns: int) -> Step:
    """Max-pool 2 x 2, of whose result only the first `rows` and `columns` are made."""

    def halve(maps: Tensor) -> Tensor:
        height, width = min(maps.shape[2] // 2, rows) * 2, min(maps.shape[3] // 2, columns) * 2
        flat = torch.maximum(maps[:, :, 0:height:2, :width], maps[:, :, 1:height:2, :width])
        return torch.maximum(flat[..., 0::2], flat[..., 1::2])

    return halve


def _wide(conv: nn.Conv2d, needed: tuple[int, int]) -> Step:
    """The rows and columns needed of a wide convolution, by `_winograd`."""
    weights = _winograd.transformed(conv.weight)

    def convolved(maps: Tensor) -> Tensor:
        rows, columns = (min(count, length) for count, length in zip(needed, maps.shape[2:], strict=True))
        return _winograd.convolved(maps, weights, conv.bias, rows, columns)

    return convolved


def _narrowing(conv: nn.Conv2d, needed: tuple[int, int]) -> Step:
    """The convolution, of whose result rows and columns beyond those needed are not made where they are many."""
    if conv.stride != (1, 1):
        return conv
    sides = list(zip(needed, conv.kernel_size, conv.padding, conv.dilation, strict=True))

    def narrow(maps: Tensor) -> Tensor:
        rows, columns = cut = [_cut(length, *side) for length, side in zip(maps.shape[2:], sides, strict=True)]
        if cut == [(length, 0, around) for length, around in zip(maps.shape[2:], conv.padding, strict=True)]:
            return conv(maps)
        padded = pad(maps[:, :, : rows[0], : columns[0]], (columns[1], 0, rows[1], 0))
        return conv2d(padded, conv.weight, conv.bias, 1, (rows[2], columns[2]), conv.dilation, conv.groups)

    return narrow


def _cut(length: int, needed: int, size: int, padding: int, dilation: int) -> tuple[int, int, int]:
    """Along one axis: how much of the input is read, the padding at its start alone, and that at both ends.

    Padded at the start alone, a convolution ends where the map does: what padding at a cut would have made of
    the last rows, no seen cell looks at.
    """
    read = needed + (size - 1) * dilation - padding
    return (read, padding, 0) if read <= length and needed <= (1 - WORTH) * length else (length, 0, padding)


def _needed(net: BlindNet, done: int) -> tuple[int, int]:
    """Rows and columns, from the start of the visible part, that a seen cell looks at after `done` layers."""
    counts = []
    for axis, (cells, part) in enumerate(zip(net.wall.box, net.visible, strict=True)):
        windows = [layer[axis] for layer in net.layers]
        stride = 1
        for window in windows[:done]:
            stride *= window.stride
        length = lengths(windows[:done], net.image_size[axis])[-1]
        counts.append(seen_by(cells, windows[done:], length).stop - part.start // stride)
    return counts[0], counts[1]


def _halves(module: nn.Module) -> bool:
    """A max-pool of 2 x 2 windows side by side."""
    if type(module) is not nn.MaxPool2d or module.return_indices or module.ceil_mode:
        return False
    wanted = ((module.kernel_size, 2), (module.stride, 2), (module.padding, 0), (module.dilation, 1))
    return all(given in (size, (size, size)) for given, size in wanted)

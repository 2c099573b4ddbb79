"""Rules of dependence of operations whose outputs read windows of positions: convolutions, pools, enlargements, borders."""

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional

from wallcheck.graph._masks import alone, along, depends, everything, masks_in, plain, shape_of, spread
from wallcheck.graph._nodes import op_of

STRAIGHT = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


@depends("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution")
def convolution(node: Node, arguments: dict) -> Tensor | tuple:
    """Channels of a group mix; positions meet as the same convolution with a window of ones says."""
    x, weight, groups = alone(arguments, "input"), arguments["weight"], arguments["groups"]
    if x is None or x.ndim != weight.ndim:
        return everything(node, arguments)
    joined = x.unflatten(1, (groups, -1)).sum(2).flatten(0, 1)[:, None]  # (N groups, 1, H, W)
    ones, dims = joined.new_ones(1, 1, *weight.shape[2:]), x.ndim - 2
    told = dict(stride=arguments["stride"], padding=arguments["padding"], dilation=arguments["dilation"])
    if arguments.get("transposed") or op_of(node).startswith("conv_transpose"):
        reached = TRANSPOSED[dims](joined, ones, output_padding=arguments["output_padding"], **told)
    else:
        reached = STRAIGHT[dims](joined, ones, **told)
    each = shape_of(node)[1] // groups
    reached = reached.unflatten(0, (-1, groups))  # (N, groups, 1, h, w)
    return reached.expand(-1, -1, each, *reached.shape[3:]).flatten(1, 2)


POOLS = [f"{kind}_pool{dims}d" for kind in ("max", "avg") for dims in (1, 2, 3)]
WITH_INDICES = ["max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d_with_indices"]


@depends(*POOLS, *WITH_INDICES)
def pooling(node: Node, arguments: dict) -> Tensor | tuple:
    x, value = plain(arguments["self"]), node.meta["val"]
    out = value[0].shape if isinstance(value, (list, tuple)) else value.shape
    dims = _dimensions(node)
    for i in range(dims):
        axis = i - dims
        x = along(x, axis, _reads(x.shape[axis], int(out[axis]), *_window(arguments, i)))
    return spread(node, x)


@depends("max_unpool2d")
def unpooled(node: Node, arguments: dict) -> Tensor:
    """Anywhere in the plane of its channel, as the places say."""
    total = sum(mask.sum((-2, -1), keepdim=True) for mask in masks_in(arguments))
    return total.expand(shape_of(node))


def _dimensions(node: Node) -> int:
    """2 of "max_pool2d"."""
    return int(next(sign for sign in op_of(node) if sign in "123"))


def _window(arguments: dict, axis: int) -> tuple[int, int, int, int]:
    """Size, stride, padding and dilation along an axis."""
    size = _along(arguments["kernel_size"], axis)
    stride, around = _along(arguments["stride"], axis, size), _along(arguments["padding"], axis)
    return size, stride, around, _along(arguments.get("dilation"), axis, 1)


def _along(value: object, axis: int, otherwise: int = 0) -> int:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return otherwise if not values or values[0] is None else int(values[axis if len(values) > 1 else 0])


def _reads(length: int, out: int, size: int, stride: int, around: int, dilation: int) -> Tensor:
    """(out, length): does output position o read input position i?"""
    offset = torch.arange(length) - (torch.arange(out)[:, None] * stride - around)
    return (offset >= 0) & (offset < dilation * (size - 1) + 1) & (offset % dilation == 0)


@depends(*[f"{kind}_pool{dims}d" for kind in ("adaptive_avg", "adaptive_max", "_adaptive_avg") for dims in (1, 2, 3)])
def adaptive_pooling(node: Node, arguments: dict) -> Tensor | tuple:
    """Output cell o reads positions floor(o n / m) .. ceil((o + 1) n / m) - 1."""
    x, dims = plain(arguments["self"]), _dimensions(node)
    for i in range(dims):
        axis, out = i - dims, _along(arguments["output_size"], i)
        length, place, cell = x.shape[axis], torch.arange(x.shape[axis]), torch.arange(out)[:, None]
        x = along(x, axis, (place >= cell * length // out) & (place < -((cell + 1) * -length // out)))
    return spread(node, x)


NEAREST = [f"{kind}{dims}d" for kind in ("upsample_nearest", "_upsample_nearest_exact") for dims in (1, 2, 3)]
LINEAR = ["upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"]
CUBIC = ["upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"]


@depends(*NEAREST, *LINEAR, *CUBIC)
def enlarged(node: Node, arguments: dict) -> Tensor:
    """Along each axis, the operation done to lines that are NaN at one position says which outputs read that, by a weight of 0 too."""
    name = "self" if "self" in arguments else "input"
    x, dims = plain(arguments[name]), _dimensions(node)
    order = [argument.name for argument in node.target._schema.arguments]
    for i in range(dims):
        lines = torch.zeros(x.shape[2 + i], x.shape[2 + i]).fill_diagonal_(torch.nan)
        lines = lines.view(len(lines), 1, *(-1 if j == i else 1 for j in range(dims)))
        told = _along_alone(arguments, i, dims) | {name: lines}
        made = node.target(*(told[each] for each in order)).movedim(2 + i, 0)  # (out, length, 1, ...)
        x = along(x, i - dims, made.isnan().flatten(2).any(2))
    return x


def _along_alone(arguments: dict, axis: int, dims: int) -> dict:
    """What the operation is told, for one axis: others go from one position to two, as an axis that keeps its size might be copied."""
    told, scales = dict(arguments), [name for name in arguments if name.startswith("scales")]
    for name, two in (("output_size", 2), ("scale_factors", 2.0)):
        if told.get(name) is not None:
            told[name] = [value if j == axis else two for j, value in enumerate(told[name])]
    return told | {name: None for j, name in enumerate(scales) if j != axis}


@depends("grid_sampler", "grid_sampler_2d", "torchvision::deform_conv2d")
def image_by_image(node: Node, arguments: dict) -> Tensor | tuple:
    """Each output of an image on all that the image has; images do not meet, unless they make the weights."""
    if masks_in([arguments.get("weight"), arguments.get("bias")]):
        return everything(node, arguments)
    total = sum(mask.flatten(1).sum(1) for mask in masks_in(arguments))
    shape = shape_of(node)
    return total.view(-1, *[1] * (len(shape) - 1)).expand(shape)


@depends("pad", "constant_pad_nd")
def padded(node: Node, arguments: dict) -> Tensor:
    """Padding repeats, mirrors or is constant: a constant depends on nothing."""
    mode = arguments.get("mode", "constant")
    return functional.pad(plain(arguments["self"]), [int(n) for n in arguments["pad"]], mode)


@depends(*[f"{kind}_pad{dims}d" for kind in ("reflection", "replication") for dims in (1, 2, 3)])
def bordered(node: Node, arguments: dict) -> Tensor:
    return node.target(plain(arguments["self"]), [int(n) for n in arguments["padding"]])

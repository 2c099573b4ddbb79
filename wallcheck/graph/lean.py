"""Less work for the same cells: features that are one line of convolutions and pools, run for rescoring.

Only the part of the image that a seen cell looks at is run; a rectification commutes with a max-pool, so it is done after it,
in place, on a quarter of the values; a 2 x 2 pool is two maxima of strided views; and a pool, or a convolution where that
saves enough, makes only the rows and columns that a seen cell still looks at. Given memory to spare, wide convolutions go
Winograd's way, which alone is not to the bit but to float32 rounding. Every line is checked against the graph it stands for
before it is used (`blind`); the graph itself is left as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.nn.functional import conv2d, max_pool2d, pad

from wallcheck.geometry import Layer, Span, Wall, Window, crop, lengths, seen_by
from wallcheck.graph import winograd
from wallcheck.graph._nodes import data_nodes, lays_out, named, op_of, placeholder
from wallcheck.graph._pointwise import BINARY, UNARY

Step = Callable[[Tensor], Tensor]

WORTH = 1 / 20  # of a map's rows or columns: less is not worth the copy that leaves them out
WINDOWED = ("conv2d", "max_pool2d", "avg_pool2d")
KEPT = ("clone", "contiguous", "to", "_to_copy")


@dataclass(frozen=True)
class Line:
    """Features that are one operation after another: nodes, and the windows of those that have one."""

    run: GraphModule
    nodes: tuple[Node, ...]
    wall: Wall
    image_size: tuple[int, int]

    @property
    def colours(self) -> int:
        """Channels of an image."""
        return int(placeholder(self.run.graph).meta["val"].shape[1])

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(window_of(self.run, node) for node in self.nodes if op_of(node) in WINDOWED)

    @property
    def visible(self) -> tuple[Span, Span, tuple[int, int]]:
        """Rows and columns of the image that decide the seen cells, and the first cell they make."""
        return crop(self.wall, self.layers, self.image_size)

    @property
    def seen_cells(self) -> tuple[slice, slice]:
        """Rows and columns of the seen cells on the map that the visible part makes."""
        box, first = self.wall.box, self.visible[2]
        rows, columns = (slice(span.start - at, span.stop - at) for span, at in zip(box, first, strict=True))
        return rows, columns

    def starts_at(self, node: Node) -> tuple[int, int]:
        """Row and column of a node's map at which that of the visible part begins."""
        done = self.nodes[: self.nodes.index(node) + 1]
        windows = [window_of(self.run, each) for each in done if op_of(each) in WINDOWED]
        rows, columns, _ = self.visible
        down, across = (prod(window[axis].stride for window in windows) for axis in (0, 1))
        return rows.start // down, columns.start // across


def line_of(run: GraphModule, layer: Node, wall: Wall, image_size: tuple[int, int]) -> Line | None:
    """The features of a graph up to a layer as a line; None where they branch or hold an operation of another kind."""
    nodes, known = [], data_nodes(run.graph, [placeholder(run.graph)])
    node = layer
    while node.op != "placeholder":
        sources = [each for each in node.all_input_nodes if each in known]
        if len(sources) != 1 or not _is_local(run, node):
            return None
        nodes.insert(0, node)
        node = sources[0]
        if any(user is not nodes[0] and user in known for user in node.users):
            return None
    line = Line(run, tuple(nodes), wall, image_size)
    try:
        line.visible  # noqa: B018  (a wall whose cells read padding alone has no visible part)
    except ValueError:
        return None
    return line


def _is_local(run: GraphModule, node: Node) -> bool:
    """An operation on each position, or a window that starts on the grid and ends by itself."""
    op = op_of(node)
    if op in KEPT or op in UNARY or (op == "batch_norm" and not named(node)["training"]):
        return True
    if op in BINARY:
        return all(not isinstance(each, Node) or _size(run, each) == 1 for each in node.args[1:])
    if op not in WINDOWED:
        return False
    told = named(node)
    return not told.get("ceil_mode") and not isinstance(told["padding"], str)


def _size(run: GraphModule, node: Node) -> int:
    return getattr(run, node.target).numel() if node.op == "get_attr" else 0


def window_of(run: GraphModule, node: Node) -> Layer:
    told = named(node)
    size = (
        tuple(getattr(run, told["weight"].target).shape[2:]) if op_of(node) == "conv2d" else _pair(told["kernel_size"])
    )
    stride = _pair(told["stride"]) or size
    return Layer(
        *(
            Window(*axis)
            for axis in zip(size, stride, _pair(told["padding"]), _pair(told.get("dilation") or 1), strict=True)
        )
    )


def _pair(value: int | Sequence[int]) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * 2 if len(values) == 1 else values


def whole(line: Line) -> Step:
    """Images (n, C, H, W) -> the whole target layer, without autograd."""
    return _in_turn(line, list(_steps(line, narrow=False)))


def cells(line: Line, spare_mb: float = 0) -> Step:
    """Visible parts (n, C, r, c) -> the seen cells' rectangle of the target layer.

    spare_mb: MiB that weights transformed for wide convolutions may take; with 0 the result is the same to the bit.
    """
    features = _in_turn(line, list(_steps(line, narrow=True, spare_mb=spare_mb)))
    rows, columns = line.seen_cells
    return lambda parts: features(parts)[:, :, rows, columns]


def _in_turn(line: Line, steps: list[Step]) -> Step:
    layout = torch.channels_last if lays_out(line.run) else torch.contiguous_format

    def run(images: Tensor) -> Tensor:
        maps = images.contiguous(memory_format=layout)
        for step in steps:
            maps = step(maps)
        return maps

    return run


def _steps(line: Line, narrow: bool, spare_mb: float = 0) -> Iterator[Step]:
    """The operations of the line, rectification after pooling; in place only on what a step has just made."""
    nodes, fresh, windows = [n for n in line.nodes if op_of(n) not in KEPT], False, 0
    while nodes:
        node = nodes.pop(0)
        op = op_of(node)
        if op == "relu" and nodes and _halves(nodes[0]):
            nodes.insert(1, node)
            continue
        windows += op in WINDOWED
        if _halves(node):
            yield _halving(*(_needed(line, windows) if narrow else line.image_size))
        elif op == "conv2d" and narrow:
            conv = _convolution(line.run, node)
            size = 16 / 9 * conv["weight"].numel() * 4 / 2**20  # MiB of its transformed weights
            wide = size <= spare_mb and winograd.pays(**conv)
            spare_mb -= size * wide
            yield (_wide if wide else _narrowing)(conv, _needed(line, windows))
        else:
            yield torch.relu_ if op == "relu" and fresh else _plain(line.run, node)
        fresh = _halves(node) or op == "conv2d"


def _plain(run: GraphModule, node: Node) -> Step:
    """The node's operation as it stands, on another map."""
    known = data_nodes(run.graph, [placeholder(run.graph)])
    place = next(i for i, each in enumerate(node.args) if isinstance(each, Node) and each in known)
    others = [getattr(run, each.target) if isinstance(each, Node) and each not in known else each for each in node.args]
    options = {key: getattr(run, v.target) if isinstance(v, Node) else v for key, v in node.kwargs.items()}
    return lambda maps: node.target(*others[:place], maps, *others[place + 1 :], **options)


def _convolution(run: GraphModule, node: Node) -> dict:
    told = named(node)
    tensors = {name: None if told[name] is None else getattr(run, told[name].target) for name in ("weight", "bias")}
    return (
        tensors | {name: _pair(told[name]) for name in ("stride", "padding", "dilation")} | {"groups": told["groups"]}
    )


def _halving(rows: int, columns: int) -> Step:
    """Max-pool 2 x 2, of whose result only the first `rows` and `columns` are made."""

    def halve(maps: Tensor) -> Tensor:
        height, width = min(maps.shape[2] // 2, rows) * 2, min(maps.shape[3] // 2, columns) * 2
        if maps.is_cuda:
            return max_pool2d(maps[:, :, :height, :width], 2)
        flat = torch.maximum(maps[:, :, 0:height:2, :width], maps[:, :, 1:height:2, :width])
        return torch.maximum(flat[..., 0::2], flat[..., 1::2])

    return halve


def _wide(conv: dict, needed: tuple[int, int]) -> Step:
    """The rows and columns needed of a wide convolution, by `winograd`."""
    weights = winograd.transformed(conv["weight"])

    def convolved(maps: Tensor) -> Tensor:
        rows, columns = (min(count, length) for count, length in zip(needed, maps.shape[2:], strict=True))
        return winograd.convolved(maps, weights, conv["bias"], rows, columns)

    return convolved


def _narrowing(conv: dict, needed: tuple[int, int]) -> Step:
    """The convolution, of whose result rows and columns beyond those needed are not made where they are many."""
    weight, bias, stride, padding, dilation, groups = conv.values()
    sides = list(zip(needed, weight.shape[2:], padding, dilation, strict=True))

    def narrow(maps: Tensor) -> Tensor:
        rows, columns = cut = [_cut(length, *side) for length, side in zip(maps.shape[2:], sides, strict=True)]
        if stride != (1, 1) or cut == [(n, 0, around) for n, around in zip(maps.shape[2:], padding, strict=True)]:
            return conv2d(maps, weight, bias, stride, padding, dilation, groups)
        padded = pad(maps[:, :, : rows[0], : columns[0]], (columns[1], 0, rows[1], 0))
        return conv2d(padded, weight, bias, 1, (rows[2], columns[2]), dilation, groups)

    return narrow


def _cut(length: int, needed: int, size: int, padding: int, dilation: int) -> tuple[int, int, int]:
    """Along one axis: how much of the input is read, the padding at its start alone, and that at both ends.

    Padded at the start alone, a convolution ends where the map does: what padding at a cut would have made of
    the last rows, no seen cell looks at.
    """
    read = needed + (size - 1) * dilation - padding
    return (read, padding, 0) if read <= length and needed <= (1 - WORTH) * length else (length, 0, padding)


def _needed(line: Line, done: int) -> tuple[int, int]:
    """Rows and columns, from the start of the visible part, that a seen cell looks at after `done` windows."""
    counts = []
    rows, columns, _ = line.visible
    for axis, (seen, part) in enumerate(zip(line.wall.box, (rows, columns), strict=True)):
        windows = [layer[axis] for layer in line.layers]
        stride = 1
        for window in windows[:done]:
            stride *= window.stride
        length = lengths(windows[:done], line.image_size[axis])[-1]
        counts.append(seen_by(seen, windows[done:], length).stop - part.start // stride)
    return counts[0], counts[1]


def _halves(node: Node) -> bool:
    """A max-pool of 2 x 2 windows side by side."""
    if op_of(node) != "max_pool2d":
        return False
    told = named(node)
    wanted = (("kernel_size", (2, 2)), ("padding", (0, 0)), ("dilation", (1, 1)))
    return all(_pair(told[name]) == pair for name, pair in wanted) and (_pair(told["stride"]) or (2, 2)) == (2, 2)

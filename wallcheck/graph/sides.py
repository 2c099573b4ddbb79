"""Where an image can be parted for a trunk wall, and the features of each side as a graph of their own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import count

import torch
from torch import Tensor, nn
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule

from wallcheck.geometry import Wall
from wallcheck.graph import reach, walls
from wallcheck.graph._nodes import call_of, copied, op_of
from wallcheck.graph._texts import without_texts
from wallcheck.graph._tidy import DETACHED, HALF, undetached
from wallcheck.graph._tracing import in_eval
from wallcheck.graph.attention import with_attention_apart
from wallcheck.graph.cut import Layer
from wallcheck.graph.export import Graph, NotOneGraph, exported
from wallcheck.graph.walls import Walled

AXIS = {"bottom": 2, "top": 2, "left": 3, "right": 3}


class _Reached(Exception):
    def __init__(self, value: Tensor):
        self.value = value


@contextmanager
def _listening(model: nn.Module, layer: Layer, reached: Callable[[Tensor], None]) -> Iterator[None]:
    """Tell the layer's value as soon as it is there. Each of its modules is listened to, in the call in which the layer was traced:
    an outer one may give a dictionary of it (backbones of segmentation do). The hooks are the last of theirs and go with the block."""

    def hook(call: int) -> Callable:
        calls = count()

        def told(module: nn.Module, inputs: object, value: object) -> None:
            if next(calls) == call and isinstance(value, Tensor):
                reached(value)

        return told

    handles = [model.get_submodule(name).register_forward_hook(hook(call_of(layer.node, name))) for name in layer.names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Captured(nn.Module):
    """A model that gives a layer's output instead of its own."""

    def __init__(self, model: nn.Module, layer: Layer):
        super().__init__()
        self.model, self.layer = model, layer

    def forward(self, images: Tensor) -> Tensor:
        kept: list[Tensor] = []
        with _listening(self.model, self.layer, kept.append):
            self.model(images)
        return kept[-1]


def up_to(model: nn.Module, layer: Layer, images: Tensor) -> Tensor:
    """A layer's output, by running the model itself no further than it."""

    def stop(value: Tensor) -> None:
        raise _Reached(value)

    try:
        with _listening(model, layer, stop), in_eval(model), torch.no_grad():
            model(images)
    except _Reached as reached:
        return reached.value
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"up to {layer.name} the network does not run on {tuple(images.shape[2:])} pixels ({reason})"
        ) from None
    raise ValueError(f"no module gives what is cut at {layer.name} as a tensor")


def parted(model: nn.Module, graph: Graph, layer: Layer, side: str, amount: Fraction | int) -> Walled:
    """The trunk wall that hides `amount` at a side: a share of the image, taken to the nearest border that the strides allow,
    or a number of rows (columns) of cells, exact. Raises ValueError where the features do not run on a part of an image."""
    axis = AXIS[side]
    length, reasons = graph.image_size[axis - 2], []
    for hidden in _borders(graph, layer, axis, amount):
        try:
            spans, seen = _spans(side, length, hidden)
            cells = [_cells(model, layer, graph, axis, stop - start) for start, stop in spans]
        except (ValueError, NotOneGraph) as error:
            reasons.append(str(error))
            continue
        if not _fits(cells, 1 - seen, amount, layer, axis):
            reasons.append(f"{hidden} hidden pixels make {cells[1 - seen]} + {cells[seen]} rows or columns of cells")
            continue
        try:
            return _walled(model, graph, layer, spans, axis, seen)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError(
        f"no trunk wall {side}:{amount} at {layer.name}: {reasons[0] if reasons else 'no border of cells lies there'}; use a "
        f"head wall, another layer or another amount"
    )


def _borders(graph: Graph, layer: Layer, axis: int, amount: Fraction | int) -> Iterator[int]:
    """Pixels to hide, the most fitting first: whole strides, then any number where there is no whole stride."""
    length, cells = graph.image_size[axis - 2], layer.form.grid[axis - 2]
    stride = -(-length // cells)
    wanted = amount * stride if isinstance(amount, int) else amount * length
    whole = sorted(range(stride, length, stride), key=lambda hidden: (abs(hidden - wanted), hidden))
    from_the_end = sorted({length - h for h in whole}, key=lambda hidden: (abs(hidden - wanted), hidden))
    near = [
        h
        for h in (*whole[:4], *from_the_end[:4], round(wanted), round(wanted) + 1, round(wanted) - 1)
        if 0 < h < length
    ]
    yield from dict.fromkeys(
        sorted(
            near, key=lambda hidden: (abs(hidden - wanted) > stride, hidden not in whole, abs(hidden - wanted), hidden)
        )
    )


def _spans(side: str, length: int, hidden: int) -> tuple[list[tuple[int, int]], int]:
    """Spans of pixels from the start to the end, and which of them is the seen one."""
    if side in ("bottom", "right"):
        return [(0, length - hidden), (length - hidden, length)], 0
    return [(0, hidden), (hidden, length)], 1


def _cells(model: nn.Module, layer: Layer, graph: Graph, axis: int, pixels: int) -> int:
    """Rows or columns of cells that a part of the image makes; ValueError where the features do not run on it."""
    value = up_to(model, layer, _noise(model, graph, _size(graph, axis, pixels), 1))
    first = 2 if layer.form.axes == "map" else 1
    grid = tuple(value.shape[first : first + 2])
    if len(grid) < 2 or grid[3 - axis] != layer.form.grid[3 - axis]:
        told = f"{layer.form.grid[0]} x {layer.form.grid[1]} cells of the whole image, {' x '.join(map(str, grid))} of a part of it"
        raise ValueError(f"parts of an image cannot be put together: {told}, as where rows are turned into columns")
    return int(grid[axis - 2])


def _size(graph: Graph, axis: int, pixels: int) -> tuple[int, int]:
    size = list(graph.image_size)
    size[axis - 2] = pixels
    return tuple(size)


def _noise(model: nn.Module, graph: Graph, size: tuple[int, int], count: int) -> Tensor:
    example = next((t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()), torch.empty(0))
    drawn = torch.randn(count, graph.colours, *size, generator=torch.Generator().manual_seed(0))
    return drawn.to(example)


def _fits(cells: list[int], hidden_side: int, amount: Fraction | int, layer: Layer, axis: int) -> bool:
    """Does the hidden side have the number of cells asked for, exactly? (A share needs no exact number.)"""
    return min(cells) > 0 and (not isinstance(amount, int) or cells[hidden_side] == amount)


def _walled(model: nn.Module, graph: Graph, layer: Layer, spans: list[tuple[int, int]], axis: int, seen: int) -> Walled:
    sides = [_side(model, graph, layer, _size(graph, axis, stop - start)) for start, stop in spans]
    return walls.with_sides_apart(graph, layer, sides, spans, axis, seen)


def _side(model: nn.Module, graph: Graph, layer: Layer, size: tuple[int, int]) -> Graph:
    """The features on images of another size: the graph's own operations where these do what the network does on such
    images, else the network traced anew."""
    images = _noise(model, graph, size, 2)
    wanted = up_to(model, layer, images)
    exact = images.dtype not in HALF  # a half network's graph runs in float32, the network itself as it is
    near, least = (1e-3, 1e-5) if exact else (0.1, 0.1)
    for made in (lambda: _resized(graph, layer, size), lambda: _traced(model, graph, layer, size)):
        with suppress(Exception):  # sizes written into the graph, or a head that wants another size
            side = made()
            with torch.no_grad():
                given = side.run(images if exact else images.float())
            if given.shape == wanted.shape and torch.allclose(
                given, wanted.to(given), rtol=near, atol=least * float(wanted.abs().max())
            ):
                return side
    raise ValueError(
        f"up to {layer.name} the network is no graph on {size} pixels; its sizes are fixed for {graph.image_size}"
    )


@without_texts()
def _resized(graph: Graph, layer: Layer, size: tuple[int, int]) -> Graph:
    fx, known = FxGraph(), {}
    copied([n for n in graph.fx.nodes if n.op != "output"], fx, known)
    fx.output(known[layer.node])
    fx.eliminate_dead_code()
    side = Graph(GraphModule(graph.run, fx), graph.colours, size)
    reach.shaped(side.run, graph.colours, size)
    return side


def _traced(model: nn.Module, graph: Graph, layer: Layer, size: tuple[int, int]) -> Graph:
    side = exported(Captured(model, layer), graph.colours, size, prefix="model.", logits=False)
    if not any(op_of(node) in DETACHED for node in graph.fx.nodes):  # the whole network lets no gradient through
        undetached(side.run)
    reach.shaped(side.run, graph.colours, size)
    return side


def hidden(model: nn.Module, graph: Graph, layer: Layer, side: str, amount: Fraction | int) -> int | None:
    """Pixels that a trunk wall at this layer would hide; None where the features do not run on parts of the image."""
    axis = AXIS[side]
    across, along = graph.image_size[axis - 2], graph.image_size[3 - axis]
    if layer.form.axes == "tokens":
        rows = layer.form.grid[axis - 2]
        cells = amount if isinstance(amount, int) else nearest(rows, amount)
        return cells * across // rows * along if 0 < cells < rows else None
    for pixels in _borders(graph, layer, axis, amount):
        with suppress(ValueError):
            cells = [_cells(model, layer, graph, axis, n) for n in (pixels, across - pixels)]
            if _fits(cells, 0, amount, layer, axis):
                return pixels * along
    return None


def nearest(rows: int, share: Fraction) -> int:
    """Of so many rows, the number nearest to a share; the smaller of two that are equally near."""
    return min(range(1, rows), key=lambda count: (abs(Fraction(count, rows) - share), count), default=1)


def token_wall(graph: Graph, layer: Layer, side: str, amount: Fraction | int) -> Walled:
    """The trunk wall of a transformer: attention parted, at a border between patches."""
    rows = layer.form.grid[0 if AXIS[side] == 2 else 1]
    cells = amount if isinstance(amount, int) else nearest(rows, amount)
    wall = Wall.behind(side, layer.form.grid, cells)
    return with_attention_apart(graph, layer, wall, layer.form.grid)

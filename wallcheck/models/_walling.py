"""Any classifier behind a wall: `blind(model, ...)`, and the layers where a wall can stand."""

from dataclasses import dataclass
from fractions import Fraction
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.modules import module as torch_module

from wallcheck.defaults import usual
from wallcheck.geometry import Wall, wall_amount
from wallcheck.graph import (
    BlindGraph,
    Form,
    Graph,
    Layer,
    NotOneGraph,
    Walled,
    detached,
    exported,
    key_of,
    layer_named,
    layers_of,
    plainly,
    reach,
    sides,
    with_head_wall,
)
from wallcheck.graph.quick import Quick, quick_of
from wallcheck.keeping import alone, tracing
from wallcheck.models._blind import BlindNet, colours_of, sides_of, tensor_of
from wallcheck.models._opening import origin_of
from wallcheck.models._wrappers import unwrapped

KINDS = ("head", "trunk")
_QUICK: WeakKeyDictionary = WeakKeyDictionary()  # net -> (tensors, quick graph): not on the net, which may be copied
FORWARD_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
GLOBAL_HOOKS = torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks


class WalledModel(BlindNet):
    """A model behind a wall, as the graph that `blind` made of it: a snapshot of what it ran then, in eval mode.

    The graph's tensors share the model's storage and belong to this net: moving or converting the net leaves the model alone.
    note: how the wall that was asked for became the one there is. origin: the model's own state dict, where the description
    tells how to build the model again; it shares the model's values, as they were then. learnt: names of the model's parameters.
    """

    def __init__(
        self,
        walled: Walled,
        description: dict | None = None,
        origin: dict[str, Tensor] | None = None,
        learnt: frozenset[str] = frozenset(),
    ):
        nn.Module.__init__(self)
        self._origin, self._learnt = origin, learnt
        self.run: GraphModule = walled.graph.run
        self.wall, self.kind, self.note = walled.wall, walled.kind, walled.note
        self.image_size, self.colours = walled.graph.image_size, walled.graph.colours
        self.channels, self.description = walled.layer.form.channels, description
        self._form, self._names = walled.layer.form, walled.layer.names
        self._at = walled.layer.node.name, walled.handed.name, tuple(node.name for node in walled.layer.crossing)
        self._sides = walled.sides, walled.axis, walled.seen_side

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, D), by the whole walled graph."""
        self.check(images)
        return self.run(images)

    def shortcut(self, images: Tensor) -> Tensor:
        """The same logits from the visible part of the images alone."""
        self.check(images)
        if next(self.run.parameters(), None) is None:
            return self.visible_logits(images[(..., *self.visible)])
        quick = self._quick()
        return quick.run(images[(..., *quick.visible)])

    def _quick(self) -> Quick:
        """The quick graph on the weights as they are, to be followed by autograd."""
        named = (*self.run.named_parameters(), *self.run.named_buffers())
        state = tuple((name, id(each), each.dtype, str(each.device)) for name, each in named)
        kept = _QUICK.get(self)
        if kept is None or kept[0] != state:
            with plainly(tensor_of(self).device), torch.no_grad():
                _QUICK[self] = kept = state, quick_of(self._walled())
        return kept[1]

    @tracing()
    @usual()
    def exported(self) -> BlindGraph:
        self._refuse_own_doors()
        hooks = [*GLOBAL_HOOKS, *(getattr(each, kind) for each in (self, self.run) for kind in FORWARD_HOOKS)]
        if any(hooks) or self._own_forward or "forward" in vars(self.run):
            raise NotOneGraph(
                "hooks or another forward were put on a net that `blind` had made, where its graph does not hold them; put them on "
                "the model and make it blind again"
            )
        trained = any(True for _ in self.run.parameters())
        return self._remember(BlindGraph(detached(self._walled()) if trained else self._walled()))

    def trainable(self) -> "WalledModel":
        """This net, its weights as parameters: to be trained as the graph that it is, behind its wall. They are the model's own
        values, so the model is trained with it. Raises ValueError for a model that nobody `opened`, which could not be saved, and
        where a trunk wall sends two sides through the features apart: train such a model itself, and make it blind again."""
        if next(self.run.parameters(), None) is not None:
            return self
        if self._origin is None or self._sides[0]:
            told = "its features run on two sides apart" if self._sides[0] else "nobody opened its model"
            raise ValueError(
                f"{told}, so this net cannot be trained as it is; train the model, and call blind on it again"
            )
        weights = [name for name, _ in self.run.named_buffers() if key_of(name) in self._learnt]
        for name in weights:  # in the graph's order: a sum over parameters depends on theirs
            value = getattr(self.run, name)
            delattr(self.run, name)
            self.run.register_parameter(name, nn.Parameter(value))
        self.description["trainable"] = True
        return self

    def kept_state(self) -> dict[str, Tensor]:
        """The model's own state dict, with the weights as this net has them now where it has been trained."""
        return self._origin | {key_of(name): each for name, each in self.run.named_parameters()}

    def _walled(self) -> Walled:
        nodes = {node.name: node for node in self.run.graph.nodes}
        at, handed, crossing = self._at
        layer = Layer(self._names, nodes[at], self._form, tuple(nodes[name] for name in crossing))
        graph = Graph(self.run, self.colours, self.image_size)
        spans, axis, seen = self._sides
        return Walled(graph, layer, self.wall, self.kind, nodes[handed], self.note, spans, axis, seen)

    @classmethod
    def _proved_class(cls) -> type:
        return WalledModel


@alone()
@usual()
def blind(
    model: nn.Module,
    image_size: int | tuple[int, int],
    layer: str | None = None,
    wall: str | Wall = "bottom:1/2",
    kind: str = "head",
    *,
    colours: int | None = None,
    description: dict | None = None,
) -> BlindNet:
    """The model behind a wall, proved: a net for `certify`, `audit` and `Evidence`. The model itself is not changed.

    image_size: a side or (H, W). layer: where the map of cells is taken, `layers` lists them; None is the last that still has a
    map. wall: "side:cells" or "side:share" ("bottom:3", "left:1/2"; a share is taken to the nearest wall that the strides allow,
    as `note` tells, a number of cells is exact), or for a head wall any Wall over the layer's cells.
    kind: "head" hands the head the seen cells alone: a smaller map where it pools over positions, else with 0 in place of unseen
    cells. "trunk" lets nothing cross in any layer: each side of the image goes through the features as an image of its own
    (tokens: attention is parted at the wall), so exactly one side of the image is unseen.
    colours: channels of an image, None is what the first convolution takes. description: more to tell of it, such as the names
    of its "classes"; of a model that `wallcheck.models.opened` built, what builds it again is told without asking.

    Raises NotOneGraph where the model's flow depends on values, ValueError for a layer or wall that cannot be, with what can.

    >>> net = blind(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)), 8)
    >>> int(net.wall.unseen.sum()), int(net.regions.unseen.sum())
    (32, 24)
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; choose 'head' or 'trunk'")
    model = _module(model)
    size = sides_of(image_size)
    graph = exported(model, colours or colours_of(model), size)
    at = layer_named(graph, layer, sides_apart=kind == "trunk")
    walled = _trunk(model, graph, at, wall) if kind == "trunk" else _head(graph, at, wall)
    told = _described(model, size, at, wall, kind, graph.colours, description)
    learnt = frozenset(name for name, _ in model.named_parameters())
    net = WalledModel(walled, told, model.state_dict() if told and "model" in told else None, learnt)
    net._remember(BlindGraph(walled))
    if problems := net.graph.proof.mixes:
        raise ValueError(f"the images of a batch meet at {problems}; a wall is proved image by image")
    return net


def _module(model: nn.Module) -> nn.Module:
    """What is inside all wrappers; raises TypeError for what is no module."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is {model if isinstance(model, str) else getattr(model, '__name__', type(model).__name__)!r}, expected a "
            "torch.nn.Module; wallcheck.models.opened('torchvision:resnet18') gives one by name"
        )
    return unwrapped(model)


def _described(
    model: nn.Module, size: tuple[int, int], at: Layer, wall: str | Wall, kind: str, colours: int, more: dict | None
) -> dict | None:
    """What `wallcheck.models.load` builds the net from; of a model that nobody opened, what the caller told."""
    origin = origin_of(model)
    if origin is None:
        return more
    rows = wall if isinstance(wall, str) else ["".join("01"[int(cell)] for cell in row) for row in wall.unseen]
    place = {"image_size": list(size), "layer": at.name, "wall": rows, "kind": kind, "colours": colours}
    return {"builder": "blind", **origin, **place, **(more or {})}


def blind_again(model: nn.Module, description: dict) -> BlindNet:
    """The net that a description names, of a model with its weights in place; raises what `blind` raises."""
    keys = ("image_size", "layer", "kind", "colours")
    made = {key: description[key] for key in keys} | {"image_size": tuple(description["image_size"])}
    wall = description["wall"]
    if not isinstance(wall, str):
        wall = Wall(np.array([[cell == "0" for cell in row] for row in wall]))
    net = blind(model, wall=wall, **made)
    net.description = dict(description)
    return net.trainable() if description.get("trainable") else net


def _head(graph: Graph, at: Layer, wall: str | Wall) -> Walled:
    if isinstance(wall, Wall):
        return with_head_wall(graph, at, wall)
    side, amount = wall_amount(wall)
    cells = _cells(side, amount, at.form.grid)
    made = with_head_wall(graph, at, Wall.behind(side, at.form.grid, cells))
    across = at.form.grid[0 if sides.AXIS[side] == 2 else 1]
    return made.told(f"{side}: {cells} of {across} rows or columns of cells" + _asked(amount))


def _cells(side: str, amount: int | Fraction, grid: tuple[int, int]) -> int:
    """Rows or columns of cells to hide."""
    return amount if isinstance(amount, int) else sides.nearest(grid[sides.AXIS[side] - 2], amount)


def _trunk(model: nn.Module, graph: Graph, at: Layer, wall: str | Wall) -> Walled:
    if isinstance(wall, Wall):
        raise ValueError('a trunk wall parts the image at one side; write it as text, "bottom:1/2"')
    side, amount = wall_amount(wall)
    if at.form.axes == "tokens":
        made = sides.token_wall(graph, at, side, amount)
        axis, hidden = (
            sides.AXIS[side],
            made.wall.unseen.sum() * graph.image_size[0] * graph.image_size[1] // made.wall.seen.size,
        )
        hidden //= graph.image_size[3 - axis]
    else:
        made = sides.parted(model, graph, at, side, amount)
        start, stop = made.sides[1 - made.seen_side]
        hidden = stop - start
    return made.told(f"{side}: {hidden} rows or columns of pixels" + _asked(amount))


def _asked(amount: int | Fraction) -> str:
    return "" if isinstance(amount, int) else f", the nearest to {amount} that the strides allow"


@dataclass(frozen=True)
class WhereToCut:
    """A layer where a model can be cut: its name, what else it is called, shape (K, h, w) and the pixels of the image that each
    kind of wall would hide there; None where that kind cannot stand."""

    name: str
    also: tuple[str, ...]
    shape: tuple[int, int, int]
    prefix: int
    head: int | None
    trunk: int | None
    pixels: int


@alone()
@usual()
def layers(
    model: nn.Module, image_size: int | tuple[int, int], wall: str = "bottom:1/2", colours: int | None = None
) -> list[WhereToCut]:
    """Where a model can be cut, in forward order, and how many pixels a wall hides there by each kind."""
    model, size = _module(model), sides_of(image_size)
    graph = exported(model, colours or colours_of(model), size)
    side, amount = wall_amount(wall)
    return [
        WhereToCut(
            at.name,
            at.names[1:],
            (at.form.channels, *at.form.grid),
            at.form.prefix,
            _hidden_by_head(graph, at, side, amount),
            sides.hidden(model, graph, at, side, amount),
            size[0] * size[1],
        )
        for at in layers_of(graph)
    ]


def _hidden_by_head(graph: Graph, at: Layer, side: str, amount: int | Fraction) -> int | None:
    """Pixels that no seen cell (nor prefix token) looks at."""
    cells = _cells(side, amount, at.form.grid)
    if not 0 < cells < at.form.grid[0 if sides.AXIS[side] == 2 else 1]:
        return None
    wall = Wall.behind(side, at.form.grid, cells)
    found = reach.backward(graph.run, _seen_of(at.form, wall), at=at.node).get(graph.images)
    return int((~found[0].any(0)).sum()) if found is not None else int(np.prod(graph.image_size))


def _seen_of(form: Form, wall: Wall) -> Tensor:
    """The seen part of a layer's value of the first image."""
    cells = torch.zeros(reach.BATCH, form.channels, *form.grid, dtype=torch.bool)
    cells[0, :, torch.from_numpy(wall.seen.copy())] = True
    rest = torch.zeros(reach.BATCH, form.prefix, form.channels, dtype=torch.bool)
    rest[0] = True
    return form.value(cells, rest if form.prefix else None)

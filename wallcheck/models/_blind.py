"""BlindNet: a classifier whose head is not handed the unseen cells, proved on its own graph."""

from collections.abc import Hashable, Sequence
from contextlib import suppress
from numbers import Integral
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from torch.fx import Node

from wallcheck.defaults import usual
from wallcheck.geometry import Regions, Wall
from wallcheck.graph import BlindGraph, Form, Graph, Layer, NotOneGraph, Walled, exported, in_eval, ordinary
from wallcheck.graph._nodes import op_of, paths_of
from wallcheck.graph._tidy import COMPUTED
from wallcheck.graph.quick import close
from wallcheck.keeping import tracing, untraced
from wallcheck.models._state import state_of, values_of
from wallcheck.models._wrappers import unwrapped

NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
PROVED = (
    "activations",
    "logits_from",
    "visible_logits",
    "graph",
    "exported",
    "regions",
    "visible",
    "model",
    "target_layer",
)

_GRAPHS: WeakKeyDictionary = WeakKeyDictionary()  # net -> (state, graph): not on the net, which may be copied and saved
_COPIED: WeakSet = WeakSet()  # nets whose graphs hold values of their own, which no change of a weight in place reaches
_MODELS: WeakKeyDictionary = WeakKeyDictionary()
_CROPS: WeakKeyDictionary = WeakKeyDictionary()  # net -> (state without weights, crop)
WHOLE = slice(None), slice(None), (0, 0)


def as_blind(net: nn.Module) -> "BlindNet":
    """The blind net itself, however often it is wrapped; raises TypeError for what is none."""
    inner = unwrapped(net)
    if not isinstance(inner, BlindNet):
        raise TypeError(
            f"a {type(inner).__name__} has no wall; make one with wallcheck.blind(model, image_size, wall='bottom:1/2')"
        )
    return inner


class BlindNet(nn.Module):
    """A classifier that reads only the cells in front of a wall.

    `features` maps images (B, C, H, W) to activations (B, K, h, w) of the target layer. The wall hands its seen cells to
    `head`: as (B, K, r, c) when they form a rectangle of r x c cells, else as (B, K, 1, n). The head therefore owns no
    weight for an unseen cell, and no optimiser, weight decay or checkpoint can open the wall. Neither module is changed.

    What the net says of itself is not believed: `graph`, and with it `regions`, `visible` and all that methods are shown, is
    exported from what really runs and proved (`wallcheck.graph`), anew whenever the net has changed.

    colours: channels C of an image; None is what the first convolution takes.
    Raises ValueError when the features do not run on such images or give another grid than the wall covers.
    """

    image_size: tuple[int, int]

    def __init__(
        self,
        features: nn.Module,
        head: nn.Module,
        wall: Wall,
        image_size: tuple[int, int] | int,
        description: dict | None = None,
        colours: int | None = None,
    ):
        super().__init__()
        self.features, self.head, self.wall = features, head, wall
        self.image_size = sides_of(image_size)
        self.description = description
        self.colours = colours or colours_of(features)
        self.channels = self._checked_features()

    # -- the network itself -----------------------------------------------------------------------

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, D), by the whole network: hooks see the whole target layer."""
        self.check(images)
        return self.head(self._hand_over(self._run_features(images), (0, 0)))

    def shortcut(self, images: Tensor) -> Tensor:
        """The same logits from the visible part of the images alone, which is all that matters: what training runs. The whole
        network where the features are no single line of layers, hold norms that take the batch's own statistics, or were changed
        (a hook, another layer) since the shortcut was first taken."""
        self.check(images)
        if self._forward_hooks or self._forward_pre_hooks or self._own_forward:
            return self(images)
        if self not in _CROPS:
            crop = self._cropped()
            _CROPS[self] = state_of(self, weights=False), crop
        state, crop = _CROPS[self]
        rows, columns, first = crop if state == state_of(self, weights=False) else WHOLE
        return self.head(self._hand_over(self._run_features(images[:, :, rows, columns]), first))

    @property
    def _own_forward(self) -> bool:
        """Is `forward` another than this class's, by a subclass or on the net itself?"""
        return "forward" in vars(self) or type(self).forward is not self._proved_class().forward

    def _cropped(self) -> tuple[slice, slice, tuple[int, int]]:
        line = self.graph.quick.line
        if line is None or any(isinstance(each, NORMS) for each in self.features.modules()):
            return WHOLE
        rows, columns, first = line.visible
        crop = slice(*rows), slice(*columns), first
        return crop if self._runs_on(*crop) else WHOLE

    def _runs_on(self, rows: slice, columns: slice, first: tuple[int, int]) -> bool:
        """Do the modules themselves run on the visible part alone, and give the same? Their code may ask for an image's size."""
        example = tensor_of(self)
        drawn = torch.randn(2, self.colours, *self.image_size, generator=torch.Generator().manual_seed(0)).to(example)
        with in_eval(self), torch.no_grad(), suppress(Exception):
            part = self._hand_over(self._run_features(drawn[:, :, rows, columns]), first)
            return close(part, self._hand_over(self._run_features(drawn), (0, 0)))
        return False

    def _run_features(self, images: Tensor) -> Tensor:
        return self.features(images.contiguous(memory_format=torch.channels_last))

    def _hand_over(self, activations: Tensor, first: tuple[int, int]) -> Tensor:
        """The seen cells of a map (N, K, ...) whose cell (0, 0) is cell `first` of the whole grid, as the head gets them."""
        (top, bottom), (left, right) = self.wall.box
        if self.wall.is_box:
            return activations[:, :, top - first[0] : bottom - first[0], left - first[1] : right - first[1]]
        rows, columns = self.wall.seen.nonzero()
        return activations[:, :, rows - first[0], columns - first[1]][:, :, None]

    def check(self, images: Tensor) -> None:
        """Raise ValueError unless images are floating point (B, C, H, W) of this net's size."""
        if not isinstance(images, Tensor):
            raise TypeError(
                f"images are {type(images).__name__}, expected a tensor (B, C, H, W); use wallcheck.data.normalise"
            )
        wanted = (self.colours, *self.image_size)
        if images.is_nested:
            raise ValueError(
                "images are a nested tensor, of several sizes; make them one size and stack them, torch.stack"
            )
        if images.ndim != 4 or tuple(images.shape[1:]) != wanted:
            raise ValueError(
                f"images have shape {tuple(images.shape)}, this net takes (B, {', '.join(map(str, wanted))}); "
                f"read them with wallcheck.data or resize and convert them"
            )
        if not images.is_floating_point() or images.layout != torch.strided:
            got = images.dtype if images.layout == torch.strided else images.layout
            raise ValueError(f"images are {got}, expected floating point; use wallcheck.data.normalise")
        if images.is_meta and not tensor_of(self).is_meta:
            raise ValueError("images are on the device meta, which holds no values; read them on the CPU or a GPU")

    def _checked_features(self) -> int:
        example = tensor_of(self)
        images = torch.zeros(1, self.colours, *self.image_size, dtype=example.dtype, device=example.device)
        try:
            with in_eval(self.features), torch.no_grad():
                value = self._run_features(images)
        except RuntimeError as error:
            raise ValueError(
                f"the features do not run on images {tuple(images.shape)} ({' '.join(str(error).split())})"
            ) from None
        if not isinstance(value, Tensor) or value.ndim != 4 or tuple(value.shape[2:]) != self.wall.seen.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"the wall covers {self.wall.seen.shape} cells, but the features make {got} of an image {self.image_size}; "
                f"give features with a map (B, K, h, w) and build the wall for its cells"
            )
        return value.shape[1]

    # -- its graph --------------------------------------------------------------------------------

    @property
    def graph(self) -> BlindGraph:
        """The proved graph of what runs now. Raises NotOneGraph where flow depends on values."""
        with untraced():
            kept = _GRAPHS.get(self)
            if kept is not None and kept[0] == self._state():
                return kept[1]
        return self.exported()

    @tracing()
    @usual()
    def exported(self) -> BlindGraph:
        """A graph made anew, whatever is kept: what certificates and audits use."""
        self._refuse_own_doors()
        graph = exported(self, self.colours, self.image_size)
        at, handed = self._layer(graph)
        return self._remember(BlindGraph(Walled(graph, at, self.wall, "head", handed)))

    def _remember(self, made: BlindGraph) -> BlindGraph:
        theirs = {tensor.data_ptr() for tensor in (*self.parameters(), *self.buffers())}
        own = [name for name, tensor in made.run.named_buffers() if tensor.data_ptr() not in theirs]
        made_of_others = any(name.startswith(COMPUTED) or getattr(made.run, name).is_floating_point() for name in own)
        (_COPIED.add if made_of_others else _COPIED.discard)(self)
        _GRAPHS[self] = self._state(), made
        return made

    def _state(self) -> Hashable:
        """What the net would run now; by the values of its weights too, where the graph was made of copies or products of
        them: half precision, weight norms, pruning."""
        return state_of(self), values_of(self) if self in _COPIED else None

    def _refuse_own_doors(self) -> None:
        """A subclass that answers for the graph itself would show methods another function than the one that is proved."""
        own = [name for name in PROVED if getattr(type(self), name) is not getattr(type(self)._proved_class(), name)]
        if own:
            raise NotOneGraph(
                f"{type(self).__name__} has its own {', '.join(own)}, which are the proof's to answer; change features, head or "
                f"forward instead"
            )

    @classmethod
    def _proved_class(cls) -> type:
        return BlindNet

    def _layer(self, graph: Graph) -> tuple[Layer, Node]:
        """The features' output in the graph, and the last value before the head: what the head is handed."""
        inside = [node for node in graph.fx.nodes if "features" in paths_of(node)[:1]]
        last = handed = inside[-1] if inside else graph.images
        while (user := _only_user(handed)) is not None and user.op == "call_function" and not paths_of(user):
            handed = user
        return Layer(("features",), last, Form("map", self.wall.seen.shape, self.channels)), handed

    @property
    def regions(self) -> Regions:
        """Seen pixels, halo and unseen pixels: proved, never declared."""
        return self.graph.regions

    @regions.setter
    def regions(self, value: Regions) -> None:
        raise AttributeError(
            "regions are proved on the net's graph and cannot be declared; change the wall or the layers"
        )

    @property
    def visible(self) -> tuple[slice, slice]:
        """Rows and columns of the part of an image that decides every logit."""
        return self.graph.visible

    def activations(self, images: Tensor) -> Tensor:
        """The whole target layer (B, K, h, w) by the proved graph, unseen cells included: what a CAM looks at."""
        self.check(images)
        return self.graph.activations(images)[0]

    def logits_from(self, activations: Tensor, beside: tuple[Tensor, ...] = ()) -> Tensor:
        """Logits (B, D) of activations (B, K, h, w) by the proved graph: the wall, then the head. beside: what runs beside the
        cells in a transformer, as graph.activations gives it."""
        if tuple(activations.shape[-2:]) != self.wall.seen.shape:
            raise ValueError(
                f"activations have {tuple(activations.shape[-2:])} cells, the wall covers {self.wall.seen.shape}; "
                f"pass the whole target layer as net.activations(images) gives it"
            )
        return self.graph.logits(activations, beside)

    def visible_logits(self, parts: Tensor) -> Tensor:
        """Logits of the visible part of images alone, images[..., *net.visible]: the shortcut of rescoring, by the graph."""
        return self.graph.visible_logits(parts)

    @property
    def model(self) -> nn.Module:
        """The whole net as an ordinary module for other libraries: whole images in, logits out, modules to hook on the way. Its
        weights share the net's values; hooks, modes and gradients set on it are its own. Its target layer is `target_layer`."""
        graph = self.graph
        kept = _MODELS.get(self)
        if kept is None or kept[0] is not graph:
            # An audit makes the graph anew: an explainer that was built on this module before goes on if it is the same function.
            same = kept is not None and kept[0].fingerprint == graph.fingerprint
            _MODELS[self] = kept = (graph, kept[1] if same else ordinary(graph.walled))
        return kept[1]

    @property
    def target_layer(self) -> nn.Module:
        """The module of `model` whose output (B, K, h, w) a CAM looks at."""
        return self.model.target


def _only_user(node: Node) -> Node | None:
    users = [user for user in node.users if op_of(user) != "sym_size"]
    return users[0] if len(users) == 1 else None


def tensor_of(module: nn.Module) -> Tensor:
    """A tensor of the module's device and precision; an empty one of torch's own where it has none."""
    tensors = (*module.parameters(), *module.buffers())
    return next((each for each in tensors if each.is_floating_point()), torch.empty(0))


def sides_of(image_size: object) -> tuple[int, int]:
    """(H, W) of a side or of (H, W); ValueError for anything else."""
    sides = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
    whole = [each for each in sides if isinstance(each, Integral) and not isinstance(each, bool) and each > 0]
    if len(sides) != 2 or len(whole) != 2:
        raise ValueError(
            f"image_size is {image_size!r}, expected the side of a square or (H, W), whole numbers of pixels from 1 on"
        )
    return int(whole[0]), int(whole[1])


def colours_of(module: nn.Module) -> int:
    """Channels of an image that the first convolution takes; 3 where there is none."""
    first = next((each for each in module.modules() if isinstance(each, nn.Conv2d)), None)
    return 3 if first is None else first.in_channels


__all__ = ["BlindNet", "colours_of", "sides_of", "tensor_of"]

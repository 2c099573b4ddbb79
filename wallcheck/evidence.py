"""What methods share: one forward to the target layer, one backward through the head, computed when first asked for.

All gradient and factorisation methods together need no more than that. There are two doors back into
the model: `rescore` for changed activations and `rescore_images` for changed images. Both run without
autograd, in chunks that fit a memory budget.
"""

import copy
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from wallcheck.geometry import Regions, Wall
from wallcheck.models import BlindNet, Split, chain, in_mode, lean_cells, lean_features, split_head

T = TypeVar("T")

BUDGET_MB = 256
CACHE_MB = 8


class Traced(NamedTuple):
    """One step from image to target layer: module (None for the image itself), output and d score / d output."""

    module: nn.Module | None
    output: Tensor
    gradient: Tensor


class Evidence:
    """A net, images (B, 3, H, W) and the classes explained (B,); everything else follows and is cached.

    targets: class indices, or None for the predicted class of each image.
    seed: of every random draw a method makes (`generator`).
    budget_mb: bound on the activations of one chunk of rescoring.

    The net is run in eval mode and handed back in the mode it was in; its parameters collect no gradient.
    Raises ValueError for images or targets that do not fit the net, or images that are not finite.
    """

    def __init__(
        self,
        net: BlindNet,
        images: Tensor,
        targets: Tensor | list[int] | None = None,
        *,
        seed: int = 0,
        budget_mb: float = BUDGET_MB,
    ):
        net.check(images)
        if not torch.isfinite(images).all():
            raise ValueError("images hold NaN or infinity; check how they were read and normalised")
        parameter = next(net.parameters())
        self.net = net
        self.images = images.detach().to(parameter.device, parameter.dtype)
        self.seed = seed
        self.budget_mb = budget_mb
        self._target: Callable[[Tensor], Tensor] | None = None
        self._kept: dict[Callable, object] = {}
        self._given = None if targets is None else self._checked_targets(targets)

    # -- the model seen from here -----------------------------------------------------------------

    @property
    def wall(self) -> Wall:
        return self.net.wall

    @property
    def regions(self) -> Regions:
        return self.net.regions

    @cached_property
    def unseen(self) -> Tensor:
        """(h, w) Boolean: cells the head is not handed."""
        return torch.from_numpy(self.wall.unseen.copy()).to(self.images.device)

    @cached_property
    def activations(self) -> Tensor:
        """A, (B, K, h, w): the whole target layer, unseen cells included."""
        size = self.chunk(self._widest(*self.net.image_size), self.near_mb)
        with in_mode(self.net), torch.no_grad():
            return torch.cat([self._features(images) for images in self.images.split(size)])

    @cached_property
    def logits(self) -> Tensor:
        """(B, D)."""
        return self.rescore(self.activations)

    @cached_property
    def targets(self) -> Tensor:
        """(B,): the class explained; the arg-max logit where none was given. ValueError where what is explained is no
        single class (see `explaining`), so that no method passes the class's map off as the explanation asked for."""
        if self._target is not None:
            raise ValueError(
                "what is explained here is a function of all logits, and this method asks for one class; "
                "use a method that goes by the score, its gradient or rescored channels alone"
            )
        return self.logits.argmax(1) if self._given is None else self._given

    @cached_property
    def score(self) -> Tensor:
        """(B,): the logit explained."""
        return self.explained(self.logits)

    @cached_property
    def gradient(self) -> Tensor:
        """G = d score / d A, (B, K, h, w); the head alone is differentiated."""
        return self.gradient_of(self.explained)

    @cached_property
    def trace(self) -> tuple[Traced, ...]:
        """The images and the output of every module of the features, each with d score / d it; one forward and
        one backward through everything. Holds two values for each that the features compute."""
        steps: list[tuple[nn.Module | None, Tensor]] = [(None, self.images.detach().requires_grad_())]
        with in_mode(self.net), torch.enable_grad():
            for module in chain(self.net.features):
                before = steps[-1][1]
                steps.append((module, module(before.clone() if getattr(module, "inplace", False) else before)))
            scores = self.explained_here(self.net.logits_from(steps[-1][1]))
            gradients = torch.autograd.grad(scores.sum(), [output for _, output in steps])
        return tuple(Traced(module, output.detach(), g) for (module, output), g in zip(steps, gradients, strict=True))

    @cached_property
    def cells(self) -> int:
        """Z = h * w."""
        return self.wall.seen.size

    def gradient_of(self, target: Callable[[Tensor], Tensor]) -> Tensor:
        """d target(logits) / d A, (B, K, h, w), for a function from logits (B, D) to scores (B,)."""
        leaf = self.activations.detach().requires_grad_()
        with in_mode(self.net), torch.enable_grad():
            logits = self.net.logits_from(leaf)
            self.__dict__.setdefault("logits", logits.detach())  # cached: the head need not be asked again
            (gradient,) = torch.autograd.grad(target(logits).sum(), leaf)
        return gradient

    def handed(self, activations: Tensor) -> Tensor:
        """The seen cells of activations (N, K, h, w) as the head gets them, (N, K, r, c)."""
        return self.net._hand_over(activations, (0, 0))

    @cached_property
    def silent(self) -> Tensor:
        """(B, K) Boolean: channels that are 0 on every seen cell, so that the head hears nothing of them."""
        return (self.handed(self.activations) == 0).flatten(2).all(2)

    @cached_property
    def split(self) -> Split | None:
        """The head at its first linear layer, where channels add up; None for heads of another kind."""
        return split_head(self.net.head)

    @cached_property
    def contributions(self) -> Tensor:
        """C, (B, K, d): what each channel adds to the first linear layer of a head that has a `split`."""
        with in_mode(self.net), torch.no_grad():
            return self.split.contributions(self.handed(self.activations))

    def explained(self, logits: Tensor) -> Tensor:
        """What is explained, as a function of logits: (B, D) -> (B,)."""
        return self.of_target(logits) if self._target is None else self._target(logits)

    def explaining(self, target: Callable[[Tensor], Tensor]) -> "Evidence":
        """The same images, explaining target(logits (B, D)) -> (B,) instead of a logit: score, gradient and trace
        are the target's, activations and logits are shared. There is no `targets`: a method that asks for one class is
        answered with a ValueError."""
        other = copy.copy(self)
        for name in ("score", "gradient", "trace", "targets"):
            other.__dict__.pop(name, None)
        other._target, other._kept = target, {}
        return other

    def explained_here(self, logits: Tensor) -> Tensor:
        """`explained` for logits (B, D) of the evidence's own images, which also tell the predicted class where none
        is known yet: a method that runs the whole net anyway need not run it twice."""
        if self._given is None and self._target is None and "logits" not in self.__dict__:
            self.__dict__.setdefault("targets", logits.detach().argmax(1))
        return self.explained(logits)

    def at(self, images: Tensor) -> "Evidence":
        """The same question asked of other images (B, 3, H, W): net, targets and seed are kept."""
        other = Evidence(self.net, images, seed=self.seed, budget_mb=self.budget_mb)
        other._given, other._target = None if self._target else self.targets, self._target
        return other

    def of_target(self, logits: Tensor, owner: Tensor | None = None) -> Tensor:
        """The explained class's entry of logits (N, D) -> (N,); owner (N,) names the image of each row."""
        targets = self.targets if owner is None else self.targets[owner]
        return logits.gather(1, targets[:, None])[:, 0]

    # -- the two doors back -----------------------------------------------------------------------

    def rescore(self, activations: Tensor) -> Tensor:
        """Logits (N, D) of any activations (N, K, h, w)."""
        with in_mode(self.net), torch.no_grad():
            size = self.chunk(activations[0].numel())
            return torch.cat([self.net.logits_from(part) for part in activations.split(size)])

    def rescore_channels(self, presence: Tensor) -> Tensor:
        """(B, M): the score explained when channel k is multiplied by presence[..., m, k]; (M, K) or (B, M, K).

        Where the head has a `split`, only what follows its first linear layer is computed.
        """
        presence = presence.to(self.images.dtype).expand(len(self.images), -1, -1)
        each = self.split.width if self.split else self.activations[0].numel()
        size = max(1, self.chunk(each, self.near_mb) // max(1, len(self.images)))
        with in_mode(self.net), torch.no_grad():
            return torch.cat([self._with_channels(part) for part in presence.split(size, 1)], 1)

    def _with_channels(self, presence: Tensor) -> Tensor:
        if self.split:
            before = torch.baddbmm(self.split.bias, presence, self.contributions)
            if self._target is None:
                return self.split.scores(before, self.targets)
            logits = self.split.rest(before.flatten(0, 1))
        else:
            changed = self.activations[:, None] * presence[..., None, None]
            logits = self.net.logits_from(changed.flatten(0, 1))
        return torch.stack([self.explained(row) for row in logits.unflatten(0, presence.shape[:2]).unbind(1)], 1)

    def rescore_images(self, images: Callable[[slice], Tensor], count: int) -> Tensor:
        """Logits (count, D) of `count` images that images(slice) builds piece by piece.

        Only what the head can see is computed.
        """
        return self.rescore_visible(lambda piece: images(piece)[(..., *self.net.visible)], count)

    def rescore_visible(self, parts: Callable[[slice], Tensor], count: int) -> Tensor:
        """Logits (count, D) of `count` images of which parts(slice) builds the net's visible part alone.

        The features run in small portions, the head on many of them together: its weights are read less often.
        """
        held = self.chunk(self.net.channels * int(self.wall.seen.sum()), self.budget_mb / 8)
        with in_mode(self.net), torch.no_grad():
            return torch.cat([self.net.head(self._cells_of(parts, some)) for some in slices(0, count, held)])

    def _cells_of(self, parts: Callable[[slice], Tensor], which: slice) -> Tensor:
        """What the head reads of the images that parts(slice) builds, portion by portion into one tensor."""
        cells = None
        for piece in slices(which.start, which.stop, self.portion):
            some = self._seen_cells(parts(piece))
            cells = some.new_empty(which.stop - which.start, *some.shape[1:]) if cells is None else cells
            cells[piece.start - which.start : piece.stop - which.start] = some
        return cells

    @cached_property
    def _features(self) -> Callable[[Tensor], Tensor]:
        return lean_features(self.net)

    @cached_property
    def _seen_cells(self) -> Callable[[Tensor], Tensor]:
        """Weights of wide convolutions may take a fifth of the budget: the default holds all of VGG16's that gain by it."""
        return lean_cells(self.net, spare_mb=self.budget_mb / 5)

    @cached_property
    def portion(self) -> int:
        """Images per pass through the features: what the budget allows; on a CPU what stays in its cache.

        Measured on two cores: 12 vgg_small images at a time take half the time each of 64, 2 vgg16_walls
        images 0.6 of 16.
        """
        return self.chunk(self.widest, self.near_mb)

    @property
    def near_mb(self) -> float:
        """The budget of work that is fastest in a CPU's cache."""
        return min(self.budget_mb, CACHE_MB) if self.images.device.type == "cpu" else self.budget_mb

    def chunk(self, values: int, budget_mb: float | None = None) -> int:
        """How many items of so many values each fit a memory budget, the evidence's own by default; at least one."""
        bytes_each = 3 * values * self.images.element_size()  # input, output and workspace of a layer
        return max(1, int((budget_mb or self.budget_mb) * 2**20 // bytes_each))

    @cached_property
    def widest(self) -> int:
        """Values of the largest feature map that the visible part of one image makes on its way through the features."""
        rows, columns = self.net.visible
        return self._widest(rows.stop - rows.start, columns.stop - columns.start)

    def _widest(self, height: int, width: int) -> int:
        widest, channels = 0, 3
        for module in self.net.features.modules():
            if isinstance(module, nn.Conv2d):
                stride = module.stride
                height, width, channels = height // stride[0], width // stride[1], module.out_channels
                widest = max(widest, channels * height * width)
            elif isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):
                height, width = height // _first(module.stride), width // _first(module.stride)
        return widest

    def generator(self, *, salt: int = 0) -> torch.Generator:
        """A fresh generator from the seed; methods that draw more than once tell their draws apart by salt."""
        entropy = int(np.random.SeedSequence([self.seed, salt]).generate_state(1, np.uint64)[0] >> 1)
        return torch.Generator(self.images.device).manual_seed(entropy)

    def once(self, function: Callable[["Evidence"], T]) -> T:
        """function(self), computed when first asked for and kept: what the methods of one family share."""
        if function not in self._kept:
            self._kept[function] = function(self)
        return self._kept[function]

    def _checked_targets(self, targets: Tensor | list[int]) -> Tensor:
        given = torch.as_tensor(targets, device=self.images.device)
        if given.shape != (len(self.images),) or given.is_floating_point() or given.dtype == torch.bool:
            raise ValueError(
                f"targets are {given.dtype} {tuple(given.shape)}, expected {len(self.images)} class indices; "
                f"pass None to explain the predicted class"
            )
        with in_mode(self.net), torch.no_grad():
            classes = self.net(self.images[:0]).shape[1]  # no image, no work
        if len(given) and (given.min() < 0 or given.max() >= classes):
            raise ValueError(f"targets run from {given.min()} to {given.max()}, the net has classes 0 .. {classes - 1}")
        return given.long()


def slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """start .. stop in slices of `size`, the last one shorter."""
    return (slice(begin, min(begin + size, stop)) for begin in range(start, stop, size))


def _first(value: int | tuple[int, int]) -> int:
    return value if isinstance(value, int) else value[0]

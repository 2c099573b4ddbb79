"""What methods share: one forward to the target layer, one backward through the head, computed when first asked for.

All gradient and factorisation methods together need no more than that. There are two doors back into
the model: `rescore` for changed activations and `rescore_images` (`wallcheck.budgeted`) for changed images.
Both run without autograd, in chunks that fit a memory budget.
"""

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from wallcheck import attended, traced
from wallcheck.attended import Attention
from wallcheck.budgeted import Budgeted
from wallcheck.graph import BlindGraph, plainly
from wallcheck.memory import slices
from wallcheck.models import BlindNet, as_blind
from wallcheck.numerics import all_finite, as_classes
from wallcheck.traced import Traced

T = TypeVar("T")


class Evidence(Budgeted):
    """A net, images (B, 3, H, W) and the classes explained (B,); everything else follows and is cached.

    targets: class indices, or None for the predicted class of each image.
    seed: of every random draw a method makes (`generator`).
    budget_mb: bound on the activations of one chunk, of rescoring and of what is differentiated; None is 256 on a CPU and a share
    of the free memory on a GPU (`wallcheck.memory`).
    precision: "exact", full float32; or "fast", TF32 where a GPU has it, and bfloat16 where whole images are
    rescored.

    What is run is the net's proved graph, in eval mode and full precision, whatever mode the net or the caller is in; the net
    itself is not touched. graph: one made before; None is the net's own.
    Raises ValueError for images or targets that do not fit the net, for no images, and for images that are not finite.
    """

    def __init__(
        self,
        net: BlindNet,
        images: Tensor,
        targets: Tensor | list[int] | None = None,
        *,
        seed: int = 0,
        budget_mb: float | None = None,
        graph: BlindGraph | None = None,
        precision: str = "exact",
    ):
        net = as_blind(net)
        net.check(images)
        if not len(images):
            raise ValueError("there are no images; pass at least one, (B, 3, H, W)")
        if not all_finite(images):
            raise ValueError("images hold NaN or infinity; check how they were read and normalised")
        super().__init__(net.graph if graph is None else graph, budget_mb, precision)
        self.net, self.images, self.seed = net, self._own(images), seed
        self._target: Callable[[Tensor], Tensor] | None = None
        self._source: Evidence | None = None  # of the same images, explaining something else
        self._kept: dict[object, Any] = {}
        self._given = None if targets is None else self._checked_targets(targets)

    def _own(self, images: Tensor) -> Tensor:
        """On the graph's device and in its precision, apart from autograd and inference mode."""
        with plainly(images.device):
            given = images.detach().clone() if images.is_inference() else images.detach()
            return given.to(self.graph.example.device, self.graph.example.dtype)

    def _checked_targets(self, targets: Tensor | list[int]) -> Tensor:
        given = as_classes(targets).to(self.images.device)
        if given.shape != (len(self.images),) or given.is_floating_point() or given.dtype == torch.bool:
            raise ValueError(
                f"targets are {given.dtype} {tuple(given.shape)}, expected {len(self.images)} class indices; "
                f"pass None to explain the predicted class"
            )
        classes = self.graph.classes
        if len(given) and (given.min() < 0 or given.max() >= classes):
            raise ValueError(f"targets run from {given.min()} to {given.max()}, the net has classes 0 .. {classes - 1}")
        return given.long()

    # -- the images seen from here ----------------------------------------------------------------

    @cached_property
    def activations(self) -> Tensor:
        """A, (B, K, h, w): the whole target layer, unseen cells included."""
        return self._parted[0]

    @cached_property
    def beside(self) -> tuple[Tensor, ...]:
        """What runs beside the cells, for each image: prefix tokens and what else crosses the cut; nothing for most nets."""
        return self._parted[1]

    @cached_property
    def _parted(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        if self._source is not None:
            return self._source._parted
        size = self.near(self.graph.widest_whole, 4)
        with self.plainly(), torch.no_grad():
            parts = [self.graph.activations_lean(images) for images in self.images.split(size)]
            return torch.cat([cells for cells, _ in parts]), tuple(
                map(torch.cat, zip(*(b for _, b in parts), strict=True))
            )

    @cached_property
    def logits(self) -> Tensor:
        """(B, D)."""
        if self._source is not None:
            return self._source.logits
        return self.rescore(self.activations, torch.arange(len(self.images)))

    def _know(self, logits: Tensor) -> None:
        """Logits that came along with something else: the head need not be asked again, here and where these images come from."""
        self.__dict__.setdefault("logits", logits)
        if self._source is not None:
            self._source._know(logits)

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
    def truth(self) -> Tensor | None:
        """c, (B, h, w) in double precision: what each cell adds to the logit explained, exactly; 0 on unseen cells. logit = bias +
        sum of c. None where the head does not add up over cells, or where what is explained is no logit."""
        if not self.graph.adds_up or self._target is not None:
            return None
        return (self.gradient.double() * self.activations.double()).sum(1)

    @property
    def trace(self) -> tuple[Traced, ...]:
        """The images and all layers on the way to the target layer, each with d score / d it; one forward and one backward
        through everything. Holds two values for each that these layers compute: ask for it in portions, see `in_portions`."""
        return self.traced(range(len(self.graph.steps)), with_images=True)

    def traced(self, chosen: Sequence[int], with_images: bool = False) -> tuple[Traced, ...]:
        """The layers of these numbers in `graph.steps`, after the images if these are asked for; kept, so that methods that ask
        for the same share them. What lies before the first layer is not differentiated."""
        key = "traced", tuple(chosen), with_images
        if key not in self._kept:
            with self.plainly():
                self._kept[key] = traced.taken(self.graph, self.images, self.explained_here, chosen, with_images)
        return self._kept[key]

    @cached_property
    def attention(self) -> Attention:
        """Of a transformer: each block's attention, tokens and the score's slopes in them; one forward and one backward
        through everything, all images at once (see `in_portions`)."""
        with self.plainly():
            return attended.taken(self.graph, self.images, self.explained_here)

    def in_portions(self, body: Callable[["Evidence"], Tensor], each: int | None = None) -> Tensor:
        """body(evidence) of as many images at a time as fit the budget by `each`, the values of one (those of its attention if
        None); all of them at once, and then shared between methods, where it allows that."""
        size = self.chunk(attended.portion(self.graph) if each is None else each)
        if size >= len(self.images):
            return body(self)
        return torch.cat([body(self.part(which)) for which in slices(0, len(self.images), size)])

    def part(self, which: slice) -> "Evidence":
        """The same question asked of some of the images."""
        start, stop, _ = which.indices(len(self.images))
        other = self._asking(self.images[which])
        if self._target is None:
            known = self._given is not None or "targets" in vars(self) or "logits" in vars(self)
            other._given = self.targets[which] if known else None  # its own forward will tell
        else:  # a function of all images' logits
            before, after, target = self.logits[:start], self.logits[stop:], self._target
            other._target = lambda logits: target(torch.cat([before, logits, after]))[which]
        return other

    def _asking(self, images: Tensor) -> "Evidence":
        """Nothing known yet of other images; net, seed and settings are kept, targets are the caller's to set."""
        other = copy.copy(self)
        for name in set(vars(self)) - {"net", "graph", "seed", "precision", "budget_mb", *vars(Budgeted)}:
            del other.__dict__[name]
        other.images, other._kept, other._given, other._target, other._source = images, {}, None, None, None
        return other

    def gradient_of(self, target: Callable[[Tensor], Tensor]) -> Tensor:
        """d target(logits) / d A, (B, K, h, w), for a function from logits (B, D) to scores (B,)."""
        with self.plainly(), torch.enable_grad():
            leaf = self.activations.detach().requires_grad_()
            logits = self.graph.logits(leaf, self.beside)
            self._know(logits.detach())
            (gradient,) = torch.autograd.grad(target(logits).sum(), leaf)
        return gradient

    def handed(self, activations: Tensor) -> Tensor:
        """What the head is handed of activations (N, K, h, w): (N, K, r, c) of the seen cells for nets of maps."""
        return self.graph.hand(self.graph.form.value(activations, self.beside[0] if self.graph.form.prefix else None))

    @cached_property
    def silent(self) -> Tensor:
        """(B, K) Boolean: channels that are 0 on every seen cell, so that the head hears nothing of them."""
        heard = torch.from_numpy(self.graph.proof.heard_cells).to(self.images.device)
        return (self.activations[:, :, heard] == 0).all(2)

    @cached_property
    def contributions(self) -> Tensor:
        """C, (B, K, d): what each channel adds to the first linear layer of a head that has a `split`."""
        if (split := self.split) is None:
            raise ValueError(
                "this net's head is not parted at a linear layer, so what a channel adds to it is not known"
            )
        with self.plainly(), torch.no_grad():
            return split.contributions(self.handed(self.activations))

    def explained(self, logits: Tensor) -> Tensor:
        """What is explained, as a function of logits: (B, D) -> (B,)."""
        return self.of_target(logits) if self._target is None else self._target(logits)

    def explaining(self, target: Callable[[Tensor], Tensor]) -> "Evidence":
        """The same images, explaining target(logits (B, D)) -> (B,) instead of a logit: score, gradient and trace
        are the target's, activations and logits are shared. There is no `targets`: a method that asks for one class is
        answered with a ValueError."""
        other = copy.copy(self)
        for name in ("score", "gradient", "truth", "attention", "targets"):
            other.__dict__.pop(name, None)
        other._target, other._kept, other._source = target, {}, self
        return other

    def explained_here(self, logits: Tensor) -> Tensor:
        """`explained` for logits (B, D) of the evidence's own images, which also tell the predicted class where none
        is known yet: a method that runs the whole net anyway need not run it twice."""
        if self._given is None and self._target is None and "logits" not in self.__dict__:
            self.__dict__.setdefault("targets", logits.detach().argmax(1))
        return self.explained(logits)

    def at(self, images: Tensor) -> "Evidence":
        """The same question asked of other images (B, 3, H, W), or of several such batches one after the other, in these ones'
        precision: net, targets and seed are kept."""
        self.net.check(images)
        other = self._asking(self._own(images.to(self.images.dtype)))
        copies = len(images) // max(1, len(self.images))
        if self._target is None:
            other._given = self.targets.repeat(copies)
        else:
            other._target = (
                self._target if copies == 1 else lambda logits: self.explained_of(logits, slice(None), False)
            )
        return other

    def explained_of(self, logits: Tensor, which: slice, own: bool) -> Tensor:
        """`explained` for logits of some of the images, or of several copies of the batch one after the other. own: whether the
        logits are those of the evidence's own images, see `explained_here`."""
        count = len(self.images)
        if len(logits) > count:
            return torch.cat([self.explained(rows) for rows in logits.split(count)])
        if len(logits) == count:
            return self.explained_here(logits) if own else self.explained(logits)
        if self._target is None:
            targets = self._predicted_of(logits, which) if own else self.targets[which]
            return logits.gather(1, targets[:, None])[:, 0]
        return self._target(torch.cat([self.logits[: which.start], logits, self.logits[which.stop :]]))[which]

    def _predicted_of(self, logits: Tensor, which: slice) -> Tensor:
        """`targets` of some of the images; where they are not known yet the arg-max of these images' own logits, which is kept
        until all have been asked: a method that runs the whole net in parts need not run it twice either."""
        if self._given is not None or {"targets", "logits"} & set(vars(self)):
            return self.targets[which]
        found = self._kept.setdefault("predicted", torch.full((len(self.images),), -1, device=logits.device))
        found[which] = torch.where(found[which] < 0, logits.detach().argmax(1), found[which])
        if bool((found >= 0).all()):
            self.__dict__["targets"] = found
        return found[which]

    def of_target(self, logits: Tensor, owner: Tensor | None = None) -> Tensor:
        """The explained class's entry of logits (N, D) -> (N,); owner (N,) names the image of each row."""
        targets = self.targets if owner is None else self.targets[owner]
        return logits.gather(1, targets[:, None])[:, 0]

    def generator(self, *, salt: int = 0) -> torch.Generator:
        """A fresh generator from the seed, on the CPU whatever the device is, so that all devices draw the same; methods that
        draw more than once tell their draws apart by salt."""
        entropy = int(np.random.SeedSequence([self.seed, salt]).generate_state(1, np.uint64)[0] >> 1)
        return torch.Generator().manual_seed(entropy)

    def once(self, function: Callable[["Evidence"], T]) -> T:
        """function(self), computed when first asked for and kept: what the methods of one family share."""
        if function not in self._kept:
            self._kept[function] = function(self)
        return self._kept[function]

    # -- changed activations -----------------------------------------------------------------------

    def rescore(self, activations: Tensor, owner: Tensor | int | None = None) -> Tensor:
        """Logits (N, D) of any activations (N, K, h, w). owner: number of the image that each row is of, (N,) or one for all;
        it names whose prefix tokens go with them, and nets of maps do not need it."""
        beside = self.beside_of(owner, len(activations))
        size = self.chunk(activations[0].numel())
        with self.plainly(), torch.no_grad():
            parts = [
                self.graph.logits(part, tuple(each[place] for each in beside))
                for part, place in zip(activations.split(size), slices(0, len(activations), size), strict=True)
            ]
            return torch.cat(parts)

    def beside_of(self, owner: Tensor | int | None, count: int) -> tuple[Tensor, ...]:
        """`beside` for rows of these images."""
        if not self.graph.has_beside:
            return ()
        if owner is None:
            raise ValueError(
                "activations of a net with prefix tokens belong to an image; say whose they are by `owner`"
            )
        owner = torch.as_tensor(owner, device=self.images.device).expand(count)
        return tuple(each[owner] for each in self.beside)

    def rescore_channels(self, presence: Tensor) -> Tensor:
        """(B, M): the score explained when channel k is multiplied by presence[..., m, k]; (M, K) or (B, M, K).

        Where the head has a `split`, only what follows its first linear layer is computed.
        """
        presence = presence.to(self.images.dtype).expand(len(self.images), -1, -1)
        each = self.split.width if self.split else self.activations[0].numel()
        size = max(1, self.chunk(each, self.near_mb) // max(1, len(self.images)))
        with self.plainly(), torch.no_grad():
            return torch.cat([self._with_channels(part) for part in presence.split(size, 1)], 1)

    def _with_channels(self, presence: Tensor) -> Tensor:
        if self.split:
            before = torch.baddbmm(self.split.bias, presence, self.contributions)
            if self._target is None:
                return self.split.scores(before, self.targets)
            logits = self.split.rest(before.flatten(0, 1))
        else:
            changed = self.activations[:, None] * presence[..., None, None]
            owner = torch.arange(len(changed), device=changed.device).repeat_interleave(changed.shape[1])
            logits = self.graph.logits(changed.flatten(0, 1), self.beside_of(owner, len(owner)))
        return torch.stack([self.explained(row) for row in logits.unflatten(0, presence.shape[:2]).unbind(1)], 1)

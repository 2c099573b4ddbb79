"""What a method is: a function from evidence to a raw map, and what is known of it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from wallcheck.evidence import Evidence
from wallcheck.models import BlindNet
from wallcheck.registry import Registry

FAMILIES = {
    "control": "no explanation: the ends and the middle of every scale",
    "head": "channel weights are the head's own",
    "pooled": "channel weights are gradients averaged over positions",
    "local": "gradient and activation meet at each cell; nothing is averaged over positions",
    "rescoring": "channel weights are scores of masked images",
    "ablation": "channel weights are the head's answers to changed activations",
    "subspace": "directions of the activations; the head is not asked",
    "conceptor": "a base method filtered by conceptors of channels and of cells",
    "attention": "attention of a transformer, its gradient, or tokens weighed by them",
    "layered": "maps of several layers fused",
    "pixel": "attribution to pixels, not to cells",
    "repair": "a base method made blind where the model is blind",
    "peer": "another library's explainer, in that library's own post-processed form",
}

VERDICTS = {
    "may_leak": "positive attribution on unseen cells is possible, and is met on real nets",
    "leaks": "positive on every unseen cell where a channel lives that is weighed, where activations are not negative (behind a "
    "ReLU): Grad-CAM++ and its variants do not weigh a channel whose gradient is positive nowhere, the others weigh all",
    "zero": "exactly 0 on unseen cells (unseen pixels, for pixel maps), for all weights and images",
    "zero_but_bleed": "exactly 0 on unseen pixels a cell's width away from every seen one, and on all of them where "
    "each fused layer looks past its own cells: what upsampling smears stays within. Only where padding is "
    "narrower than its kernel: a layer with cells that read padding alone, beside the image, is squeezed onto it, and what its "
    "seen cells hold comes to lie over unseen pixels",
    "zero_but_offset": "one constant per image on all unseen cells, positive for some images",
    "zero_but_offset_and_rim": "one constant per image on all unseen cells without a seen neighbour (of eight)",
    "class_free": "does not look at the head, so cannot know the wall: leaks",
    "not_stated": "another library's: measured, not predicted",
}

METHODS: "Registry[Method]" = Registry("method")


def welcome(net: BlindNet) -> None:
    """Refuses no net: what most methods say."""


@dataclass(frozen=True)
class Method:
    """A saliency method; calling it gives the raw map, (B, h, w) signed on the cell grid (grid "cells"),
    or (B, H, W) on the image (grid "pixels").

    family: a key of FAMILIES, where the channel weight comes from.
    source: paper, equation and variant. cost: F, B full forwards and backwards, f, b the head's alone.
    verdict: a key of VERDICTS, what is expected on cells the model cannot see.
    refuses: net -> why the method is not defined on it, None where it is; calling it there is a ValueError.
    repairs: of a repair, the name of the method it repairs.
    digest: of a method from elsewhere, what tells its versions apart; None where nothing does.
    """

    name: str
    body: Callable[[Evidence], Tensor]
    family: str
    source: str
    cost: str
    verdict: str
    grid: str = "cells"
    refuses: Callable[[BlindNet], str | None] = welcome
    repairs: str | None = None
    digest: str | None = None

    def __call__(self, evidence: Evidence) -> Tensor:
        if reason := self.refuses(evidence.net):
            raise ValueError(f"{self.name} is not defined on this net: {reason}")
        with evidence.plainly():
            maps = self.body(evidence)
        if not isinstance(maps, Tensor) or not maps.is_floating_point():
            got = maps.dtype if isinstance(maps, Tensor) else type(maps).__name__
            raise TypeError(f"{self.name} returned {got}, expected a floating-point Tensor; return the raw map as one")
        size = evidence.wall.seen.shape if self.grid == "cells" else evidence.net.image_size
        wanted = (len(evidence.images), *size)
        if tuple(maps.shape) != wanted:
            raise ValueError(
                f"{self.name} returned {tuple(maps.shape)}, expected one value per {self.grid[:-1]} {wanted}; "
                f"return the raw map and leave upsampling to wallcheck.maps"
            )
        return maps.detach()


def cam_method(
    *,
    family: str,
    source: str,
    cost: str,
    verdict: str,
    grid: str = "cells",
    refuses: Callable[[BlindNet], str | None] = welcome,
    repairs: str | None = None,
    name: str | None = None,
    registry: Registry[Method] | None = None,
):
    """Register a function Evidence -> raw map as a method under its own name; returns the Method.

    >>> mine = Registry("method")
    >>> @cam_method(family="local", source="mine", cost="1F", verdict="may_leak", registry=mine)
    ... def brightest(ev):
    ...     return ev.activations.amax(1)
    >>> list(mine)
    ['brightest']
    """
    for word, allowed in ((family, FAMILIES), (verdict, VERDICTS)):
        if word not in allowed:
            raise ValueError(f"{word!r} is none of {', '.join(allowed)}")

    def register(body: Callable[[Evidence], Tensor]) -> Method:
        method = Method(name or body.__name__, body, family, source, cost, verdict, grid, refuses, repairs)
        (METHODS if registry is None else registry)[method.name] = method
        return method

    return register

"""Several layers at once: which of them are fused, and how their maps come together on the image."""

from collections.abc import Callable
from functools import wraps

from torch import Tensor

from wallcheck.evidence import Evidence
from wallcheck.graph.stages import unknown_terms
from wallcheck.maps import upsample
from wallcheck.models import BlindNet
from wallcheck.traced import Traced, taken_of_visible


def needs_known_terms(net: BlindNet) -> str | None:
    """Why the constants that the layers of net add are not all known; None where its features have parameters in convolutions
    and batch norms alone."""
    if strange := unknown_terms(net.graph.walled):
        return f"its features add terms by {strange}, and only those of convolutions and batch norms are counted; use another method"
    return None


def needs_convolutions(net: BlindNet) -> str | None:
    """Why there is no convolution with a map in net's features; None where there is one."""
    if any(step.op == "conv2d" for step in net.graph.steps):
        return None
    return "its features have no convolution that makes a map; use a method of the target layer alone"


def stages(ev: Evidence) -> tuple[Traced, ...]:
    """The last layer of each resolution that everything goes through, shallow to deep; the last of all is the target layer."""
    return ev.traced(ev.graph.last_steps)


def local_maps(ev: Evidence, of: Callable[[Traced], Tensor]) -> list[Tensor]:
    """of(layer) of each of the `stages`, (B, h, w); for maps that are 0 wherever the layer's slope is. Where the features are one
    line, only the part of the image that the head can see is run: the slope beyond it is 0."""
    layers = stages(ev) if ev.graph.quick.line is None else ev.once(_visible_stages)
    return [layer.placed(of(layer)) for layer in layers]


def _visible_stages(ev: Evidence) -> tuple[Traced, ...]:
    with ev.plainly():
        return taken_of_visible(ev.graph, ev.graph.quick.line, ev.images, ev.explained_here)


def by_portion(body: Callable[[Evidence], Tensor]) -> Callable[[Evidence], Tensor]:
    """A method that goes through `stages`, of as many images at a time as the budget allows their values and slopes for."""
    return wraps(body)(lambda ev: ev.in_portions(body, ev.graph.staged_whole))


def by_portion_of_all(body: Callable[[Evidence], Tensor]) -> Callable[[Evidence], Tensor]:
    """The same of a method that goes through every layer."""
    return wraps(body)(lambda ev: ev.in_portions(body, ev.graph.traced_whole))


def on_image(maps: Tensor, ev: Evidence) -> Tensor:
    """(B, h, w) of any layer -> (B, H, W)."""
    return upsample(maps, ev.net.image_size)

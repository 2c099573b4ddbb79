"""Several layers at once: which of them are fused, and how their maps come together on the image."""

from itertools import pairwise

from torch import Tensor, nn

from wallcheck.evidence import Evidence, Traced
from wallcheck.maps import upsample
from wallcheck.models import BlindNet, chain

KNOWN = (nn.Conv2d, nn.BatchNorm2d)


def needs_plain_chain(net: BlindNet) -> str | None:
    """Why the layers of net cannot be told apart; None for a chain of convolutions, norms, pools and activations."""
    for module in chain(net.features):
        if not isinstance(module, KNOWN) and any(True for _ in module.parameters()):
            return (
                f"its features hold a {type(module).__name__} whose inner layers are not known; "
                f"build features as a Sequential of single layers"
            )
    return None


def stages(ev: Evidence) -> list[Traced]:
    """The last layer of each resolution, shallow to deep; the last of all is the target layer."""
    steps = ev.trace[1:]
    turns = [a for a, b in pairwise(steps) if a.output.shape[-2:] != b.output.shape[-2:]]
    return [*turns, steps[-1]]


def on_image(maps: Tensor, ev: Evidence) -> Tensor:
    """(B, h, w) of any layer -> (B, H, W)."""
    return upsample(maps, ev.net.image_size)

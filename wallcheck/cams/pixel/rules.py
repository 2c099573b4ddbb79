"""Rules of `wallcheck.graph.rules` through the whole network to the pixels.

Every rule gives an operation's true output another slope, so that one gradient of the logit, taken
through all of them, is the attribution per unit of pixel. A pixel that the head cannot see is on no
path, and its slope is exactly 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wallcheck.cams._slopes import slopes
from wallcheck.evidence import Evidence
from wallcheck.graph import following
from wallcheck.graph.following import AFFINE, MAXIMUM, NORMS, SHAPE, Rule, lacking
from wallcheck.graph.rules import positive
from wallcheck.models import BlindNet

RULES_KEEP = 3  # times what a plain backward keeps: a second value of each operation, and its slope
RULED = (*AFFINE, *SHAPE, *MAXIMUM, "relu")


def unruled(net: BlindNet) -> str | None:
    """For Method.refuses: why rules cannot be followed through this net."""
    return lacking(net.graph.quick.run, RULED)


def unexcited(net: BlindNet) -> str | None:
    """For Method.refuses: as `unruled`; excitation backprop starts at a last linear layer, and probabilities have no
    rule through a norm, whose shift is a bias of either sign."""
    kinds = following.steps(net.graph.quick.run)
    if any(word in NORMS for word in kinds.values()):
        return "it holds batch norms; fold norms into the layers before them"
    last = list(kinds.values())[-1]
    return unruled(net) or (None if last == "linear" else f"its head ends in {last}")


def image_slope(ev: Evidence, rule: Rule, *, with_reference: bool = False, first: Rule | None = None) -> Tensor:
    """(B, 3, H, W): slope of the score explained in each pixel when each operation hands it on by `rule`.

    with_reference: a black image (0 after normalisation) goes along as the last row.
    first: another rule for the operations on the image itself.
    """

    def logits_of(images: Tensor) -> Tensor:
        rows = torch.cat([images, torch.zeros_like(images[:1])]) if with_reference else images
        return following.through(ev.graph.quick.run, rule, rows[(..., *ev.graph.visible)], first=first)[: len(images)]

    return slopes(ev, logits_of, ev.images, RULES_KEEP * ev.graph.kept)


def excitation(ev: Evidence, start: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """P (B, 3, H, W): probabilities handed back from start(w, v), their slope in v (B, n), what the last layer reads;
    w (B, n) are its weights of the class."""
    return ev.in_portions(lambda part: _excited(part, start), RULES_KEEP * ev.graph.kept)


def _excited(ev: Evidence, start: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    before, weight = ev.graph.before_the_last
    with ev.plainly(), torch.enable_grad():
        leaf = ev.images.detach().requires_grad_()
        top = following.through(before, positive, leaf[(..., *ev.graph.visible)])
        (slope,) = torch.autograd.grad(top, leaf, start(weight[ev.targets], top.detach()))
    return ev.images * slope

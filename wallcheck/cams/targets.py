"""Other targets: what Grad-CAM and its kin show when they explain a contrast or a second-order utility.

The family of each is that of its base: pooled bases leak, local ones do not.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wallcheck.cams._method import Method, cam_method
from wallcheck.cams.local.products import hirescam, layercam
from wallcheck.cams.pooled.gradients import gradcam
from wallcheck.evidence import Evidence
from wallcheck.guided import twice_differentiable
from wallcheck.models import BlindNet
from wallcheck.numerics import log_probabilities, ratio, weighted_sum

RIVALS = 3
FINER = "Zhang et al. 2025 (Finer-CAM), eq. 5-6, over {}; the rivals' probabilities sum to exactly 1 among themselves"
FINER_AUTHORS = (
    "Zhang et al. 2025 (Finer-CAM), the authors' code and grad-cam, over {}: 1e-9 added to the rivals' probability"
)
FLOOR = 1e-9  # in units of probability, of the released target
SHAPLEY = "Cai 2025 (Shapley-CAM), W = G - Hess A / 2, {} form, {} target"


def rivals(ev: Evidence) -> Tensor:
    """(B, min(3, D - 1)): the classes whose logits are nearest to the explained one's, nearest first. Targets ask for them only
    when they are handed logits: those that the gradient needs anyway tell them."""
    distance = (ev.logits - ev.of_target(ev.logits)[:, None]).abs()
    distance = distance.scatter(1, ev.targets[:, None], torch.inf)
    return distance.topk(min(RIVALS, distance.shape[1] - 1), largest=False).indices


def against_rivals(ev: Evidence) -> Callable[[Tensor], Tensor]:
    """sum_j p_j (y_c - y_j) / sum_j p_j over the three nearest classes; the p_j are differentiated too.

    Only the rivals' shares among themselves count, so it does not matter how small their probability is.
    """

    def target(logits: Tensor) -> Tensor:
        near = logits.gather(1, ev.once(rivals))
        return ev.of_target(logits) - (near.softmax(1) * near).sum(1)  # p_j / sum p = softmax of these logits alone

    return target


def against_rivals_released(ev: Evidence) -> Callable[[Tensor], Tensor]:
    """sum_j p_j (y_c - y_j) / (sum_j p_j + 1e-9), p_j of the softmax over all classes; the p_j are differentiated too.

    Where the rivals' whole probability is near 1e-9 or below, as in a sure net, the contrast fades and its gradient
    turns towards what raises that probability.
    """

    def target(logits: Tensor) -> Tensor:
        others = ev.once(rivals)
        mass, near = logits.softmax(1).gather(1, others), logits.gather(1, others)
        return (mass * (ev.of_target(logits)[:, None] - near)).sum(1) / (mass.sum(1) + FLOOR)

    return target


Contrast = Callable[[Evidence], Callable[[Tensor], Tensor]]


def finer(base: Method, contrast: Contrast = against_rivals) -> Callable[[Evidence], Tensor]:
    """base, explaining the logit against its three nearest rivals.

    A base that asks for the class itself (masked images, probabilities) cannot explain a contrast and raises
    ValueError. With p_j not detached the gradient also says how the rivals' shares change; with two classes
    it is the difference of the two logits, with one class the logit itself.
    contrast: `against_rivals`, or `against_rivals_released`, which needs a second class.
    """
    return lambda ev: base(ev.explaining(contrast(ev)))


def lacks_rivals(net: BlindNet) -> str | None:
    """Why the authors' code has no map: with one logit its sum over rivals is empty, 0 whatever net and image."""
    return (
        "it explains a class against others, and this net has one logit; take finercam"
        if net.graph.classes == 1
        else None
    )


for name, base in {"finercam": gradcam, "finer_layercam": layercam, "finer_hirescam": hirescam}.items():
    kind = dict(family=base.family, cost="1F+1f+1b", verdict=base.verdict)
    cam_method(name=name, source=FINER.format(base.name), **kind)(finer(base))
    cam_method(name=f"{name}_authors", source=FINER_AUTHORS.format(base.name), refuses=lacks_rivals, **kind)(
        finer(base, against_rivals_released)
    )


@cam_method(
    family="pooled", source="torchcam 0.5.0, FinerCAM over Grad-CAM, gamma 0.6", cost="1F+1f+1b", verdict="may_leak"
)
def finercam_mean(ev: Evidence) -> Tensor:
    """Grad-CAM of y_c - 0.6 mean_j y_j over the three nearest classes, equal weights."""

    def target(logits: Tensor) -> Tensor:
        return ev.of_target(logits) - 0.6 * logits.gather(1, ev.once(rivals)).mean(1)

    return gradcam(ev.explaining(target))


def shapley_weights(ev: Evidence, target: Callable[[Tensor], Tensor]) -> Tensor:
    """W = G - 1/2 Hess(target)[A], (B, K, h, w): the gradient half way to A = 0, to second order.

    The Hessian of a logit is 0 for a head of Linear, ReLU and pools, and W = G there.
    """
    with ev.plainly(), twice_differentiable():
        _, curved = torch.autograd.functional.vhp(
            lambda leaf: target(ev.graph.logits(leaf, ev.beside)).sum(), ev.activations, ev.activations
        )
    return ev.gradient_of(target) - curved / 2


def rest(ev: Evidence) -> Callable[[Tensor], Tensor]:
    """ReST: y_c + log p_c, before and after the softmax (the sigmoid, for one logit)."""
    return lambda logits: ev.of_target(logits) + ev.of_target(log_probabilities(logits))


def shapley_mean(ev: Evidence, target: Callable[[Tensor], Tensor]) -> Tensor:
    """sum_k mean_u W_k(u) A_k."""
    return weighted_sum(shapley_weights(ev, target).mean((2, 3)), ev.activations)


def shapley_x(ev: Evidence, target: Callable[[Tensor], Tensor]) -> Tensor:
    """w_k = sum_u W_k(u) A_k(u) / sum_u A_k(u); 0 for a dead channel."""
    joint = (shapley_weights(ev, target) * ev.activations).sum((2, 3))
    return weighted_sum(ratio(joint, ev.activations.sum((2, 3))), ev.activations)


def shapley_hires(ev: Evidence, target: Callable[[Tensor], Tensor]) -> Tensor:
    """H: sum_k W_k(u) A_k(u), signed. HiResCAM where the Hessian is 0."""
    return (shapley_weights(ev, target) * ev.activations).sum(1)


def shapley_e(ev: Evidence, target: Callable[[Tensor], Tensor]) -> Tensor:
    """E: sum_k relu(W_k(u) A_k(u)), each product rectified before the sum. Element-wise Grad-CAM where the Hessian is 0."""
    return (shapley_weights(ev, target) * ev.activations).clamp(min=0).sum(1)


FORMS = {"mean": shapley_mean, "x": shapley_x, "e": shapley_e, "hires": shapley_hires}

for form, formula in FORMS.items():
    local = form in ("e", "hires")
    fields = dict(family="local" if local else "pooled", cost="1F+2f+3b", verdict="zero" if local else "may_leak")
    cam_method(name=f"shapleycam_{form}", source=SHAPLEY.format(form, "logit"), **fields)(
        lambda ev, formula=formula: formula(ev, ev.explained)
    )
    cam_method(name=f"shapleycam_{form}_rest", source=SHAPLEY.format(form, "ReST"), **fields)(
        lambda ev, formula=formula: formula(ev, rest(ev))
    )

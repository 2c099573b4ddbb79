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
from wallcheck.models import in_mode
from wallcheck.numerics import log_probabilities, ratio, weighted_sum

RIVALS = 3
FINER = "Zhang et al. 2025 (Finer-CAM), eq. 5-6, target of the authors' code and of grad-cam, over {}"
SHAPLEY = "Cai et al. 2025 (Shapley-CAM), W = G - Hess A / 2, {} form, {} target"


def rivals(ev: Evidence) -> Tensor:
    """(B, min(3, D - 1)): the classes whose logits are nearest to the explained one's, nearest first."""
    distance = (ev.logits - ev.of_target(ev.logits)[:, None]).abs()
    distance = distance.scatter(1, ev.targets[:, None], torch.inf)
    return distance.topk(min(RIVALS, distance.shape[1] - 1), largest=False).indices


def against_rivals(ev: Evidence) -> Callable[[Tensor], Tensor]:
    """sum_j p_j (y_c - y_j) / sum_j p_j over the three nearest classes; the p_j are differentiated too."""
    others = rivals(ev)

    def target(logits: Tensor) -> Tensor:
        near = logits.gather(1, others)
        return ev.of_target(logits) - (near.softmax(1) * near).sum(1)  # p_j / sum p = softmax of these logits alone

    return target


def finer(base: Method) -> Callable[[Evidence], Tensor]:
    """base, explaining the logit against its three nearest rivals.

    A base that asks for the class itself (masked images, probabilities) cannot explain a contrast and raises
    ValueError. With p_j not detached the gradient also says how the rivals' shares change; with two classes
    it is the difference of the two logits, with one class the logit itself.
    """
    return lambda ev: base(ev.explaining(against_rivals(ev)))


for name, base in {"finercam": gradcam, "finer_layercam": layercam, "finer_hirescam": hirescam}.items():
    cam_method(name=name, family=base.family, source=FINER.format(base.name), cost="1F+1f+1b", verdict=base.verdict)(
        finer(base)
    )


@cam_method(
    family="pooled", source="torchcam 0.5.0, FinerCAM over Grad-CAM, gamma 0.6", cost="1F+1f+1b", verdict="may_leak"
)
def finercam_mean(ev: Evidence) -> Tensor:
    """Grad-CAM of y_c - 0.6 mean_j y_j over the three nearest classes, equal weights."""
    others = rivals(ev)
    return gradcam(ev.explaining(lambda logits: ev.of_target(logits) - 0.6 * logits.gather(1, others).mean(1)))


def shapley_weights(ev: Evidence, target: Callable[[Tensor], Tensor]) -> Tensor:
    """W = G - 1/2 Hess(target)[A], (B, K, h, w): the gradient half way to A = 0, to second order.

    The Hessian of a logit is 0 for a head of Linear, ReLU and pools, and W = G there.
    """
    with in_mode(ev.net):
        _, curved = torch.autograd.functional.vhp(
            lambda leaf: target(ev.net.logits_from(leaf)).sum(), ev.activations, ev.activations
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
    """sum_k relu(W_k(u) A_k(u))."""
    return (shapley_weights(ev, target) * ev.activations).clamp(min=0).sum(1)


for form, formula in {"mean": shapley_mean, "x": shapley_x, "hires": shapley_hires}.items():
    fields = dict(
        family="local" if form == "hires" else "pooled",
        cost="1F+2f+3b",
        verdict="zero" if form == "hires" else "may_leak",
    )
    cam_method(name=f"shapleycam_{form}", source=SHAPLEY.format(form, "logit"), **fields)(
        lambda ev, formula=formula: formula(ev, ev.explained)
    )
    cam_method(name=f"shapleycam_{form}_rest", source=SHAPLEY.format(form, "ReST"), **fields)(
        lambda ev, formula=formula: formula(ev, rest(ev))
    )

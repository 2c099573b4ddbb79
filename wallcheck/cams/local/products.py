"""Local (element-wise): gradient and activation meet at each cell.

The gradient at an unseen cell is 0, and so is everything made of it there.
"""

from typing import Any

from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.numerics import in_double

LOCAL: dict[str, Any] = dict(family="local", cost="1F+1b", verdict="zero")


@cam_method(**LOCAL, source="Draelos and Carin 2020, eq. 4")
def hirescam(ev: Evidence) -> Tensor:
    """sum_k G_k(u) A_k(u). Sums to y - bias when the head is linear. 0 where all channels are dead or G is 0."""
    return (ev.gradient * ev.activations).sum(1)


@cam_method(**LOCAL, source="Jiang et al. 2021, eq. 6-7, one layer, no tanh")
def layercam(ev: Evidence) -> Tensor:
    """sum_k relu(G_k(u)) A_k(u); 0 where no channel speaks for the class."""
    return ev.gradient.clamp(min=0).mul_(ev.activations).sum(1)


@cam_method(**LOCAL, source="grad-cam, GradCAMElementWise; no paper")
def gradcam_elementwise(ev: Evidence) -> Tensor:
    """sum_k relu(G_k(u) A_k(u)): Layer-CAM where A >= 0, which a ReLU layer guarantees."""
    return (ev.gradient * ev.activations).clamp(min=0).sum(1)


@cam_method(
    **LOCAL,
    source="Rebuffi et al. 2020 (NormGrad), virtual 1 x 1 convolution; logit score, as in an author's branch of TorchRay",
)
def normgrad(ev: Evidence) -> Tensor:
    """||G(u)|| ||A(u)||, norms over channels: the Frobenius norm of cell u's share of a 1 x 1 layer's gradient.

    Never negative, and 0 where either factor is: it says how much a cell matters, not for or against the class.
    The released TorchRay has no NormGrad; the branch of one of the authors has this one, and a selective form, see
    `normgrad_scaling`.
    """
    return in_double(ev.gradient).norm(dim=1) * in_double(ev.activations).norm(dim=1)


@cam_method(**LOCAL, source="Rebuffi et al. 2020 (NormGrad), virtual scaling layer; logit score")
def normgrad_scaling(ev: Evidence) -> Tensor:
    """||G(u) * A(u)||: the norm of cell u's share of a per-channel scale's gradient. The paper's third virtual
    layer, a bias, gives ||G(u)|| and does not look at the activations; it is not listed. The branch's selective form,
    ||relu(G(u) * A(u))||, keeps what speaks for the class: 0.3 to 0.8 of the peak away, and 0 at unseen cells too
    (docs/disagreements.md)."""
    return (in_double(ev.gradient) * ev.activations).norm(dim=1)

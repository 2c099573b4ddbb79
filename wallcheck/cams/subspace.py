"""Subspace: directions of the activations themselves. The head is never asked, so the wall is unknown to them."""

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence


@cam_method(
    family="subspace",
    source="Muhammad and Yeasin 2020; columns centred as in the published code (grad-cam); "
    "sign: the side with the larger extreme is positive",
    cost="1F",
    verdict="class_free",
)
def eigencam(ev: Evidence) -> Tensor:
    """Positions projected on the first principal direction of the channels, X v_1."""
    return first_direction(ev.activations, centred=True)


def first_direction(activations: Tensor, centred: bool) -> Tensor:
    """(B, K, h, w) -> (B, h, w): projection of each position's fibre on the first right singular vector.

    centred: subtract each channel's mean over positions first. A singular vector's sign is
    arbitrary; the sign rule makes the extreme of larger magnitude positive. A constant map gives 0.
    """
    fibres = activations.flatten(2).transpose(1, 2).double()  # (B, Z, K)
    if centred:
        fibres = fibres - fibres.mean(1, keepdim=True)
    gram = fibres @ fibres.transpose(1, 2)  # (B, Z, Z): its top eigenvector is u_1, and X v_1 = s_1 u_1
    values, vectors = torch.linalg.eigh(gram)
    projection = vectors[..., -1] * values[:, -1:].clamp(min=0).sqrt()
    low, high = projection.amin(1, keepdim=True), projection.amax(1, keepdim=True)
    sign = torch.where(-low > high, -1.0, 1.0)
    return (sign * projection).view(len(activations), *activations.shape[2:]).to(activations.dtype)

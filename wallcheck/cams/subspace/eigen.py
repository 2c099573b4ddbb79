"""Subspace: directions of the activations themselves. The head is never asked, so the wall is unknown to them.

The two that weigh the activations with gradients first know it, until centring forgets it again.
"""

from typing import Any

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.numerics import in_double, leading, ratio

EIGEN: dict[str, Any] = dict(family="subspace", cost="1F", verdict="class_free")
SIGN = "sign: the side with the larger extreme is positive"


@cam_method(**EIGEN, source=f"Muhammad and Yeasin 2020; columns centred as in the published code (grad-cam); {SIGN}")
def eigencam(ev: Evidence) -> Tensor:
    """Positions projected on the first principal direction of the channels, X v_1 with X (Z, K) centred."""
    return first_direction(ev.activations, centred=True)


@cam_method(**EIGEN, source=f"Muhammad and Yeasin 2020, eq. 2-5, not centred, as printed; {SIGN}")
def eigencam_uncentred(ev: Evidence) -> Tensor:
    """X v_1, X not centred. Activations >= 0 have v_1 >= 0 (Perron), so the map is >= 0."""
    return first_direction(ev.activations, centred=False)


@cam_method(
    family="subspace",
    source=f"EigenGradCAM of grad-cam 1.5.7 (no paper): Eigen-CAM of G * A, centred; {SIGN}, where the code leaves it open",
    cost="1F+1b",
    verdict="zero_but_offset",
)
def eigengradcam(ev: Evidence) -> Tensor:
    """X v_1 with rows X(u) = G(u) * A(u), centred: unseen rows were 0 and become -mean(X) v_1, one constant.

    The sign rule makes it positive where the evidence against the class has the larger extreme; grad-cam leaves the
    sign, and so which images leak, to LAPACK.
    """
    return first_direction(ev.gradient * ev.activations, centred=True)


@cam_method(
    family="subspace",
    source=f"wallcheck: Eigen-Grad-CAM without centring, its repair; {SIGN}",
    cost="1F+1b",
    verdict="zero",
    repairs="eigengradcam",
)
def eigengradcam_uncentred(ev: Evidence) -> Tensor:
    """X v_1 with rows X(u) = G(u) * A(u): 0 wherever the gradient is."""
    return first_direction(ev.gradient * ev.activations, centred=False)


@cam_method(
    family="subspace",
    source=f"Chung and Ying 2025, eq. 10-13, centred as in grad-cam; {SIGN} (eq. 13)",
    cost="1F+1b",
    verdict="zero_but_offset",
)
def segeigencam(ev: Evidence) -> Tensor:
    """X v_1 with rows X(u) = |G(u)| * A(u), centred.

    Behind a ReLU X >= 0, so v_1 >= 0 and the unseen constant is -mean(X) v_1 <= 0 under the sign rule unless most
    seen cells are as bright as the brightest: with half of the cells unseen it was never met positive.
    """
    return first_direction(ev.gradient.abs() * ev.activations, centred=True)


@cam_method(
    **EIGEN,
    source=f"Karmani et al. 2024; sigmoid kernel, gamma 1 / K, offset 1, positions centred first, as in grad-cam; {SIGN}",
)
def kpcacam(ev: Evidence) -> Tensor:
    """sqrt(l) u for the first eigenpair of the doubly centred kernel tanh(x.y / K + 1) over positions.

    The kernel of an empty image, tanh(1), is taken off first: centring removes it anyway, and so a
    dead layer gives exactly 0. The kernel is not positive; an image whose largest l is <= 0 gives 0.
    """
    fibres = fibres_of(ev.activations)
    fibres = fibres - fibres.mean(1, keepdim=True)
    one = fibres.new_ones(1, 1, 1)
    kernel = torch.baddbmm(one, fibres, fibres.mT, alpha=1 / fibres.shape[2]).tanh_() - one.tanh()
    kernel = kernel - kernel.mean(1, keepdim=True)
    kernel = kernel - kernel.mean(2, keepdim=True)
    value, vector = leading(kernel)
    return signed(vector * value[:, None].clamp(min=0).sqrt(), ev.activations)


@cam_method(
    **EIGEN, source="Fuad et al. 2020, k = 2; channels weigh as in grad-cam: share of cells above the threshold"
)
def fem(ev: Evidence) -> Tensor:
    """sum_k w_k A_k, w_k the share of cells with A_k > mean + 2 std; a constant channel weighs 0."""
    share = outstanding(ev.activations).mean((2, 3), keepdim=True)
    return (share * ev.activations).sum(1)


@cam_method(
    **EIGEN,
    source="Fuad et al. 2020, k = 2; binary maps weighted by the channel's mean, our reading of the text and xplique's (which has >= for >)",
)
def fem_binary(ev: Evidence) -> Tensor:
    """sum_k mean(A_k) [A_k > mean + 2 std]: where many channels are outstanding, however strongly."""
    return (ev.activations.mean((2, 3), keepdim=True) * outstanding(ev.activations)).sum(1)


@cam_method(**EIGEN, source="Karjauv and Albayrak 2024 (LaFAM), eq. 2")
def lafam(ev: Evidence) -> Tensor:
    """The mean over channels: every channel weighs the same. 0 for a dead layer."""
    return ev.activations.mean(1)


def outstanding(activations: Tensor) -> Tensor:
    """(B, K, h, w): 1 where a cell exceeds its channel's mean by two standard deviations, else 0."""
    std = activations.std((2, 3), correction=0, keepdim=True)
    return (activations > activations.mean((2, 3), keepdim=True) + 2 * std).to(activations.dtype)


def fibres_of(activations: Tensor) -> Tensor:
    """(B, K, h, w) -> X (B, Z, K) in double precision, one row per cell."""
    return in_double(activations.flatten(2).transpose(1, 2))


def first_direction(activations: Tensor, centred: bool) -> Tensor:
    """(B, K, h, w) -> (B, h, w): projection of each cell's fibre on the first right singular vector.

    centred: subtract each channel's mean over cells first. Zero fibres are projected to exactly 0, or all
    to the same constant when centred. No direction at all (a constant layer) gives 0.
    """
    fibres = fibres_of(activations)
    mean = fibres.mean(1, keepdim=True) if centred else torch.zeros_like(fibres[:, :1])
    if fibres.is_cuda:  # to look for empty cells is to wait
        rows = fibres - mean
    else:
        empty = ~(fibres != 0).any(2).any(0)  # cells without a fibre, which all become one row, -mean
        rows = torch.cat([fibres[:, ~empty] - mean, -mean * empty.sum().sqrt()], 1)
    direction = first_right(rows)
    return signed((fibres @ direction - mean @ direction)[..., 0], activations)


def first_right(rows: Tensor) -> Tensor:
    """(B, n, K) -> (B, K, 1): first right singular vectors, from the smaller of the two Gram matrices; 0 for rows all 0."""
    if rows.shape[1] >= rows.shape[2]:
        return leading(rows.mT @ rows, positive=True)[1][..., None] * (rows != 0).any(1).any(1)[:, None, None]
    along = rows.mT @ leading(rows @ rows.mT, positive=True)[1][..., None]
    return ratio(along, along.norm(dim=1, keepdim=True))


def signed(projection: Tensor, activations: Tensor) -> Tensor:
    """(B, Z) -> (B, h, w): the sign rule of every singular vector here, the larger extreme is positive."""
    sign = torch.where(-projection.amin(1, keepdim=True) > projection.amax(1, keepdim=True), -1.0, 1.0)
    return (sign * projection).view(len(activations), *activations.shape[2:]).to(activations)

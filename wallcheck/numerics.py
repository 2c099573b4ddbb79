"""The few operations whose behaviour at zero and at ties is decided once."""

from functools import cache

import numpy as np
import torch
from torch import Tensor


def ratio(top: Tensor, bottom: Tensor) -> Tensor:
    """top / bottom, and 0 where bottom is exactly 0: no hidden scale.

    >>> ratio(torch.tensor([1., 1.]), torch.tensor([4., 0.]))
    tensor([0.2500, 0.0000])
    """
    zero = bottom == 0
    return (top / bottom.masked_fill(zero, 1)).masked_fill(zero, 0)


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """sum_k weights[b, k] activations[b, k]: (B, K) and (B, K, h, w) -> (B, h, w)."""
    return torch.einsum("bk,bkhw->bhw", weights, activations)


def unit_range(maps: Tensor) -> Tensor:
    """Each map of (..., h, w) stretched to [0, 1]; a constant map becomes all zero.

    >>> unit_range(torch.tensor([[[1., 3.], [2., 1.]]]))
    tensor([[[0.0000, 1.0000],
             [0.5000, 0.0000]]])
    """
    low = maps.amin((-2, -1), keepdim=True)
    return ratio(maps - low, maps.amax((-2, -1), keepdim=True) - low)


def leading(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Largest eigenvalue (B,) and its eigenvector (B, n) of symmetric matrices (B, n, n), in double precision.

    On a CPU only this pair is computed, in a third of the time of all.

    >>> leading(torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]))[0]
    tensor([2.], dtype=torch.float64)
    """
    symmetric = symmetric.double()
    if symmetric.device.type != "cpu" or not len(symmetric):
        values, vectors = torch.linalg.eigh(symmetric)
        return values[:, -1], vectors[..., -1]
    from scipy.linalg import eigh  # before the pools are looked for: it brings one

    last = [symmetric.shape[-1] - 1] * 2
    with _pools().limit(limits=1, user_api="blas"):  # threads of SciPy's own would fight torch's, which wait busily
        found = [eigh(one, subset_by_index=last, check_finite=False) for one in symmetric.numpy()]
    values, vectors = zip(*found, strict=True)
    return torch.from_numpy(np.concatenate(values)), torch.from_numpy(np.stack(vectors)[..., 0])


@cache
def _pools():
    """The thread pools of the linear algebra libraries that are loaded."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()

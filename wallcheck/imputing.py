"""Missing pixels filled in from around, so that what is gone does not give itself away by its colour (ROAD)."""

from itertools import product

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

# Rong et al. 2022: a missing pixel is the mean of its eight neighbours, straight ones twice as heavy as slanted ones.
WEIGHTS = {step: (1 / 6 if 0 in step else 1 / 12) for step in product((-1, 0, 1), repeat=2) if step != (0, 0)}


def imputed(image: Tensor, missing: Tensor) -> Tensor:
    """image (C, H, W) with the pixels `missing` (H, W) solving x(u) sum_v w(u, v) = sum_v w(u, v) x(v), v its neighbours.

    Beyond the border there are none. Neighbours that are missing too are unknowns of the same system, one for
    each missing pixel; if none is left to tell, all are 0.
    """
    gone = missing.cpu().numpy().astype(bool)
    if not gone.any() or gone.all():
        return image * ~missing
    matrix, known = neighbourhood(gone)
    values = image.detach().cpu().double().flatten(1).numpy()
    filled = values.copy()
    filled[:, gone.ravel()] = spsolve(matrix, known @ values[:, ~gone.ravel()].T).reshape(gone.sum(), -1).T
    return torch.from_numpy(filled).view(image.shape).to(image)


def neighbourhood(gone: np.ndarray) -> tuple:
    """Sparse (N, N) matrix between missing pixels and (N, M) between missing and known ones of gone (H, W), each in
    reading order: matrix x = known y."""
    number = np.where(gone, np.cumsum(gone).reshape(gone.shape), np.cumsum(~gone).reshape(gone.shape)) - 1
    rows, columns = np.nonzero(gone)
    links: dict[bool, tuple[list, list, list]] = {True: ([], [], []), False: ([], [], [])}
    total = np.zeros(len(rows))
    for (down, across), weight in WEIGHTS.items():
        i, j = rows + down, columns + across
        there = (i >= 0) & (i < gone.shape[0]) & (j >= 0) & (j < gone.shape[1])
        total[there] += weight
        for of_gone, (left, right, heavy) in links.items():
            at = np.flatnonzero(there)[gone[i[there], j[there]] == of_gone]
            left.append(at)
            right.append(number[i[at], j[at]])
            heavy.append(np.full(len(at), weight))
    between, known = (
        coo_matrix((np.concatenate(heavy), (np.concatenate(left), np.concatenate(right))), shape=(len(rows), size))
        for (left, right, heavy), size in zip(links.values(), (gone.sum(), (~gone).sum()), strict=True)
    )
    itself = coo_matrix((total, (range(len(rows)), range(len(rows)))))
    return (itself - between).tocsc(), known.tocsr()

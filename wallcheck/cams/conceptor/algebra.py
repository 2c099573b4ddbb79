"""Conceptors: soft projectors on what a cloud of states does, and their Boolean algebra.

A conceptor of correlation R = X X^T / T and aperture a is C = R (R + a^-2 I)^-1: symmetric, with a
singular value s / (s + a^-2) in [0, 1) for each s of R. With the aperture absorbed, Q = a^2 R,
C = Q (Q + I)^-1, and the algebra is that of Q: NOT is the inverse, OR the sum, AND the parallel sum.

All functions take (..., n, n) or (..., n, T) tensors and compute in double precision.
Jaeger 2014, "Controlling recurrent neural networks by conceptors" (arXiv 1403.3369), sec. 3.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

NULL = 1e-10  # a conceptor's singular values have no unit; one below this is a direction it does not know


def correlation(states: Tensor) -> Tensor:
    """R = X X^T / T of states X (..., n, T)."""
    states = states.double()
    return states @ states.mT / states.shape[-1]


def conceptor(states: Tensor, aperture: float | Tensor) -> Tensor:
    """C = R (R + a^-2 I)^-1 of states X (..., n, T), a > 0.

    >>> conceptor(torch.tensor([[2.0, -2.0], [0.0, 0.0]]), aperture=0.5)
    tensor([[0.5000, 0.0000],
            [0.0000, 0.0000]], dtype=torch.float64)
    """
    return saturated(absorbed(correlation(states), aperture))


def absorbed(correlation: Tensor, aperture: float | Tensor) -> Tensor:
    """Q = a^2 R; `aperture` a number or (...)."""
    return torch.as_tensor(aperture, dtype=torch.float64)[..., None, None] ** 2 * correlation.double()


def saturated(q: Tensor) -> Tensor:
    """C = Q (Q + I)^-1."""
    return spectral(q, lambda s: s.clamp(min=0) / (s.clamp(min=0) + 1))


def widened(c: Tensor, factor: float) -> Tensor:
    """phi(C, g) = C (C + g^-2 (I - C))^-1, the conceptor with its aperture multiplied by g.

    g = 0 keeps the directions known fully (s = 1), g = inf those known at all (s > 0), as projectors.
    """
    if factor == 0:
        return spectral(c, lambda s: (s > 1 - NULL).double())
    if factor == float("inf"):
        return spectral(c, lambda s: (s > NULL).double())
    return spectral(c, lambda s: s / (s + (1 - s) / factor**2))


def negation(c: Tensor) -> Tensor:
    """NOT C = I - C."""
    return torch.eye(c.shape[-1], dtype=torch.float64, device=c.device) - c


def conjunction(c: Tensor, b: Tensor) -> Tensor:
    """C AND B = (C^-1 + B^-1 - I)^-1 on the directions both know, 0 on the others (singular C or B included).

    On those directions all eigenvalues of C^-1 + B^-1 - I are at least 1, elsewhere they are 0, so
    1/2 tells them apart.
    """
    unknown = spectral(c, lambda s: (s <= NULL).double()) + spectral(b, lambda s: (s <= NULL).double())
    both = spectral(unknown, lambda s: (s <= NULL).double())
    return spectral(both @ (negation(inverse(c) + inverse(b)).neg()) @ both, lambda s: (s > 0.5) / s.clamp(min=0.5))


def disjunction(c: Tensor, b: Tensor) -> Tensor:
    """C OR B = NOT (NOT C AND NOT B)."""
    return negation(conjunction(negation(c), negation(b)))


def and_not(q: Tensor, p: Tensor) -> Tensor:
    """C AND NOT B = (I + Q (I + P))^-1 Q, for C and B of absorbed correlations Q and P.

    Never singular: NOT B knows every direction. Where a row and column of Q are 0, so are the result's, exactly.
    """
    system = _with_identity(q @ _with_identity(p))
    if q.ndim == 2:
        return torch.linalg.solve(system, q)
    # One by one: torch 2.15 with MKL and several threads fails on batches of LU (n = 196, "entry to DLASWP").
    each = zip(system.flatten(0, -3), q.expand(system.shape).flatten(0, -3), strict=True)
    return torch.stack([torch.linalg.solve(one, right) for one, right in each]).view(system.shape)


def through_and_not(vectors: Tensor, states: Tensor, opposed: Tensor) -> Tensor:
    """v C for v (B, m, n), C = C1 AND NOT C2 (B, n, n) the conceptors of states and opposed (B, n, T), apertures absorbed.

    One matrix after the other, each no larger than its own states: rows in which all of these are 0 take no part, and
    get exactly 0.
    """
    if states.is_cuda:
        return _through_all(vectors, states, opposed)
    return torch.stack([_through_one(*each) for each in zip(vectors, states, opposed, strict=True)])


def through_or(vectors: Tensor, states: Tensor, other: Tensor) -> Tensor:
    """v C, C = C1 OR C2 of states and other (B, n, T), apertures absorbed: correlations add up, so the states stand
    side by side. Rows in which all of both are 0 get exactly 0."""
    return through_and_not(vectors, torch.cat([states, other], -1), torch.zeros_like(other[..., :1]))


def through_states(vectors: Tensor, states: Tensor, unused: Tensor) -> Tensor:
    """v C, C the conceptor of states (B, n, T) alone, aperture absorbed: no Boolean operation."""
    return through_and_not(vectors, states, torch.zeros_like(unused[..., :1]))


def _through_one(vectors: Tensor, states: Tensor, opposed: Tensor) -> Tensor:
    """v C for v (m, n) and states X, opposed Y (n, T).

    With Q = X X^T and I + Y Y^T = L L^T, C = X (I + X^T L L^T X)^-1 X^T = Q L (I + L^T Q L)^-1 L^-1: the smaller
    system is solved, and C is never formed.
    """
    known = (states != 0).any(-1)
    x, y, v = without_empty(states[known]), without_empty(opposed[known]), vectors[:, known]
    out = torch.zeros_like(vectors)
    out[:, known] = _solved(v, x, y)
    return out


def _through_all(vectors: Tensor, states: Tensor, opposed: Tensor) -> Tensor:
    """All images at once, rows and columns that are 0 and all: for a GPU, where launches decide. A row of zeros in the states
    gets exactly 0 here too; one in the opposed alone is kept out of the vectors."""
    known = (states != 0).any(-1, keepdim=True)
    return _solved(vectors * known.mT, states, opposed * known)


def _solved(v: Tensor, x: Tensor, y: Tensor) -> Tensor:
    if x.shape[-1] <= x.shape[-2]:
        across = y.mT @ x
        core = _lower(_with_identity(x.mT @ x + across.mT @ across))
        return torch.cholesky_solve((v @ x).mT, core).mT @ x.mT
    q, lower = x @ x.mT, _lower(_with_identity(y @ y.mT))
    core = _lower(_with_identity(lower.mT @ q @ lower))
    inner = torch.cholesky_solve(torch.linalg.solve_triangular(lower, v.mT, upper=False), core)
    return (q @ (lower @ inner)).mT


def _lower(matrix: Tensor) -> Tensor:
    """Cholesky's factor of I + a square, which has one: not asked whether it has, for that is to wait for a GPU."""
    return torch.linalg.cholesky_ex(matrix).L


def absorbing(states: Tensor) -> Tensor:
    """(B, n, T) -> (B, 1, 1): the factor f of states X with which C = Q (Q + I)^-1, Q = f^2 X X^T, has the best aperture."""
    if states.is_cuda:  # all at once
        small = states if states.shape[1] <= states.shape[2] else states.mT
        strengths = torch.linalg.eigvalsh(small @ small.mT)
    else:
        strengths = pad_sequence([_strengths(one) for one in states], batch_first=True)
    return best_aperture(strengths)[:, None, None]


def _strengths(states: Tensor) -> Tensor:
    """Eigenvalues of X X^T for states X (n, T), some of those that are 0 left out."""
    rows = without_empty(without_empty(states).T).T
    small = rows if rows.shape[0] <= rows.shape[1] else rows.T  # X X^T and X^T X have the same strengths
    return torch.linalg.eigvalsh(small @ small.T)


def without_empty(states: Tensor) -> Tensor:
    """States (..., n, T) without the columns that are 0 throughout; one column is always kept."""
    columns = (states != 0).flatten(0, -2).any(0)
    columns[:1] = True
    return states if columns.all() else states[..., columns]


def _with_identity(matrix: Tensor) -> Tensor:
    return matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def best_aperture(strengths: Tensor, span: float = 1e6, places: int = 65) -> Tensor:
    """The aperture a at which ||C||_F^2 changes fastest with log a (Jaeger 2014, sec. 3.8.6); 1 where R = 0.

    strengths (..., n): eigenvalues of R. With c = s / (s + a^-2), d ||C||^2 / d log a = 4 sum c^2 (1 - c). The
    best of `places` values of a^2 max(s) between 1 and `span` is refined by where the derivative turns,
    sum c^2 (1 - c) (2 - 3 c). A single s > 0 has its maximum at c = 2/3.

    >>> best_aperture(torch.tensor([8.0, 0.0]))
    tensor(0.5000, dtype=torch.float64)
    """
    strengths = strengths.double().clamp(min=0)
    top = strengths.amax(-1, keepdim=True)
    share = strengths / torch.where(top == 0, 1.0, top)

    def known(log: Tensor) -> Tensor:  # (..., places) -> (..., places, n)
        q = share[..., None, :] * log.exp()[..., None]
        return q / (q + 1)

    step = float(torch.tensor(span).log()) / (places - 1)
    grid = (torch.arange(places, dtype=torch.float64, device=share.device) * step).expand(*share.shape[:-1], -1)
    c = known(grid)
    low = (grid.gather(-1, (c**2 * (1 - c)).sum(-1).argmax(-1, keepdim=True)) - step).clamp(min=0)
    high = low + 2 * step
    parts, rounds = (64, 10) if share.is_cuda else (2, 60)  # 2^60 either way: a GPU is asked for many places at once
    inner = torch.arange(1, parts, dtype=torch.float64, device=share.device) / parts
    for _ in range(rounds):
        c, width = known(low + (high - low) * inner), high - low
        rising = (c**2 * (1 - c) * (2 - 3 * c)).sum(-1) > 0
        passed = rising.long().cumprod(-1).sum(-1, keepdim=True)
        low, high = low + width * (passed / parts), low + width * ((passed + 1) / parts)
    return torch.where(top == 0, 1.0, (low.exp() / torch.where(top == 0, 1.0, top)).sqrt())[..., 0]


def inverse(c: Tensor) -> Tensor:
    """The inverse on the directions c knows, 0 on the others."""
    return spectral(c, lambda s: (s > NULL) / s.clamp(min=NULL))


def spectral(matrix: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """function of a symmetric matrix: applied to its eigenvalues."""
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    return (vectors * function(values)[..., None, :]) @ vectors.mT

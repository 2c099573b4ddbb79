"""The few operations whose behaviour at zero and at ties is decided once."""

from functools import cache
from math import inf

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

FAINTEST = 2.0**-500
EXPONENT = 0x7F800000  # the bits of a float32 that say its power of two


def in_double(values: Tensor) -> Tensor:
    """values in double precision, on the CPU where their device has none (MPS).

    >>> in_double(torch.ones(1))
    tensor([1.], dtype=torch.float64)
    """
    return values.cpu().double() if values.device.type == "mps" else values.double()


def all_finite(values: Tensor) -> bool:
    """Whether there is no NaN and no infinity: their sum tells at once where it is finite, and a sum that overflows is looked into.

    >>> all_finite(torch.tensor([3e38, 3e38])), all_finite(torch.tensor([1.0, torch.nan]))
    (True, False)
    """
    values = values if values.element_size() > 1 else values.float()  # torch adds no numbers of 8 bits
    return abs(values.sum().item()) < inf or bool(torch.isfinite(values).all())


def ratio(top: Tensor, bottom: Tensor) -> Tensor:
    """top / bottom, and 0 where bottom is exactly 0: no hidden scale.

    >>> ratio(torch.tensor([1., 1.]), torch.tensor([4., 0.]))
    tensor([0.2500, 0.0000])
    """
    zero = bottom == 0
    if torch.is_grad_enabled() and (top.requires_grad or bottom.requires_grad):  # so that no slope becomes 0 / 0
        return (top / bottom.masked_fill(zero, 1)).masked_fill(zero, 0)
    if top.device.type == "cpu" and not zero.any():  # to look first would be to wait for a GPU
        return top / bottom
    return (top / bottom).masked_fill_(zero, 0)


def unit_scale(maps: Tensor) -> tuple[Tensor, Tensor]:
    """(maps / 2^e, e): each map of (..., h, w) as doubles whose largest magnitude lies from 1/2 to 1; zeros stay zeros.

    A power of two divides without rounding, so whatever is computed from the first does not depend on the scale of a
    map, be it 1e-45 or 1e38. What is not 0 stays so: below 2^-500 of the largest, which doubles alone can be, it is
    raised to that, so that its square is a number too.

    >>> unit_scale(torch.tensor([[3e-45, 6e-45]]))
    (tensor([[0.2500, 0.5000]], dtype=torch.float64), tensor([[-146]], dtype=torch.int32))
    """
    exponent = _exponent(*_ends(maps.detach()))
    return _scaled(maps, exponent), exponent


def _ends(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest and the highest value of each map of (..., h, w), (..., 1, 1)."""
    return maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)


def _exponent(low: Tensor, high: Tensor) -> Tensor:
    """e, with the largest magnitude from 2^(e - 1) to 2^e."""
    return torch.frexp(in_double(torch.maximum(-low, high))).exponent


def _scaled(maps: Tensor, exponent: Tensor) -> Tensor:
    """maps / 2^e in double precision, what is faint raised to `FAINTEST`; order is kept."""
    if maps.dtype != torch.float64:  # no narrower type reaches so far
        return in_double(maps) * _power(-exponent)
    scaled = times_power(maps, -exponent)
    faint = (scaled.abs() < FAINTEST) & (maps != 0)
    if maps.device.type == "cpu" and not faint.any():
        return scaled
    return torch.where(faint, FAINTEST * maps.sign(), scaled)


def times_power(values: Tensor, exponent: Tensor) -> Tensor:
    """values * 2^exponent in double precision, rounded only where the result is subnormal; `torch.ldexp` overflows on
    its way. In two steps, because 2^1074 is no double; a GPU always takes both, for to look first is to wait for it."""
    first = exponent.clamp(-1022, 1023)
    product = in_double(values) * _power(first)
    if product.device.type == "cpu" and not (exponent != first).any():
        return product
    return product * _power(exponent - first)


def _power(exponent: Tensor) -> Tensor:
    """2^exponent by its bits, so exact on every device; exponent from -1022 to 1023."""
    return ((exponent.long() + 1023) << 52).view(torch.float64)


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """sum_k weights[b, k] activations[b, k]: (B, K) and (B, K, h, w) -> (B, h, w).

    Weights are brought to unit scale and the sum back, so that no product is lost below the smallest number. Weights in double
    precision, as powers of gradients are, give maps in it.
    """
    if weights.dtype == activations.dtype == torch.float32:
        scale = _power_below(weights.detach())
        return torch.einsum("bk,bkhw->bhw", weights / scale, activations) * scale[..., None]
    unit, exponent = unit_scale(weights[:, None])
    total = torch.einsum("bk,bkhw->bhw", unit[:, 0].to(activations.dtype), activations)
    return times_power(total, exponent).to(torch.promote_types(weights.dtype, activations.dtype))


def _power_below(values: Tensor) -> Tensor:
    """The power of two that is nearest below the largest magnitude of each row of float32 (B, K), (B, 1), by its bits; at least the
    smallest that is held in full."""
    size = values.abs().amax(1, keepdim=True)
    return (size.view(torch.int32) & EXPONENT).view(torch.float32).clamp(min=torch.finfo(torch.float32).tiny)


def probabilities(logits: Tensor) -> Tensor:
    """(N, D) -> (N, D): softmax; of a single logit the sigmoid, since softmax over one class is 1 whatever it says.

    >>> probabilities(torch.tensor([[0.0, 0.0]])), probabilities(torch.tensor([[0.0]]))
    (tensor([[0.5000, 0.5000]]), tensor([[0.5000]]))
    """
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)


def log_probabilities(logits: Tensor) -> Tensor:
    """log of `probabilities`, (N, D) -> (N, D), without the overflow of exp."""
    return logsigmoid(logits) if logits.shape[1] == 1 else logits.log_softmax(1)


def unit_range(maps: Tensor) -> Tensor:
    """Each map of (..., h, w) stretched to [0, 1]; a constant map becomes all zero.

    >>> unit_range(torch.tensor([[[1., 3.], [2., 1.]]]))
    tensor([[[0.0000, 1.0000],
             [0.5000, 0.0000]]])
    """
    unit = unit_scale(maps)[0] if maps.dtype == torch.float64 else in_double(maps)  # narrower types do not reach so far
    return range_of_unit(unit).to(maps.dtype)


def range_of_unit(unit: Tensor) -> Tensor:
    """`unit_range` of maps at unit scale, see `unit_scale`, or of what was made of such by addition and shares."""
    low, high = _ends(unit)
    return ratio(unit - low, high - low)


def ranks(values: Tensor) -> Tensor:
    """Places 1 .. N of values (B, N) in each row, in double precision; equal values share the mean of theirs.

    >>> ranks(torch.tensor([[3.0, 1.0, 3.0]]))
    tensor([[2.5000, 1.0000, 2.5000]], dtype=torch.float64)
    """
    ordered = values.sort(1).values
    below, upto = (torch.searchsorted(ordered, values.contiguous(), right=side) for side in (False, True))
    return (below + upto + 1).double() / 2


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's r of the rows of (B, N) and (B, N): NaN where the first does not vary, 0 where the second alone does not.

    >>> correlation(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[5.0, 5.0, 5.0]]))
    tensor([0.], dtype=torch.float64)
    """
    flat = one.amax(1) == one.amin(1)
    one, other = (unit_scale(given[:, None])[0][:, 0] for given in (one, other))
    one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    together = ratio((one * other).sum(1), one.norm(dim=1) * other.norm(dim=1))
    return together.clamp(-1, 1).masked_fill(flat, torch.nan)


def leading(symmetric: Tensor, positive: bool = False) -> tuple[Tensor, Tensor]:
    """Largest eigenvalue (B,) and its eigenvector (B, n) of symmetric matrices (B, n, n), in double precision.

    positive: whether no eigenvalue is known to be negative.

    On a CPU only this pair is computed, in a third of the time of all; on a GPU all matrices are squared together.

    >>> leading(torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]))[0]
    tensor([2.], dtype=torch.float64)
    """
    symmetric = in_double(symmetric)
    if symmetric.device.type != "cpu":
        return leading_by_squaring(symmetric, positive)
    if not len(symmetric):
        return symmetric[:, 0, 0], symmetric[:, :, 0]
    from scipy.linalg import eigh  # before the pools are looked for: it brings one

    last = [symmetric.shape[-1] - 1] * 2
    with _pools().limit(limits=1, user_api="blas"):  # threads of SciPy's own would fight torch's, which wait busily
        found = [eigh(one, subset_by_index=last, check_finite=False) for one in symmetric.numpy()]
    values, vectors = zip(*found, strict=True)
    return torch.from_numpy(np.concatenate(values)), torch.from_numpy(np.stack(vectors)[..., 0])


SQUARINGS, APART = (
    45,
    5,
)  # 2^45 steps of the power method; so many squarings of values below 1 stay above the smallest number


def leading_by_squaring(symmetric: Tensor, positive: bool = False) -> tuple[Tensor, Tensor]:
    """`leading` by products alone: S, S^2, S^4, ... turn to the projector on the eigenvector. On a GPU eigh takes matrices of this
    size one after the other. What may have negative eigenvalues is shifted by its largest row sum; a gap below 2^-40 of that is
    no gap here. The vector of a matrix that is 0 is 0.

    >>> leading_by_squaring(torch.tensor([[[2.0, 0.0], [0.0, -3.0]]], dtype=torch.float64))
    (tensor([2.], dtype=torch.float64), tensor([[1., 0.]], dtype=torch.float64))
    """
    shifted = symmetric
    if not positive:
        bound = symmetric.abs().sum(2).amax(1)[:, None, None]
        shifted = symmetric + bound * torch.eye(symmetric.shape[-1], dtype=symmetric.dtype, device=symmetric.device)
    power = shifted
    for number in range(SQUARINGS):
        if number % APART == 0:
            power = ratio(power, power.diagonal(0, 1, 2).sum(1)[:, None, None])
        power = power @ power
    place = power.diagonal(0, 1, 2).argmax(1)[:, None, None].expand(-1, power.shape[1], 1)
    vector = power.gather(2, place)
    for _ in range(2):
        vector = shifted @ ratio(vector, vector.norm(dim=1, keepdim=True))
    vector = ratio(vector, vector.norm(dim=1, keepdim=True))
    return (vector.mT @ symmetric @ vector)[:, 0, 0], vector[..., 0]


@cache
def _pools():
    """The thread pools of the linear algebra libraries that are loaded."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def as_classes(targets: object) -> Tensor:
    """targets as a tensor; raises ValueError for what is none, as names of classes. A column of a table counts by its values,
    whatever its rows are called."""
    try:
        given = torch.as_tensor(targets.to_numpy(copy=True) if hasattr(targets, "to_numpy") else targets)
    except (TypeError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"targets are {type(targets).__name__} ({said}), expected class indices, whole numbers; or None for the predicted ones"
        ) from None
    return given.to(torch.int64) if given.dtype in (torch.uint16, torch.uint32, torch.uint64) else given

"""Layer-wise relevance through a transformer: by autograd whose backward is a rule, or by gradients of a straightened network.

handed      autograd carries relevance R itself: each operation's backward is R of its output -> R of its inputs
attnlrp     the network's own values; input x gradient of what is made linear is relevance         (Achtibat et al. 2024)
cplrp       the same with attention held constant                                                  (Ali et al. 2022)
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wallcheck.graph._nodes import named
from wallcheck.graph.following import AFFINE, POINTWISE, SHAPE, Step
from wallcheck.graph.rules import origin_ray, straight
from wallcheck.numerics import ratio

PRODUCTS = ("matmul", "bmm")
SHARES = ("softmax", "weighed")
HANDED = (*AFFINE, *SHAPE, *POINTWISE, *PRODUCTS, *SHARES, "layer_norm", "getitem")

Back = Callable[..., tuple[Tensor, ...]]  # relevance of the output, *inputs -> relevance of each input


class _Handed(torch.autograd.Function):
    """The operation itself; its backward is `back`."""

    @staticmethod
    def forward(ctx, apply: Callable[..., Tensor], back: Back, *rows: Tensor) -> Tensor:
        ctx.back = back
        ctx.save_for_backward(*rows)
        return apply(*rows)

    @staticmethod
    def backward(ctx, relevance: Tensor) -> tuple:
        return None, None, *ctx.back(relevance, *ctx.saved_tensors)


def transformer_attribution(step: Step, *rows: Tensor) -> Tensor:
    """Chefer et al. 2021a, LRP alpha = 1. Relevance, not slope, is what autograd carries here.

    linear                  x_i w_ij of positive sign take shares of R_j, the bias none
    residual addition       R_a = a R / (a + b), then each side scaled to |sum R_a| / (|sum R_a| + |sum R_b|) of sum R, per image
    products A v, q k'      half of R to either side, in proportion to what each entry adds
    softmax, LayerNorm, GELU, products by a constant        R unchanged
    means                   in proportion;     moves        R moves, and what is used twice adds up
    """
    if step.op == "linear":
        return _Handed.apply(step.apply, lambda relevance, x: (_zplus(step.weight, x, relevance),), *rows)
    if step.op == "add" and len(rows) == 2:
        return _Handed.apply(step.apply, _added, *rows)
    if step.op in PRODUCTS:
        return _Handed.apply(step.apply, _multiplied, *rows)
    if step.op in ("mean", "sum", "avg_pool2d", "adaptive_avg_pool2d"):
        return _Handed.apply(step.apply, lambda relevance, x: (_in_proportion(step, x, relevance),), *rows)
    if step.op in (*POINTWISE, *SHARES, "layer_norm", "scaling"):
        return _Handed.apply(step.apply, lambda relevance, x: (relevance,), *rows)
    return step.apply(*rows)


def _zplus(weight: Tensor, x: Tensor, relevance: Tensor) -> Tensor:
    above, below = weight.clamp(min=0), weight.clamp(max=0)
    positive, negative = x.clamp(min=0), x.clamp(max=0)
    share = ratio(relevance, positive @ above.T + negative @ below.T)
    return positive * (share @ above) + negative * (share @ below)


def _added(relevance: Tensor, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    axes = tuple(range(1, relevance.ndim))
    share = ratio(relevance, one + other)
    parts = [one * share, other * share]
    sums = [part.sum(axes, keepdim=True) for part in parts]
    whole, mass = relevance.sum(axes, keepdim=True), sum(each.abs() for each in sums)
    return tuple(part * ratio(each.abs() * whole, mass * each) for part, each in zip(parts, sums, strict=True))


def _multiplied(relevance: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    share = ratio(relevance, left @ right) / 2
    return left * (share @ right.transpose(-1, -2)), right * (left.transpose(-1, -2) @ share)


def _in_proportion(step: Step, x: Tensor, relevance: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        out = step.apply(leaf)
    (slope,) = torch.autograd.grad(out, leaf, ratio(relevance, out.detach()))
    return leaf.detach() * slope


# -- input x gradient -----------------------------------------------------------------------------


def attnlrp(step: Step, *rows: Tensor) -> Tensor:
    """Achtibat et al. 2024 as input x gradient: a LayerNorm's deviation is constant, GELU's slope is f(x) / x, a product hands
    half its gradient to either side; softmax keeps its own gradient (their Taylor rule), linear layers too (epsilon -> 0)."""
    if step.op in PRODUCTS:
        out = step.apply(*rows)
        return straight(out, torch.full_like(out, 0.5), out)
    return _straightened(step, *rows)


def cplrp(step: Step, *rows: Tensor) -> Tensor:
    """Ali et al. 2022 as input x gradient: attention and a LayerNorm's deviation are constant; GELU's slope is f(x) / x."""
    if step.op in SHARES:
        return step.apply(*rows).detach()
    return _straightened(step, *rows)


def _straightened(step: Step, *rows: Tensor) -> Tensor:
    return normed(step, rows[0]) if step.op == "layer_norm" else origin_ray(step, *rows)


def normed(step: Step, rows: Tensor) -> Tensor:
    """LayerNorm of rows, its deviation constant: d out = w (d x - mean d x) / std."""
    told = named(step.node)
    axes = tuple(range(-len(told["normalized_shape"]), 0))
    centred = rows - rows.mean(axes, keepdim=True)
    deviation = (centred.detach().square().mean(axes, keepdim=True) + told["eps"]).sqrt()
    steepness = (1 if step.weight is None else step.weight) / deviation
    return straight(step.apply(rows.detach()), steepness, centred)

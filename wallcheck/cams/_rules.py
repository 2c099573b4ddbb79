"""Attribution rules that walk through the head module by module: Rescale (DeepLIFT), LRP-0 and z+.

Rescale and LRP-0 are gradients of a head in which every non-linearity f is replaced by a straight
line: for DeepLIFT the chord from the reference to the input, (f(x) - f(x0)) / (x - x0), for LRP the
ray from the origin, f(x) / x. So contributions are A times such a gradient, and 0 at unseen cells
exactly as the gradient is.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from wallcheck.evidence import Evidence
from wallcheck.models import BlindNet, chain, in_mode
from wallcheck.numerics import ratio

Rule = Callable[[nn.Module, Tensor], Tensor]  # module, rows -> its output, with another slope

AFFINE = (nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
SHAPE = (nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d)
MAXIMUM = (nn.MaxPool2d,)
POINTWISE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Softplus)


def deeplift(ev: Evidence) -> Tensor:
    """C (B, K, h, w): DeepLIFT contributions of A to the logit, Rescale rule, reference A = 0.

    Complete: sum C = y(A) - y(0). The reference runs through the head as one more row of the batch.
    """
    return ev.activations * slope(ev, rescale, with_reference=True)


def slope(ev: Evidence, rule: Rule, with_reference: bool = False) -> Tensor:
    """(B, K, h, w): gradient of the score explained when each module of the head hands it on by `rule`.

    with_reference: an empty map goes along as the last row.
    """
    leaf = ev.activations.detach().requires_grad_()
    with in_mode(ev.net), torch.enable_grad():
        rows = ev.handed(leaf)
        if with_reference:
            rows = torch.cat([rows, torch.zeros_like(rows[:1])])
        for module in chain(ev.net.head):
            rows = rule(module, rows)
        (gradient,) = torch.autograd.grad(ev.explained(rows[: len(leaf)]).sum(), leaf)
    return gradient


def rescale(module: nn.Module, rows: Tensor) -> Tensor:
    """The module's output, whose gradient is the chord from the last row (the reference) to each row."""
    if isinstance(module, nn.Linear):  # the reference apart: it needs no gradient, and one row is a cheap product
        return torch.cat([module(rows[:-1]), module(rows[-1:].detach())])
    if isinstance(module, (*AFFINE, *SHAPE)):
        return module(rows)
    if isinstance(module, POINTWISE):
        return straight(module(rows.detach().clone()), chord(module, rows.detach()), rows)
    if isinstance(module, nn.MaxPool2d):
        return rescaled_max(module, rows)
    raise no_rule(module, "Rescale")


def origin_ray(module: nn.Module, rows: Tensor) -> Tensor:
    """The module's output, whose gradient is f(x) / x, and 0 at x = 0."""
    if isinstance(module, (*AFFINE, *SHAPE, *MAXIMUM)):
        return module(rows)
    if isinstance(module, POINTWISE):
        out = module(rows.detach().clone())
        return straight(out, ratio(out, rows.detach()), rows)
    raise no_rule(module, "LRP")


def straight(value: Tensor, steepness: Tensor, rows: Tensor) -> Tensor:
    """`value`, with d value / d rows = steepness."""
    return value.detach() + steepness * (rows - rows.detach())


def chord(module: nn.Module, rows: Tensor) -> Tensor:
    """(f(x) - f(x0)) / (x - x0) with x0 the last row; f'(x) where x and x0 agree to half their digits.

    There the chord's rounding error, eps / |x - x0|, outgrows the derivative's own, |x - x0|.
    ReLU needs no such care: its chord is 0 or 1, or x / (x - x0) with x and x0 of opposite sign.
    """
    leaf = rows.clone().requires_grad_()
    with torch.enable_grad():
        out = module(leaf.clone())
        (derivative,) = torch.autograd.grad(out.sum(), leaf)
    run = rows - rows[-1:]
    near = run.abs() <= torch.finfo(rows.dtype).eps ** 0.5 * torch.maximum(rows.abs(), rows[-1:].abs())
    return torch.where(near, derivative, ratio(out.detach() - out.detach()[-1:], run))


def rescaled_max(pool: nn.MaxPool2d, rows: Tensor) -> Tensor:
    """Cross-maximum rule: with top = max(out, out0), the winner in x is given top - out0 and the winner in the
    reference out - top (Shrikumar et al. 2017, as in captum). Both chords lie in [0, 1]."""
    out, winner = max_pool2d(
        rows, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True
    )
    flat, out, winner = rows.flatten(2), out.detach(), winner.flatten(2)
    reference, top = flat[-1:].detach().expand_as(flat), torch.maximum(out, out[-1:])
    total = out
    for places, rise in ((winner, top - out[-1:]), (winner[-1:].expand_as(winner), out - top)):
        at = flat.gather(2, places).view_as(out)
        run = at.detach() - reference.gather(2, places).view_as(out)
        total = total + straight(torch.zeros_like(out), ratio(rise, run), at)
    return total


def zplus(ev: Evidence, start: Tensor) -> Tensor:
    """R (B, K, r, c): relevance start (B, D) handed back through the head to the seen cells by the z+ rule."""
    steps, rows = [], ev.handed(ev.activations)
    with in_mode(ev.net), torch.no_grad():
        for module in chain(ev.net.head):
            steps.append((module, rows.clamp(min=0)))
            rows = module(rows.clone())
        for module, rows in reversed(steps):
            start = zplus_step(module, rows, start, ev.chunk(rows[0].numel(), ev.near_mb))
    return start


def zplus_step(module: nn.Module, rows: Tensor, relevance: Tensor, size: int) -> Tensor:
    """R_i = x_i sum_j w+_ij R_j / sum_i' x_i' w+_i'j, no bias; a unit without positive input hands nothing on.

    size: how many rows of a weight to clamp at a time.
    """
    if isinstance(module, nn.Linear):
        total = torch.zeros_like(rows)
        for part, share in zip(module.weight.split(size), relevance.split(size, 1), strict=True):
            positive = part.clamp(min=0)
            total += ratio(share, rows @ positive.T) @ positive
        return rows * total
    if isinstance(module, (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d)):
        leaf = rows.clone().requires_grad_()
        with torch.enable_grad():
            pooled = module(leaf)
        return rows * torch.autograd.grad(pooled, leaf, ratio(relevance, pooled.detach()))[0]
    if isinstance(module, (*SHAPE, nn.ReLU)):
        return relevance.reshape(rows.shape)
    raise no_rule(module, "z+")


def no_rule(module: nn.Module, rule: str) -> ValueError:
    return ValueError(f"there is no {rule} rule for {type(module).__name__}; {HANDED_BACK}, or leave the method out")


def heads_of(*kinds: type[nn.Module]) -> Callable[[BlindNet], str | None]:
    """For Method.refuses: why shares cannot be handed back through this net's head, if it holds other kinds."""

    def refuses(net: BlindNet) -> str | None:
        strange = {type(module).__name__ for module in chain(net.head) if not isinstance(module, kinds)}
        return f"there is no rule for {', '.join(sorted(strange))} in its head; {HANDED_BACK}" if strange else None

    return refuses


HANDED_BACK = (
    "shares are handed back through chains (nn.Sequential) of Conv2d, Linear, pooling, Flatten, Dropout and "
    "point-wise modules; rebuild it from these"
)

"""Attribution rules on a graph: every operation hands on its true output with another slope.

Rescale (DeepLIFT), LRP and their kin are gradients of a network in which each non-linearity is replaced by a straight line, so
one gradient taken through `following.through` is the attribution per unit of input. What nothing leads to keeps a slope of exactly 0.
"""

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.nn.functional import max_pool2d

from wallcheck.graph._nodes import named, placeholder
from wallcheck.graph.following import MAXIMUM, POINTWISE, WEIGHTED, Rule, Step, steps, through
from wallcheck.numerics import ratio


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor, steepness: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(steepness)
        return value.view_as(value)

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[None, None, Tensor]:
        (steepness,) = ctx.saved_tensors
        return None, None, slope * steepness


def straight(value: Tensor, steepness: Tensor, rows: Tensor) -> Tensor:
    """`value`, with d value / d rows = steepness; all shaped alike."""
    return _Straight.apply(value.detach(), steepness.detach(), rows)


def rescale(step: Step, *rows: Tensor) -> Tensor:
    """The step's output, whose gradient is the chord from the last row (the reference) to each row."""
    if step.op == "linear":  # the reference apart: it needs no gradient, and one row is a cheap product
        return torch.cat([step.apply(rows[0][:-1]), step.apply(rows[0][-1:].detach())])
    if step.op in POINTWISE:
        return straight(step.apply(rows[0].detach()), chord(step, rows[0].detach()), rows[0])
    if step.op in MAXIMUM:
        return rescaled_max(step, rows[0])
    return step.apply(*rows)


def chord(step: Step, rows: Tensor) -> Tensor:
    """(f(x) - f(x0)) / (x - x0) with x0 the last row; f'(x) where x and x0 agree to half their digits.

    There the chord's rounding error, eps / |x - x0|, outgrows the derivative's own, |x - x0|.
    ReLU needs no such care: its chord is 0 or 1, or x / (x - x0) with x and x0 of opposite sign.
    """
    if step.op == "relu":
        out, run = rows.clamp(min=0), rows - rows[-1:]
        return torch.where(run == 0, (rows > 0).to(rows.dtype), ratio(out - out[-1:], run))
    leaf = rows.clone().requires_grad_()
    with torch.enable_grad():
        out = step.apply(leaf)
        (derivative,) = torch.autograd.grad(out.sum(), leaf)
    run = rows - rows[-1:]
    near = run.abs() <= torch.finfo(rows.dtype).eps ** 0.5 * torch.maximum(rows.abs(), rows[-1:].abs())
    return torch.where(near, derivative, ratio(out.detach() - out.detach()[-1:], run))


def rescaled_max(step: Step, rows: Tensor) -> Tensor:
    """Cross-maximum rule: with top = max(out, out0), the winner in x is given top - out0 and the winner in the
    reference out - top (Shrikumar et al. 2017, as in captum). Both chords lie in [0, 1]."""
    told = named(step.node)
    window = [told[name] for name in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")]
    window[1] = window[1] or window[0]
    out, winner = max_pool2d(rows, *window, return_indices=True)
    flat, out, winner = rows.flatten(2), out.detach(), winner.flatten(2)
    reference, top = flat[-1:].detach().expand_as(flat), torch.maximum(out, out[-1:])
    total = out
    for places, rise in ((winner, top - out[-1:]), (winner[-1:].expand_as(winner), out - top)):
        at = flat.gather(2, places).view_as(out)
        run = at.detach() - reference.gather(2, places).view_as(out)
        total = total + straight(torch.zeros_like(out), ratio(rise, run), at)
    return total


def origin_ray(step: Step, *rows: Tensor) -> Tensor:
    """The step's output, whose gradient is f(x) / x, and 0 at x = 0: of a ReLU its own gradient."""
    if step.op in POINTWISE and step.op != "relu":
        out = step.apply(rows[0].detach())
        return straight(out, ratio(out, rows[0].detach()), rows[0])
    return step.apply(*rows)


def guided(step: Step, *rows: Tensor) -> Tensor:
    """The gradient, but a ReLU hands back only what is positive."""
    out = step.apply(*rows)
    if step.op == "relu":
        out.register_hook(lambda slope: slope.clamp(min=0))  # on this tensor, not on the model; gone with it
    return out


def damped(strength: float) -> Rule:
    """LRP-epsilon: shares x_i w_ij / (z_j + e_j sign z_j), e_j = strength (sum_i |x_i w_ij| + |b_j|).

    So epsilon has the unit of z: a unit whose inputs cancel to less than that share of their sum is damped.
    """

    def rule(step: Step, *rows: Tensor) -> Tensor:
        if step.op not in WEIGHTED:
            return origin_ray(step, *rows)
        out, mass = step.apply(*rows), step.reweighted(torch.abs)(rows[0].detach().abs())
        value = out.detach()
        return straight(value, ratio(value, mass.mul_(strength).mul_(value.sign()).add_(value)), out)

    return rule


def favouring(gamma: float) -> Rule:
    """LRP-gamma: shares by the weights w + gamma max(w, 0), bias alike; meant for inputs >= 0."""

    def rule(step: Step, *rows: Tensor) -> Tensor:
        if step.op not in WEIGHTED:
            return origin_ray(step, *rows)
        return shared(step, rows[0], step.reweighted(lambda w: w + gamma * w.clamp(min=0))(rows[0]))

    return rule


def alpha_beta(alpha: float) -> Rule:
    """LRP-alpha-beta, beta = alpha - 1: alpha shares among positive contributions less beta shares among negative."""

    def rule(step: Step, *rows: Tensor) -> Tensor:
        if step.op not in WEIGHTED:
            return origin_ray(step, *rows)
        supporting = shared(step, rows[0], contributions(step, rows[0], 1, bias=True))
        return alpha * supporting - (alpha - 1) * shared(step, rows[0], contributions(step, rows[0], -1, bias=True))

    return rule


def positive(step: Step, *rows: Tensor) -> Tensor:
    """z+, excitation backprop: shares among positive contributions, the bias takes none."""
    if step.op not in WEIGHTED:
        return origin_ray(step, *rows)
    return shared(step, rows[0], contributions(step, rows[0], 1, bias=False))


def squared_weights(step: Step, *rows: Tensor) -> Tensor:
    """w^2 rule for pixels: shares w_ij^2 / sum_i w_ij^2 whatever the pixels are; the slope is the relevance itself."""
    unit = torch.ones_like(rows[0]) + (rows[0] - rows[0].detach())
    return shared(step, rows[0], step.reweighted(torch.square, bias=False)(unit))


def shared(step: Step, rows: Tensor, part: Tensor) -> Tensor:
    """The step's output, handed back in proportion to what each input adds to `part`; not at all where part is 0."""
    with torch.no_grad():
        out = step.apply(rows)
    return straight(out, ratio(out, part.detach()), part)


def contributions(step: Step, rows: Tensor, sign: int, bias: bool) -> Tensor:
    """The sum over i of the x_i w_ij of one sign (and of the bias, where it has that sign)."""
    part = step.reweighted(lambda w: sign * (sign * w).clamp(min=0), bias)(rows.clamp(min=0))
    if (rows.detach() >= 0).all():
        return part
    return part + step.reweighted(lambda w: sign * (sign * w).clamp(max=0), bias=False)(rows.clamp(max=0))


# -- shares handed back step by step --------------------------------------------------------------


def zplus(run: GraphModule, rows: Tensor, start: Tensor, size: int) -> Tensor:
    """R, shaped as rows: relevance start (B, D) handed back to what run is given by the z+ rule.

    R_i = x_i sum_j w+_ij R_j / sum_i' x_i' w+_i'j with x clamped at 0, no bias; a unit without positive input hands nothing
    on. size: how many rows of a weight to clamp at a time.
    """
    kept: dict[Node, list[Tensor]] = {}
    made: dict[Node, Step] = {}

    def keep(step: Step, *inputs: Tensor) -> Tensor:
        kept[step.node], made[step.node] = [each.clamp(min=0) for each in inputs], step
        return step.apply(*inputs)

    with torch.no_grad():
        through(run, keep, rows)
    kinds, given = steps(run), placeholder(run.graph)
    relevance = {next(n for n in reversed(run.graph.nodes) if n.op == "output").args[0]: start}
    for node in reversed(list(kinds)):
        if node not in relevance:
            continue
        sources = list(dict.fromkeys(each for each in node.all_input_nodes if each in kinds or each is given))
        for source, found in zip(sources, _handed_back(made[node], kept[node], relevance[node], size), strict=True):
            relevance[source] = relevance[source] + found if source in relevance else found
    return relevance[given]


def _handed_back(step: Step, inputs: list[Tensor], relevance: Tensor, size: int) -> list[Tensor]:
    if step.op == "linear":
        rows, total = inputs[0], torch.zeros_like(inputs[0])
        for part, share in zip(step.weight.split(size), relevance.split(size, -1), strict=True):
            positive = part.clamp(min=0)
            total += ratio(share, rows @ positive.T) @ positive
        return [rows * total]
    if step.op == "relu":
        return [relevance]
    leaves = [
        each.clone().requires_grad_() for each in inputs
    ]  # pools, sums and moves: in proportion to what each adds
    with torch.enable_grad():
        out = step.apply(*leaves)
    slopes = torch.autograd.grad(out, leaves, ratio(relevance, out.detach()))
    return [leaf.detach() * slope for leaf, slope in zip(leaves, slopes, strict=True)]

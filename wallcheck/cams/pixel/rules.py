"""The rules of `_rules` carried on through the features to the pixels, and those that only pixels ask for.

Every rule gives a module's true output another slope, so that one gradient of the logit, taken
through all of them, is the attribution per unit of pixel. A pixel that the head cannot see is on no
path, and its slope is exactly 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from wallcheck.cams._rules import AFFINE, HANDED_BACK, MAXIMUM, SHAPE, Rule, origin_ray, straight
from wallcheck.evidence import Evidence
from wallcheck.models import BlindNet, chain, in_mode
from wallcheck.numerics import ratio

WEIGHTED = (nn.Linear, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
RULED = (*AFFINE, *SHAPE, *MAXIMUM, nn.ReLU)


def unruled(net: BlindNet) -> str | None:
    """For Method.refuses: why rules cannot be followed through this net."""
    modules = (*chain(net.features), *chain(net.head))
    strange = {type(module).__name__ for module in modules if not isinstance(module, RULED)}
    return f"there is no rule for {', '.join(sorted(strange))}; {HANDED_BACK}" if strange else None


def unexcited(net: BlindNet) -> str | None:
    """For Method.refuses: as `unruled`; excitation backprop starts at a last Linear layer, and probabilities have no
    rule through a norm, whose shift is a bias of either sign."""
    modules = (*chain(net.features), *chain(net.head))
    if norms := {type(module).__name__ for module in modules if isinstance(module, NORMS)}:
        return f"it holds {', '.join(sorted(norms))}; fold norms into the layers before them"
    last = modules[-1]
    return unruled(net) or (None if isinstance(last, nn.Linear) else f"its head ends in {type(last).__name__}")


def image_slope(ev: Evidence, rule: Rule, *, with_reference: bool = False, first: Rule | None = None) -> Tensor:
    """(B, 3, H, W): slope of the score explained in each pixel when each module hands it on by `rule`.

    with_reference: a black image (0 after normalisation) goes along as the last row.
    first: another rule for the first module.
    """
    leaf = ev.images.detach().requires_grad_()
    with in_mode(ev.net), torch.enable_grad():
        rows = torch.cat([leaf, torch.zeros_like(leaf[:1])]) if with_reference else leaf
        rows = through(chain(ev.net.head), seen_cells(ev.net, rows, rule, first), rule)
        (slope,) = torch.autograd.grad(ev.explained_here(rows[: len(leaf)]).sum(), leaf)
    return slope


def excitation(ev: Evidence, start: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """P (B, 3, H, W): probabilities handed back from start(w, v), their slope in v (B, n), what the last layer reads;
    w (B, n) are its weights of the class."""
    *before, last = chain(ev.net.head)
    leaf = ev.images.detach().requires_grad_()
    with in_mode(ev.net), torch.enable_grad():
        top = through(before, seen_cells(ev.net, leaf, positive), positive)
        (slope,) = torch.autograd.grad(top, leaf, start(last.weight.detach()[ev.targets], top.detach()))
    return ev.images * slope


def seen_cells(net: BlindNet, images: Tensor, rule: Rule, first: Rule | None = None) -> Tensor:
    """What the head reads of images, with slopes by the rule; only the part of them that it can see is computed."""
    return net._hand_over(through(chain(net.features), images[(..., *net.visible)], rule, first), net._first)


def through(modules: list[nn.Module], rows: Tensor, rule: Rule, first: Rule | None = None) -> Tensor:
    """What the modules make of rows, with slopes by the rule."""
    for number, module in enumerate(modules):
        rows = (first if first and number == 0 else rule)(module, rows)
    return rows


# -- rules ----------------------------------------------------------------------------------------


def guided(module: nn.Module, rows: Tensor) -> Tensor:
    """The gradient, but a ReLU hands back only what is positive."""
    if not isinstance(module, nn.ReLU):
        return module(rows)
    out = rows.relu()
    out.register_hook(lambda slope: slope.clamp(min=0))  # on this tensor, not on the model; gone with it
    return out


def damped(strength: float) -> Rule:
    """LRP-epsilon: shares x_i w_ij / (z_j + e_j sign z_j), e_j = strength (sum_i |x_i w_ij| + |b_j|).

    So epsilon has the unit of z: a unit whose inputs cancel to less than that share of their sum is damped.
    """

    def rule(module: nn.Module, rows: Tensor) -> Tensor:
        if not isinstance(module, WEIGHTED):
            return origin_ray(module, rows)
        out, mass = module(rows), reweighted(module, torch.abs)(rows.detach().abs())
        return straight(out, ratio(out, out + strength * mass * out.sign()).detach(), out)

    return rule


def favouring(gamma: float) -> Rule:
    """LRP-gamma: shares by the weights w + gamma max(w, 0), bias alike; meant for inputs >= 0."""

    def rule(module: nn.Module, rows: Tensor) -> Tensor:
        if not isinstance(module, WEIGHTED):
            return origin_ray(module, rows)
        return shared(module, rows, reweighted(module, lambda w: w + gamma * w.clamp(min=0))(rows))

    return rule


def alpha_beta(alpha: float) -> Rule:
    """LRP-alpha-beta, beta = alpha - 1: alpha shares among positive contributions less beta shares among negative."""

    def rule(module: nn.Module, rows: Tensor) -> Tensor:
        if not isinstance(module, WEIGHTED):
            return origin_ray(module, rows)
        supporting = shared(module, rows, contributions(module, rows, 1, bias=True))
        return alpha * supporting - (alpha - 1) * shared(module, rows, contributions(module, rows, -1, bias=True))

    return rule


def positive(module: nn.Module, rows: Tensor) -> Tensor:
    """z+, excitation backprop: shares among positive contributions, the bias takes none."""
    if not isinstance(module, WEIGHTED):
        return origin_ray(module, rows)
    return shared(module, rows, contributions(module, rows, 1, bias=False))


def squared_weights(module: nn.Module, rows: Tensor) -> Tensor:
    """w^2 rule for pixels: shares w_ij^2 / sum_i w_ij^2 whatever the pixels are; the slope is the relevance itself."""
    unit = torch.ones_like(rows) + (rows - rows.detach())
    return shared(module, rows, reweighted(module, torch.square, bias=False)(unit))


def shared(module: nn.Module, rows: Tensor, part: Tensor) -> Tensor:
    """The module's output, handed back in proportion to what each input adds to `part`; not at all where part is 0."""
    with torch.no_grad():
        out = module(rows)
    return straight(out, ratio(out, part.detach()), part)


def contributions(module: nn.Module, rows: Tensor, sign: int, bias: bool) -> Tensor:
    """The sum over i of the x_i w_ij of one sign (and of the bias, where it has that sign)."""
    part = reweighted(module, lambda w: sign * (sign * w).clamp(min=0), bias)(rows.clamp(min=0))
    if (rows.detach() >= 0).all():
        return part
    return part + reweighted(module, lambda w: sign * (sign * w).clamp(max=0), bias=False)(rows.clamp(max=0))


def reweighted(module: nn.Module, change: Callable[[Tensor], Tensor], bias: bool = True) -> Callable[[Tensor], Tensor]:
    """The module with changed weights; the module itself is left alone. bias=False: without its bias."""
    changed = {
        name: change(value.detach()) if bias or name != "bias" else torch.zeros_like(value)
        for name, value in module.named_parameters()
    }
    return lambda rows: functional_call(module, changed, (rows,))

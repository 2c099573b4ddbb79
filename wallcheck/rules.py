"""Backward walks with a rule per step: one engine for guided backprop, DeepLIFT, LRP and excitation backprop.

A network is a list of steps: the leaves of its Sequentials and, between features and head, the wall.
`walk` runs the steps forward, remembers what each was given, and carries a quantity (a gradient, a
multiplier, a relevance, a probability) back through them. A rule says how one step hands back the
quantity of its output to its input. No module is changed and no hook is set.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from wallcheck.head import chain
from wallcheck.models import BlindNet
from wallcheck.numerics import ratio

Step = Callable[[Tensor], Tensor]
Rule = Callable[[Step, Tensor, Tensor], Tensor]  # step, its input, quantity of its output -> quantity of its input

LINEAR = (nn.Conv2d, nn.Linear)
POOLS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
MOVING = (nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d)


def steps_of(net: BlindNet) -> list[Step]:
    """From images to logits; the features run on whole images."""
    return [*chain(net.features), *head_steps(net)]


def head_steps(net: BlindNet) -> list[Step]:
    """From activations (B, K, h, w) to logits: the wall, then the head."""
    return [partial(net._hand_over, first=(0, 0)), *chain(net.head)]


def walk(steps: Sequence[Step], inputs: Tensor, start: Callable[[Tensor], Tensor], rule: Rule) -> Tensor:
    """Carry start(outputs) back to the inputs, step by step, by the rule.

    >>> double = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(double.weight, 2.0)
    >>> walk([double, nn.ReLU()], torch.tensor([[3.0]]), torch.ones_like, layerwise(pull_back, relu=pull_back))
    tensor([[2.]])
    """
    given = [inputs.detach()]
    with torch.no_grad():
        for step in steps:
            given.append(torch.relu(given[-1]) if isinstance(step, nn.ReLU) else step(given[-1]))
    quantity = start(given.pop())
    for step in reversed(steps):
        quantity = rule(step, given.pop(), quantity)
    return quantity


def layerwise(linear: Rule, *, relu: Rule, max_pool: Rule | None = None, mean_pool: Rule | None = None) -> Rule:
    """One rule out of a rule per kind of step; steps that only move values hand back along the way they came.

    Max-pools hand back to the winner and mean-pools follow the linear rule unless told otherwise.
    Raises ValueError for a kind of step none of these knows.
    """
    kinds = ((LINEAR, linear), (nn.ReLU, relu), (nn.MaxPool2d, max_pool or pull_back), (POOLS, mean_pool or linear))

    def rule(step: Step, x: Tensor, quantity: Tensor) -> Tensor:
        for kind, of_kind in (*kinds, (MOVING, pull_back)):
            if isinstance(step, kind):
                return of_kind(step, x, quantity)
        if not isinstance(step, nn.Module):
            return pull_back(step, x, quantity)
        raise ValueError(
            f"there is no backward rule for {type(step).__name__}; rules know Conv2d, Linear, ReLU, MaxPool2d, "
            f"AvgPool2d, AdaptiveAvgPool2d, Flatten and Dropout in Sequentials; fold batch-norms into convolutions"
        )

    return rule


# -- the rules ------------------------------------------------------------------------------------


def pass_on(step: Step, x: Tensor, quantity: Tensor) -> Tensor:
    """The output's quantity is the input's: what LRP and excitation backprop do at a ReLU."""
    return quantity


def pull_back(step: Step, x: Tensor, quantity: Tensor) -> Tensor:
    """The vector-Jacobian product: what the gradient does at every step."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        (back,) = torch.autograd.grad(torch.relu(leaf) if isinstance(step, nn.ReLU) else step(leaf), leaf, quantity)
    return back


def guided(step: Step, x: Tensor, quantity: Tensor) -> Tensor:
    """At a ReLU: the gradient where both the input and the gradient are positive, else 0."""
    return torch.where(x > 0, quantity.clamp(min=0), 0)


def proportional(step: Step, x: Tensor, quantity: Tensor) -> Tensor:
    """R_i = sum_j x_i w_ij R_j / z_j (LRP-0), the bias keeping its share; 0 where z_j is 0."""
    with torch.no_grad():
        shares = ratio(quantity, step(x))
    return x * pull_back(step, x, shares)


def damped(strength: float) -> Rule:
    """LRP-epsilon: R_i = sum_j x_i w_ij R_j / (z_j + e_j sign z_j), e_j = strength (sum_i |x_i w_ij| + |b_j|).

    So epsilon has the unit of z, and a unit whose inputs cancel to less than that share of their
    sum is damped. 0 where z_j is 0.
    """

    def rule(step: Step, x: Tensor, quantity: Tensor) -> Tensor:
        with torch.no_grad():
            z, mass = step(x), reweighted(step, torch.abs)(x.abs())
        return x * pull_back(step, x, ratio(quantity, z + strength * mass * z.sign()))

    return rule


def favouring(gamma: float) -> Rule:
    """LRP-gamma: `proportional` with weights and bias w + gamma max(w, 0); meant for inputs >= 0."""

    def rule(step: Step, x: Tensor, quantity: Tensor) -> Tensor:
        return proportional(reweighted(step, lambda w: w + gamma * w.clamp(min=0)), x, quantity)

    return rule


def positive_part(step: Step, x: Tensor, quantity: Tensor, *, sign: int = 1, bias: bool = False) -> Tensor:
    """Each unit's quantity shared among its positive contributions x_i w_ij > 0 (z+; excitation backprop).

    sign -1: among its negative ones. bias: a bias of that sign takes its share too. A unit without such
    contributions hands nothing back.
    """
    up = reweighted(step, lambda w: (sign * w).clamp(min=0), bias=bias)
    down = reweighted(step, lambda w: (sign * w).clamp(max=0), bias=False)
    above, below = x.clamp(min=0), x.clamp(max=0)
    with torch.no_grad():
        shares = ratio(quantity, up(above) + down(below))
    back = above * pull_back(up, above, shares)
    return back + below * pull_back(down, below, shares) if (below < 0).any() else back


def alpha_beta(alpha: float) -> Rule:
    """LRP-alpha-beta, beta = alpha - 1: alpha times the positive contributions' shares less beta times the negative ones'."""

    def rule(step: Step, x: Tensor, quantity: Tensor) -> Tensor:
        supporting = positive_part(step, x, quantity, sign=1, bias=True)
        opposing = positive_part(step, x, quantity, sign=-1, bias=True)
        return alpha * supporting - (alpha - 1) * opposing

    return rule


def squared_weights(step: Step, x: Tensor, quantity: Tensor) -> Tensor:
    """w^2 rule for pixels: shares w_ij^2 / sum_i w_ij^2, whatever the input is; padding takes no share."""
    squared = reweighted(step, torch.square, bias=False)
    with torch.no_grad():
        shares = ratio(quantity, squared(torch.ones_like(x)))
    return pull_back(squared, x, shares)


# -- DeepLIFT: the input is images and baselines one after the other in one batch -------------------


def rescale_linear(step: Step, x: Tensor, quantity: Tensor) -> Tensor:
    """Multipliers through anything linear, flattening and the wall included."""
    return pull_back(step, x.chunk(2)[0], quantity)


def rescale_relu(step: Step, x: Tensor, quantity: Tensor) -> Tensor:
    """Rescale: multiplier (relu x - relu x0) / (x - x0); the gradient where x = x0."""
    one, base = x.chunk(2)
    slope = torch.where(one == base, (one > 0).to(x.dtype), ratio(one.relu() - base.relu(), one - base))
    return quantity * slope


def rescale_max_pool(step: Step, x: Tensor, quantity: Tensor) -> Tensor:
    """A rise of the maximum goes to the image's winner, a fall to the baseline's winner: nothing is lost."""
    one, base = x.chunk(2)
    with torch.no_grad():
        rise = step(one) - step(base)
    shares = pull_back(step, one, quantity * rise.clamp(min=0)) + pull_back(step, base, quantity * rise.clamp(max=0))
    return ratio(shares, one - base)


def rescale(step: Step, x: Tensor, quantity: Tensor) -> Tensor:
    """The DeepLIFT Rescale rule for every kind of step."""
    if isinstance(step, nn.ReLU):
        return rescale_relu(step, x, quantity)
    if isinstance(step, nn.MaxPool2d):
        return rescale_max_pool(step, x, quantity)
    if isinstance(step, (*LINEAR, *POOLS, *MOVING)) or not isinstance(step, nn.Module):
        return rescale_linear(step, x, quantity)
    raise ValueError(f"DeepLIFT's Rescale rule is not defined here for {type(step).__name__}; use Conv2d, Linear, ReLU")


def reweighted(step: Step, change: Callable[[Tensor], Tensor], *, bias: bool = True) -> Step:
    """The step with changed weights; the module itself is left alone. bias=False: without its bias."""
    changed = {
        name: change(value.detach()) if bias or name != "bias" else torch.zeros_like(value)
        for name, value in step.named_parameters()
    }
    return lambda x: functional_call(step, changed, (x,))

"""Attribution rules on a graph: every operation hands on its true output with another slope.

Rescale (DeepLIFT), LRP and their kin are gradients of a network in which each non-linearity is replaced by a straight line, so
one gradient taken through `through` is the attribution per unit of input. What nothing leads to keeps a slope of exactly 0.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg
from torch.nn.functional import max_pool2d

from wallcheck.graph._dependence import MOVES
from wallcheck.graph._nodes import data_nodes, named, op_of, placeholder
from wallcheck.graph._pointwise import CASTS
from wallcheck.numerics import ratio

WEIGHTED = ("linear", "conv2d")
POOLS = ("avg_pool2d", "adaptive_avg_pool2d", "mean", "sum")
SUMS = ("add", "sub")
SHAPE = tuple(
    op for op in (*MOVES, *CASTS, "pad", "constant_pad_nd") if op not in ("copy", "slice_scatter", "select_scatter")
)
NORMS = ("batch_norm",)
HOLDING = (*WEIGHTED, "layer_norm")  # operations whose steps hold weight and bias
MAXIMUM = ("max_pool2d",)
POINTWISE = (
    "relu",
    "leaky_relu",
    "elu",
    "celu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "sigmoid",
    "tanh",
    "softplus",
    "hardtanh",
    "relu6",
    "hardswish",
    "hardsigmoid",
)
AFFINE = (*WEIGHTED, *POOLS, *SUMS, *NORMS, "scaling", "selection")
REASONS = {
    "mul": "a product of two values that both depend on the image has no agreed rule",
    "layer_norm": "its deviation depends on all it normalises",
    "scaled_dot_product_attention": "attention multiplies values that all depend on the image",
    "softmax": "its shares depend on each other",
}
INSTEAD = "leave the method out, or cut the network at a later layer"


@dataclass(frozen=True)
class Step:
    """One operation of a graph: `op`, and `apply(*inputs)` for other values of what depends on the input."""

    node: Node
    op: str
    apply: Callable[..., Tensor]
    weight: Tensor | None = None
    bias: Tensor | None = None

    def reweighted(self, change: Callable[[Tensor], Tensor], bias: bool = True) -> Callable[[Tensor], Tensor]:
        """The step with changed weights (and bias, or none), on an input alone."""
        weight, offset = change(self.weight), change(self.bias) if bias and self.bias is not None else None
        rest = self.node.args[3:]
        return lambda rows: self.node.target(rows, weight, offset, *rest, **self.node.kwargs)


Rule = Callable[..., Tensor]  # step, *inputs -> its output, with another slope


def kind(node: Node, dependent: Iterable[Node]) -> str:
    """The word that rules know an operation by; products by a constant are "scaling", constant selections "selection"."""
    op, inputs = op_of(node), [each for each in node.all_input_nodes if each in dependent]
    if op in ("mul", "div") and len(inputs) == 1 and node.args[0] is inputs[0]:
        return "scaling"
    if op == "mul" and len(inputs) == 1:
        return "scaling"
    if (
        op in ("where", "masked_fill")
        and len(inputs) == 1
        and inputs[0] is not named(node).get("condition", named(node).get("mask"))
    ):
        return "selection"
    return op


def steps(run: GraphModule) -> dict[Node, str]:
    """Every operation on what depends on the inputs, with its kind."""
    inputs = [node for node in run.graph.nodes if node.op == "placeholder"]
    data = data_nodes(run.graph, inputs)
    return {node: kind(node, data) for node in data if node.op == "call_function"}


def lacking(run: GraphModule, known: Sequence[str]) -> str | None:
    """Why rules that know these kinds of operation cannot be followed through run; None where they can."""
    strange = sorted({word for word in steps(run).values() if word not in known})
    if not strange:
        return None
    reasons = [f"{word} ({REASONS[word]})" if word in REASONS else word for word in strange]
    return f"there is no rule for {', '.join(reasons)}; {INSTEAD}"


def through(run: GraphModule, rule: Rule, *rows: Tensor, first: Rule | None = None) -> Tensor:
    """What run makes of rows, each operation by the rule. first: another rule for the operations on the input itself."""
    return _followed(run, rule, rows, (), first)[0]


def followed(run: GraphModule, rule: Rule, rows: Tensor, wanted: Sequence[Node]) -> tuple[Tensor, list[Tensor]]:
    """What run makes of rows, each operation by the rule, and the values of the nodes wanted on the way."""
    return _followed(run, rule, (rows,), wanted)


def plain(step: "Step", *rows: Tensor) -> Tensor:
    """Each operation as it is."""
    return step.apply(*rows)


def _followed(
    run: GraphModule, rule: Rule, rows: Sequence[Tensor], wanted: Sequence[Node], first: Rule | None = None
) -> tuple[Tensor, list[Tensor]]:
    plan = plan_of(run)
    env = dict(zip(plan.inputs, rows, strict=True))
    opening = plan.opening if first else ()
    for node in run.graph.nodes:
        if node.op == "output":
            return env[node.args[0]], [env[each] for each in wanted]
        if node.op == "get_attr":
            env[node] = getattr(run, node.target)
        elif node in plan.kinds:
            sources = plan.sources[node]
            step = step_of(run, node, plan.kinds[node], env, sources)
            env[node] = (first if node in opening else rule)(step, *(env[each] for each in sources))
        elif node.op == "call_function":
            arguments, options = map_arg((node.args, node.kwargs), lambda each: env[each])
            env[node] = node.target(*arguments, **options)
    raise ValueError("the graph has no output")


@dataclass(frozen=True)
class Plan:
    """What following a graph asks of its text: its inputs, the kind and the sources of every operation, those on the input."""

    inputs: list[Node]
    kinds: dict[Node, str]
    sources: dict[Node, list[Node]]
    opening: set[Node]


def plan_of(run: GraphModule) -> Plan:
    """Found out once for each graph, and kept with it."""
    if "plan" not in run.meta:
        inputs = [node for node in run.graph.nodes if node.op == "placeholder"]
        kinds, known = steps(run), set(inputs)
        sources = {
            node: list(dict.fromkeys(each for each in node.all_input_nodes if each in kinds or each in known))
            for node in kinds
        }
        run.meta["plan"] = Plan(inputs, kinds, sources, _opening(run))
    return run.meta["plan"]


def step_of(run: GraphModule, node: Node, word: str, env: dict, sources: Sequence[Node]) -> Step:
    def apply(*values: Tensor) -> Tensor:
        given = dict(zip(sources, values, strict=True))
        arguments, options = map_arg((node.args, node.kwargs), lambda each: given.get(each, env.get(each)))
        return node.target(*arguments, **options)

    held = {}
    if word in HOLDING:
        told = named(node)
        held = {name: env.get(told[name]) if isinstance(told[name], Node) else None for name in ("weight", "bias")}
    return Step(node, word, apply, **held)


def _opening(run: GraphModule) -> set[Node]:
    """The operations on the input; what only moves or casts it is passed over."""
    found, todo = set(), [placeholder(run.graph)]
    while todo:
        for user in todo.pop().users:
            if op_of(user) in (*MOVES, *CASTS):
                todo.append(user)
            elif user.op == "call_function" and op_of(user) != "sym_size":
                found.add(user)
    return found


# -- slopes ---------------------------------------------------------------------------------------


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
    """The step's output, whose gradient is f(x) / x, and 0 at x = 0."""
    if step.op in POINTWISE:
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

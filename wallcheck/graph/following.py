"""A graph followed operation by operation, each by a rule: what rules know an operation by, and what they are given.

A rule takes a step and the values it is given, and makes what is handed on. What does not depend on the input is computed as it is.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from wallcheck.graph._dependence import MOVES
from wallcheck.graph._nodes import data_nodes, named, op_of, placeholder
from wallcheck.graph._pointwise import CASTS

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
    strange = sorted({word for word in plan_of(run).kinds.values() if word not in known})
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
            step = step_of(node, plan, env)
            env[node] = (first if node in opening else rule)(step, *(env[each] for each in sources))
        elif node.op == "call_function":
            arguments, options = map_arg((node.args, node.kwargs), lambda each: env[each])
            env[node] = node.target(*arguments, **options)
    raise ValueError("the graph has no output")


@dataclass(frozen=True)
class Plan:
    """What following a graph asks of its text: its inputs, the kind and the sources of every operation, where weight and bias of
    those that have them stand, and those on the input."""

    graph: Graph
    inputs: list[Node]
    kinds: dict[Node, str]
    sources: dict[Node, list[Node]]
    held: dict[Node, dict[str, Node]]
    opening: set[Node]


def plan_of(run: GraphModule) -> Plan:
    """Found out once for each graph, and kept with it; a copy takes what is kept along, but has a graph of its own."""
    if "plan" not in run.meta or run.meta["plan"].graph is not run.graph:
        inputs = [node for node in run.graph.nodes if node.op == "placeholder"]
        kinds, known = steps(run), set(inputs)
        sources = {
            node: list(dict.fromkeys(each for each in node.all_input_nodes if each in kinds or each in known))
            for node in kinds
        }
        held = {node: _held(node) for node, word in kinds.items() if word in HOLDING}
        run.meta["plan"] = Plan(run.graph, inputs, kinds, sources, held, _opening(run))
    return run.meta["plan"]


def _held(node: Node) -> dict[str, Node]:
    told = named(node)
    return {name: told[name] for name in ("weight", "bias") if isinstance(told[name], Node)}


def step_of(node: Node, plan: Plan, env: dict) -> Step:
    sources = plan.sources[node]

    def apply(*values: Tensor) -> Tensor:
        given = dict(zip(sources, values, strict=True))
        arguments, options = map_arg((node.args, node.kwargs), lambda each: given.get(each, env.get(each)))
        return node.target(*arguments, **options)

    held = {name: env.get(at) for name, at in plan.held.get(node, {}).items()}
    return Step(node, plan.kinds[node], apply, **held)


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

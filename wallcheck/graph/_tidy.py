"""A traced graph in its plainest form: identities left out, batch norms in one form, half precision as float32, constants folded."""

import torch
from torch import Tensor
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Interpreter, Node

from wallcheck.graph._nodes import GETITEM, data_nodes, named, op_of, placeholder

HALF = (torch.float16, torch.bfloat16)
NOTHING = ("dropout", "alias", "detach", "lift_fresh_copy", "feature_dropout", "alpha_dropout")
ASSERTIONS = ("_assert", "sym_constrain")  # of what the tracing knows already


def tidied(run: GraphModule) -> None:
    """Identities left out, batch norms in one form, what depends on no image computed once."""
    for node in list(run.graph.nodes):
        _in_full_precision(node)
        if op_of(node).startswith(ASSERTIONS):
            run.graph.erase_node(node)
        elif (op_of(node) in NOTHING and not named(node).get("train")) or (op_of(node) == "slice" and _is_whole(node)):
            node.replace_all_uses_with(node.args[0])
            run.graph.erase_node(node)  # dead code elimination would keep what might draw by chance
        elif op_of(node) == "_native_batch_norm_legit_no_training":
            _one_form_of_norm(run.graph, node)
    run.graph.eliminate_dead_code()
    _fold(run)
    run.graph.lint()
    run.recompile()


def _in_full_precision(node: Node) -> None:
    """Casts to half precision become casts to float32: a half net is run on its own weights in float32."""
    node.args = tuple(torch.float32 if isinstance(a, torch.dtype) and a in HALF else a for a in node.args)
    node.kwargs = {k: torch.float32 if isinstance(v, torch.dtype) and v in HALF else v for k, v in node.kwargs.items()}


def _is_whole(node: Node) -> bool:
    told = named(node)
    length = node.args[0].meta["val"].shape[told["dim"]]
    whole = told["end"] is None or (isinstance(told["end"], int) and told["end"] >= 2**31)
    whole = whole or (isinstance(length, int) and isinstance(told["end"], int) and told["end"] >= length)
    return told["start"] in (None, 0) and told["step"] == 1 and whole


def _one_form_of_norm(graph: FxGraph, node: Node) -> None:
    x, weight, bias, mean, variance, momentum, eps = node.args
    with graph.inserting_before(node):
        made = graph.call_function(
            torch.ops.aten.batch_norm.default, (x, weight, bias, mean, variance, False, momentum, eps, False)
        )
    for user in list(node.users):
        if user.target is GETITEM and user.args[1] == 0:
            made.meta = dict(user.meta)
            user.replace_all_uses_with(made)


def _fold(run: GraphModule) -> None:
    """Nodes that need neither images nor their batch size become tensors."""
    graph = run.graph
    dependent = set(data_nodes(graph, [placeholder(graph)]))
    for node in graph.nodes:
        if any(each in dependent for each in node.all_input_nodes):
            dependent.add(node)
    frozen = [n for n in graph.nodes if n.op == "call_function" and n not in dependent and "val" in n.meta]
    wanted = [n for n in frozen if any(user in dependent or user.op == "output" for user in n.users)]
    if not wanted:
        return
    values = _Constants(run).of(frozen)
    for node in wanted:
        if not isinstance(values[node], Tensor):
            continue
        run.register_buffer(f"folded_{node.name}", values[node])
        with graph.inserting_before(node):
            made = graph.get_attr(f"folded_{node.name}")
        made.meta = dict(node.meta)
        node.replace_all_uses_with(made)
    graph.eliminate_dead_code()


class _Constants(Interpreter):
    """Values of nodes that depend on no input."""

    def of(self, nodes: list[Node]) -> dict[Node, object]:
        self.env = {}
        with torch.no_grad():
            for node in self.module.graph.nodes:
                if node.op == "get_attr" or node in nodes:
                    self.env[node] = self.run_node(node)
        return {node: self.env[node] for node in nodes}

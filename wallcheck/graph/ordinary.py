"""The blind graph as an ordinary module for other libraries: modules to hook, a target layer, shared values.

Whatever a library sets on it - hooks, modes, gradients - is the module's own; its weights share the network's values.
"""

import torch
from torch import Tensor, nn
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Node

from wallcheck.graph._nodes import copied, lays_out, named, op_of, path_of
from wallcheck.graph._texts import without_texts
from wallcheck.graph.cut import Form
from wallcheck.graph.walls import Walled


class Cells(nn.Module):
    """The target layer as a map (B, K, h, w), whatever form its value has."""

    def __init__(self, form: Form):
        super().__init__()
        self.form = form

    def forward(self, value: Tensor) -> Tensor:
        return self.form.cells(value)


class Value(nn.Module):
    """The layer's own form again, prefix tokens from the value itself."""

    def __init__(self, form: Form):
        super().__init__()
        self.form = form

    def forward(self, cells: Tensor, value: Tensor) -> Tensor:
        return self.form.value(cells, self.form.rest(value))


@without_texts()
def ordinary(walled: Walled) -> GraphModule:
    """The whole walled network as modules; `target` is its target layer."""
    run, graph, known, root = walled.graph.run, FxGraph(), {}, nn.Module()
    for name, tensor in run.named_buffers():
        root.register_buffer(name, tensor.detach())
    for node in run.graph.nodes:
        module = _module_of(run, node)
        if node.op == "output":
            graph.output(known[walled.graph.logits])
        elif module is None:
            copied([node], graph, known, layouts=lays_out(run))
        else:
            name = _free(root, path_of(node).replace(".", "_") or node.name)
            root.add_module(name, module)
            known[node] = graph.call_module(name, (known[node.args[0]],))
        if node is walled.layer.node:
            known[node] = _target(graph, root, known[node], walled.layer.form)
    for node in graph.nodes:
        node.meta = {}  # what tracing left there cannot be copied, and libraries copy models
    made = GraphModule(root, graph, "Ordinary")
    made.graph.eliminate_dead_code()  # it asks the modules, so they come first
    made.recompile()
    return made.eval()


def _target(graph: FxGraph, root: nn.Module, value: Node, form: Form) -> Node:
    root.add_module("target", nn.Identity())
    if form.axes == "map":
        return graph.call_module("target", (value,))
    root.add_module("cells", Cells(form))
    root.add_module("value", Value(form))
    cells = graph.call_module("target", (graph.call_module("cells", (value,)),))
    return graph.call_module("value", (cells, value))


def _free(root: nn.Module, name: str) -> str:
    number, found = 0, name
    while hasattr(root, found):
        number, found = number + 1, f"{name}_{number + 1}"
    return found


def _module_of(run: GraphModule, node: Node) -> nn.Module | None:
    """The module of torch that does what the node does; None where there is none that libraries know."""
    told, op = named(node), op_of(node)
    held = {name: getattr(run, v.target) for name, v in told.items() if isinstance(v, Node) and v.op == "get_attr"}
    if op == "relu":
        return nn.ReLU()
    if op in ("conv2d", "linear") and isinstance(told["weight"], Node) and told["weight"].op == "get_attr":
        return _weighted(op, told, held)
    if op == "max_pool2d":
        return nn.MaxPool2d(
            told["kernel_size"], told["stride"] or None, told["padding"], told["dilation"], ceil_mode=told["ceil_mode"]
        )
    if op == "avg_pool2d":
        return nn.AvgPool2d(
            told["kernel_size"], told["stride"] or None, told["padding"], told["ceil_mode"], told["count_include_pad"]
        )
    if op == "adaptive_avg_pool2d":
        return nn.AdaptiveAvgPool2d(tuple(told["output_size"]))
    if op == "flatten":
        return nn.Flatten(told["start_dim"], told["end_dim"])
    return None


def _weighted(op: str, told: dict, held: dict) -> nn.Module:
    weight, bias = held["weight"], held.get("bias")
    with torch.device("meta"):
        if op == "linear":
            made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
        else:
            shape = tuple(weight.shape[2:]), told["stride"], told["padding"], told["dilation"]
            shape = [tuple(value) if isinstance(value, (list, tuple)) else value for value in shape]
            made = nn.Conv2d(
                weight.shape[1] * told["groups"], weight.shape[0], *shape, told["groups"], bias is not None
            )
    made.weight = nn.Parameter(weight.detach())
    made.bias = None if bias is None else nn.Parameter(bias.detach())
    return made

"""Small questions to a node of a graph: which operation, which module, which line; and moves of nodes between graphs."""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import nn
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Node

from wallcheck.graph._texts import without_texts


def op_of(node: Node) -> str:
    """The name of one of torch's operations, "conv2d"; of a library's own with its namespace, "mine::conv2d", for it may do
    something else; "" for what calls no operation."""
    if node.op != "call_function":
        return ""
    schema = getattr(node.target, "_schema", None)
    return schema.name.removeprefix("aten::") if schema else node.target.__name__


def named(node: Node) -> dict:
    """The node's arguments by the operation's own names, defaults filled in; empty for operations of Python."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {}
    found = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
    names = [argument.name for argument in schema.arguments]
    return found | dict(zip(names, node.args, strict=False)) | node.kwargs


def path_of(node: Node) -> str:
    """The innermost module that the node was traced in, "layer4.1.conv2"; "" for the network itself."""
    paths = paths_of(node)
    return paths[-1] if paths else ""


def paths_of(node: Node) -> list[str]:
    """The modules around the node, outermost first, without the network itself."""
    stack = node.meta.get("nn_module_stack") or {}
    return [path for path, _ in stack.values() if path]


def call_of(node: Node, path: str) -> int:
    """In which of the calls of a module, counted from 0, the node was traced: torch names the stack's second "features@1"."""
    key = next(key for key, (each, _) in node.meta["nn_module_stack"].items() if each == path)
    return int(key.rpartition("@")[2]) if "@" in key else 0


def where(node: Node) -> str:
    """Module and operation, for people: "layer4.1.conv2: conv2d"."""
    return f"{path_of(node) or 'the network itself'}: {op_of(node) or node.name}"


def is_shape(node: Node) -> bool:
    """Does the node give a number made of sizes, not a tensor?"""
    value = node.meta.get("val")
    return isinstance(value, (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool))


def data_nodes(graph: FxGraph, sources: Iterable[Node]) -> dict[Node, None]:
    """Nodes whose values (not only whose sizes) may depend on the values of `sources`, in order."""
    found = dict.fromkeys(sources)
    for node in graph.nodes:
        if any(each in found for each in node.all_input_nodes) and not is_shape(node):
            found[node] = None
    return found


def placeholder(graph: FxGraph) -> Node:
    """The images."""
    return next(node for node in graph.nodes if node.op == "placeholder")


def output(graph: FxGraph) -> Node:
    return next(node for node in reversed(graph.nodes) if node.op == "output")


def logits_node(graph: FxGraph) -> Node:
    return output(graph).args[0]


def copied(
    nodes: Iterable[Node],
    into: FxGraph,
    known: dict[Node, Node],
    renamed: Callable[[str], str] = str,
    layouts: bool = True,
) -> None:
    """Copy nodes in order into another graph; `known` maps what they refer to and grows by what is copied.

    renamed: of the tensors a get_attr names. layouts: whether what only puts channels last is copied, see `lays_out`.
    """
    for node in nodes:
        if node in known:
            continue
        if not layouts and is_layout(node):
            known[node] = known[node.args[0]]
            continue
        made = into.node_copy(node, lambda each: known[each])
        if node.op == "get_attr":
            made.target = renamed(node.target)
        known[node] = made


def is_layout(node: Node) -> bool:
    """Does the node put the images' channels last in memory? It changes no value, and what follows was written for either."""
    if op_of(node) != "contiguous" or node.args[0].op != "placeholder":
        return False
    return named(node)["memory_format"] is torch.channels_last


def lays_out(run: nn.Module) -> bool:
    """Is a graph run with channels last where it asks for it? On a GPU in full float32 it is not: cuDNN's kernels for that
    layout are made for tensor cores, and took five times as long without (H200: 9 of 60 TFLOP/s on VGG16)."""
    return not example_of(run).is_cuda


def attribute(graph: FxGraph, root: nn.Module, stem: str, value: torch.Tensor) -> Node:
    """A node for a tensor that root is given under a name like `stem`."""
    name, number = stem, 0
    while hasattr(root, name):
        name, number = f"{stem}_{number}", number + 1
    root.register_buffer(name, value)
    return graph.get_attr(name)


def tensors(run: nn.Module) -> Iterator[torch.Tensor]:
    """All tensors that a graph holds; weights of one that is being trained are parameters."""
    yield from run.buffers()
    yield from run.parameters()


def example_of(run: nn.Module) -> torch.Tensor:
    """A tensor of the graph's device and precision; an empty one of torch's own where it has none."""
    return next((each for each in tensors(run) if each.is_floating_point()), torch.empty(0))


GETITEM = operator.getitem


@without_texts()
def part(run: GraphModule, inputs: Sequence[Node], outputs: Sequence[Node]) -> GraphModule:
    """The part of a graph between nodes: a function of the inputs that gives the output, or a tuple of several.

    Sizes of what lies before are asked of the first input: all values of a graph have the same batch.
    """
    graph, known = FxGraph(), {}
    for number, node in enumerate(inputs):
        known[node] = graph.placeholder(f"given_{number}")
        known[node].meta = dict(node.meta)
    wanted, layouts = _ancestors(outputs, set(inputs)), lays_out(run)
    for node in run.graph.nodes:
        if node in known or node not in wanted:
            continue
        if op_of(node) == "sym_size" and node.args[0] not in known:
            known[node] = graph.call_function(torch.ops.aten.sym_size.int, (known[inputs[0]], 0))
            known[node].meta = dict(node.meta)
        else:
            copied([node], graph, known, layouts=layouts)
    made = tuple(known[node] for node in outputs)
    graph.output(made if len(made) > 1 else made[0])
    graph.eliminate_dead_code()
    return GraphModule(run, graph)


def _ancestors(nodes: Iterable[Node], until: set[Node]) -> set[Node]:
    """The nodes and all that they are made of, not past `until`, and not past the sizes of what lies before it."""
    found, todo = set(), list(nodes)
    while todo:
        node = todo.pop()
        if node in found:
            continue
        found.add(node)
        if node in until:
            continue
        todo += [each for each in node.all_input_nodes if op_of(node) != "sym_size" or each in until]
    return found

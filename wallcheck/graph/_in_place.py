"""In-place operations taken out of a graph: x.relu_() becomes a new value that everything after it reads."""

import torch
from torch.fx import GraphModule, Node

from wallcheck.graph._nodes import data_nodes, is_shape, named, op_of, placeholder

CONSTRUCTORS = {"new_zeros": 0.0, "new_ones": 1.0, "zeros_like": 0.0, "ones_like": 1.0}


def functional(run: GraphModule) -> bool:
    """Take every in-place operation on what depends on the images out of run; False, and run is of no use, where another
    name may look at the same memory, or the memory is the network's own. What else depends on no image may stay: it is computed
    once, in order."""
    graph = run.graph
    for node in list(graph.nodes):
        if op_of(node) in CONSTRUCTORS:
            _pinned(run, node)
    data = data_nodes(graph, [placeholder(graph)])
    for node in list(graph.nodes):
        if not getattr(getattr(node.target, "_schema", None), "is_mutable", False):
            continue
        if _root(node).op == "get_attr" or (node in data and not _replaced(run, node)):
            return False
    return True


def _pinned(run: GraphModule, node: Node) -> None:
    """A tensor of zeros or ones of a fixed shape depends on no image, whatever it took its type from."""
    shape = node.meta["val"].shape
    if not all(isinstance(length, int) for length in shape):
        return
    told = dict(dtype=node.meta["val"].dtype, device=node.meta["val"].device)
    with run.graph.inserting_before(node):
        made = run.graph.call_function(torch.ops.aten.full.default, (list(shape), CONSTRUCTORS[op_of(node)]), told)
    made.meta = dict(node.meta)
    node.replace_all_uses_with(made)
    run.graph.erase_node(node)


def _replaced(run: GraphModule, node: Node) -> bool:
    """x.op_(...) as op(x, ...), which takes x's place from here on."""
    changed, name = node.args[0], op_of(node)
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None)
    plain = getattr(packet, node.target._overloadname, None) if name.endswith("_") and packet else None
    if plain is None or not isinstance(changed, Node) or _is_shared(changed, node):
        return False
    with run.graph.inserting_before(node):
        made = run.graph.call_function(plain, node.args, dict(node.kwargs))
    made.meta = dict(node.meta)
    order = {each: i for i, each in enumerate(run.graph.nodes)}
    changed.replace_all_uses_with(made, delete_user_cb=lambda user: order[user] > order[node])
    node.replace_all_uses_with(made)
    run.graph.erase_node(node)
    return True


def _is_shared(value: Node, at: Node) -> bool:
    """May other names look at value's memory after `at`: the images, a weight, a view of it, or what it is a view of?"""
    if any(_is_view(user) and user is not at for user in value.users):
        return True
    order = {each: i for i, each in enumerate(at.graph.nodes)}
    while value.op == "call_function" and _is_view(value):
        base = value.args[0]
        if not isinstance(base, Node) or any(
            user is not value and not is_shape(user) and (_is_view(user) or order[user] > order[at])
            for user in base.users
        ):
            return True
        value = base
    return value.op != "call_function"


def _root(node: Node) -> Node:
    """What the first argument is a view of, or itself."""
    node = node.args[0] if isinstance(node.args[0], Node) else node
    while node.op == "call_function" and _is_view(node) and isinstance(node.args[0], Node):
        node = node.args[0]
    return node


def _is_view(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return True  # an item of several values
    mutable = schema.is_mutable
    return (not mutable and any(argument.alias_info is not None for argument in schema.arguments)) or bool(
        op_of(node) in ("reshape", "contiguous", "to", "flatten", "dropout", "expand_as", "type_as") and named(node)
    )

"""A traced graph in its plainest form: identities left out, batch norms in one form, half precision as float32, constants folded,
and no view, which would be true of one order in memory alone."""

import torch
from torch import Tensor
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg

from wallcheck.graph._nodes import GETITEM, data_nodes, named, op_of, placeholder

HALF = (torch.float16, torch.bfloat16)
NOTHING = ("dropout", "alias", "lift_fresh_copy", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
DETACHED = ("detach", "detach_")
COMPUTED = ("folded_", "places_")  # how names of tensors begin that are computed of others, once
COUNTED = "counted_"  # of those that are computed of whole numbers and masks alone, whatever the weights are
VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)
TAKEN_AT = {  # a constant tensor's places -> the same at a number, at several
    torch.ops.aten.narrow.Tensor: ("default", "default"),
    torch.ops.aten.tensor_split.tensor_indices_or_sections: ("sections", "indices"),
}
ASSERTIONS = ("_assert", "sym_constrain")  # of what the tracing knows already


def tidied(run: GraphModule) -> None:
    """Identities left out, batch norms in one form, what depends on no image computed once."""
    for node in list(run.graph.nodes):
        _in_full_precision(node)
        if node.target in VIEWS:  # a wall, a part of a map, an attention written out lie in another order
            node.target = torch.ops.aten.reshape.default
        if op_of(node).startswith(ASSERTIONS):
            run.graph.erase_node(node)
        elif (op_of(node) in NOTHING and not named(node).get("train")) or (op_of(node) == "slice" and is_whole(node)):
            _left_out(node)
        elif op_of(node) == "_native_batch_norm_legit_no_training":
            _one_form_of_norm(run.graph, node)
        elif op_of(node) == "copy":
            _without_copying(run.graph, node)
        elif op_of(node) == "empty" and node.all_input_nodes:
            _of_the_images(run.graph, node)
    run.graph.eliminate_dead_code()
    _fold(run)
    run.graph.lint()
    run.recompile()


def undetached(run: GraphModule) -> None:
    """What the network keeps gradients from, with them."""
    for node in list(run.graph.nodes):
        if op_of(node) in DETACHED:
            _left_out(node)
    run.recompile()


def _left_out(node: Node) -> None:
    node.replace_all_uses_with(node.args[0])
    node.graph.erase_node(node)  # dead code elimination would keep what might draw by chance


def _in_full_precision(node: Node) -> None:
    """Casts to half precision become casts to float32: a half net is run on its own weights in float32."""
    node.args = tuple(torch.float32 if isinstance(a, torch.dtype) and a in HALF else a for a in node.args)
    node.kwargs = {k: torch.float32 if isinstance(v, torch.dtype) and v in HALF else v for k, v in node.kwargs.items()}


def is_whole(node: Node) -> bool:
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


def _without_copying(graph: FxGraph, node: Node) -> None:
    """x.copy_(y), of which torch knows no gradient once it stands alone: y in the type and the shape of x."""
    kept, made = node.args[:2]
    with graph.inserting_before(node):
        if made.meta["val"].dtype != kept.meta["val"].dtype:
            made = graph.call_function(torch.ops.aten.to.dtype, (made, kept.meta["val"].dtype))
            made.meta = dict(node.meta)
        if node.args[1].meta["val"].shape != kept.meta["val"].shape:
            made = graph.call_function(torch.ops.aten.expand_as.default, (made, kept))
            made.meta = dict(node.meta)
    node.replace_all_uses_with(made)
    graph.erase_node(node)


def _of_the_images(graph: FxGraph, node: Node) -> None:
    """Memory as it is found may hold anything, of images too: it counts as made of them until it is written over."""
    node.target, node.args = torch.ops.aten.new_empty.default, (placeholder(graph), *node.args)
    node.kwargs = {key: value for key, value in node.kwargs.items() if key != "memory_format"}


def _fold(run: GraphModule) -> None:
    """Nodes that need neither images nor their batch size become tensors."""
    frozen, dependent = parted_by_images(run.graph)
    wanted = [n for n in frozen if any(user in dependent or user.op == "output" for user in n.users)]
    values, weighed = _Constants(run).of(frozen) if wanted else {}, _of_weights(run)
    for node in wanted:
        if not isinstance(values[node], Tensor):
            _written_in(node, values[node])
            continue
        begin = COMPUTED[0] if node in weighed else COUNTED
        made = _held(run, f"{begin}{node.name}", values[node].detach(), node)
        made.meta = dict(node.meta)
        node.replace_all_uses_with(made)
    _by_numbers(run)
    run.graph.eliminate_dead_code()


def _of_weights(run: GraphModule) -> set[Node]:
    """Nodes that a tensor of the network other than of whole numbers or a mask takes part in."""
    found: set[Node] = set()
    for node in run.graph.nodes:
        if node.op == "get_attr":
            tensor = getattr(run, node.target)
            exact = isinstance(tensor, Tensor) and not (tensor.is_floating_point() or tensor.is_complex())
            if not exact:
                found.add(node)
        elif any(each in found for each in node.all_input_nodes):
            found.add(node)
    return found


def parted_by_images(graph: FxGraph) -> tuple[list[Node], set[Node]]:
    """Operations whose values can be computed once, and nodes that need the images or their number."""
    dependent = set(data_nodes(graph, [placeholder(graph)]))
    for node in graph.nodes:
        if any(each in dependent for each in node.all_input_nodes):
            dependent.add(node)
    return [n for n in graph.nodes if n.op == "call_function" and n not in dependent and "val" in n.meta], dependent


def _by_numbers(run: GraphModule) -> None:
    """x[:, :, mask] by the numbers of the places where a constant mask is true: how many they are is then no question. narrow and
    tensor_split at constant places by these."""
    for node in list(run.graph.nodes):
        if node.target in TAKEN_AT:
            _taken_at(run, node)
        if op_of(node) not in ("index", "index_put"):
            continue
        places = []
        for place in node.args[1]:
            mask = getattr(run, place.target) if isinstance(place, Node) and place.op == "get_attr" else None
            if mask is None or mask.dtype is not torch.bool:
                places.append(place)
                continue
            numbers = mask.nonzero(as_tuple=True)
            places += [
                _held(run, f"{COMPUTED[1]}{node.name}_{i}", each, node) for i, each in enumerate(numbers, len(places))
            ]
        node.args = (node.args[0], places, *node.args[2:])


def _taken_at(run: GraphModule, node: Node) -> None:
    """narrow and tensor_split at places that a constant tensor holds, with these written in: they are no values to ask for."""
    tensors = [each for each in node.args[1:] if isinstance(each, Node) and each.op == "get_attr"]
    for tensor in tensors:
        places = getattr(run, tensor.target).tolist()
        node.args = tuple(places if each is tensor else each for each in node.args)
        packet = node.target.overloadpacket
        node.target = getattr(packet, TAKEN_AT[node.target][isinstance(places, list)])


def _held(run: GraphModule, name: str, value: Tensor, before: Node) -> Node:
    run.register_buffer(name, value)
    with run.graph.inserting_before(before):
        made = run.graph.get_attr(name)
    made.meta = {"val": value}
    return made


def _written_in(node: Node, value: object) -> None:
    """A number that was read out of a weight, in place of the reading."""
    if isinstance(value, (bool, int, float)):
        for user in list(node.users):
            user.args, user.kwargs = map_arg((user.args, user.kwargs), lambda each: value if each is node else each)


class _Constants(Interpreter):
    """Values of nodes that depend on no input."""

    def of(self, nodes: list[Node]) -> dict[Node, object]:
        self.env = {}
        with torch.no_grad():
            for node in self.module.graph.nodes:
                if node.op == "get_attr" or node in nodes:
                    self.env[node] = self.run_node(node)
        return {node: self.env[node] for node in nodes}

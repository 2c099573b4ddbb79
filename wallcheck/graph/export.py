"""A network as one graph: what really runs, hooks and all, in eval mode, for any batch size.

    Graph = images (B, C, H, W) -> logits (B, D), without in-place operations, dropout and constant sub-expressions

`torch.export` traces the module without its own reading of Python (non-strict), so hooks, replaced forwards,
subclasses and parametrizations are in the graph as what they do. What cannot be one graph is refused with the line of
the user's code: flow that depends on values or on the size of the batch, random draws. The module is read, never
changed; the graph's tensors share its storage.
"""

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote

import torch
from torch import Tensor, nn
from torch.export.graph_signature import OutputKind
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Node
from torch.utils._pytree import TreeSpec

from wallcheck.defaults import usual
from wallcheck.graph._in_place import functional
from wallcheck.graph._nodes import GETITEM, copied, op_of, output, placeholder
from wallcheck.graph._one_function import (
    graph_within,
    is_plain,
    ran,
    refuse_another,
    refuse_branches,
    refuse_hollow,
    refuse_no_function,
)
from wallcheck.graph._precision import multiplied
from wallcheck.graph._spelling import spelt
from wallcheck.graph._texts import without_texts
from wallcheck.graph._tidy import HALF, tidied
from wallcheck.graph._tracing import BATCH, NotOneGraph, brief, no_logits, refuse_unreadable, traced
from wallcheck.keeping import tracing
from wallcheck.memory import without_garbage


class Graph:
    """A network's function: `run` is images (B, C, H, W) -> logits (B, D), an fx.GraphModule whose get_attr nodes are
    the network's own tensors; `image_size` (H, W) and `colours` C are what it was traced with."""

    def __init__(self, run: GraphModule, colours: int, image_size: tuple[int, int]):
        self.run, self.colours, self.image_size = run, colours, tuple(image_size)

    @property
    def fx(self) -> FxGraph:
        return self.run.graph

    @property
    def images(self) -> Node:
        return placeholder(self.fx)

    @property
    def logits(self) -> Node:
        return output(self.fx).args[0]

    def fingerprint(self) -> str:
        """SHA-256 of the graph's text, names of variables aside, and of the bytes of all its tensors."""
        digest, number = hashlib.sha256(), {}
        for node in self.fx.nodes:
            number[node] = len(number)
            told = [op_of(node) or node.op, _told(node.args, number), _told(node.kwargs, number)]
            if node.op == "get_attr":
                told = ["tensor", _bytes(getattr(self.run, node.target))]
            digest.update(repr(told).encode())
        return digest.hexdigest()


@without_texts()
@without_garbage()
def exported(
    module: nn.Module, colours: int, image_size: tuple[int, int], *, prefix: str = "", logits: bool = True
) -> Graph:
    """The graph of module on images (B, colours, H, W). Raises NotOneGraph where there is none, saying which line of the
    user's code is in the way. prefix: taken off the names of modules and tensors. logits: whether the output must be logits.
    """
    tensor = next((t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()), torch.empty(0))
    with tracing(), plainly(tensor.device):
        images = torch.zeros(BATCH, colours, *image_size, dtype=tensor.dtype, device=tensor.device)
        return _graph_of(module, images, prefix, logits)


def _graph_of(module: nn.Module, images: Tensor, prefix: str, logits: bool) -> Graph:
    refuse_unreadable(module, images)
    own = ran(module, images) if logits and not images.is_meta else None
    program = traced(module, images)
    refuse_hollow(type(module).__name__, program.constants.values())
    program = spelt(program)
    plain = is_plain(program.graph)
    run, stored = _unlifted(program, prefix) if plain else (None, ())
    if run is None or not functional(run):  # a view of something changed in place, graphs within: torch's own way
        run, stored = _unlifted(_spelt_out(program), prefix)
    refuse_no_function(run.graph, stored)
    if logits:
        _checked_output(run.graph, program.call_spec.out_spec)
    exact = not any(getattr(node.meta.get("val"), "dtype", None) in HALF for node in run.graph.nodes)
    tidied(run)
    if own is not None:
        refuse_another(type(module).__name__, run, own, exact)
    return Graph(run, images.shape[1], tuple(images.shape[2:]))


def _spelt_out(program):
    try:
        spelt = program.run_decompositions({})
    except Exception as error:
        raise NotOneGraph(
            f"torch cannot write what it runs as single operations ({brief(error)}); use plain operations on tensors"
        ) from error
    refuse_branches(spelt.graph)
    return spelt


def _unlifted(program, prefix: str) -> tuple[GraphModule, Collection[Node]]:
    """The program's graph with its weights, buffers and constants as attributes, and images as the only input; and those of
    them that a call leaves changed."""
    held = program.state_dict | program.constants
    names = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.target is not None}
    root, graph, known = nn.Module(), FxGraph(), {}
    specs = program.graph_signature.output_specs
    changed = {spec.target for spec in specs if spec.kind is OutputKind.BUFFER_MUTATION}
    if any(isinstance(each, torch.Generator) for each in held.values()):
        raise NotOneGraph("the network draws from a generator of its own; a proof needs one function: switch it off")
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            key = names[node.name].removeprefix(prefix)
            flat = _flat(key)
            if not hasattr(root, flat):
                root.register_buffer(flat, _full(held[names[node.name]]))
            known[node] = graph.get_attr(flat)
            known[node].meta = dict(node.meta) | {"key": key}
        elif node.op == "output":
            given = zip(node.args[0], specs, strict=True)
            values = tuple(known.get(value, value) for value, spec in given if spec.kind is OutputKind.USER_OUTPUT)
            graph.output(values if len(values) != 1 else values[0])
        else:
            _copy(node, program.graph_module, graph, known, prefix)
    stored = [known[node] for node in program.graph.nodes if names.get(node.name) in changed]
    return GraphModule(root, graph), stored


def _copy(node: Node, owner: nn.Module, graph: FxGraph, known: dict, prefix: str) -> None:
    """A node of owner's graph in another; of a graph within that only sets a mode, its nodes. Graphs run in full float32 and with
    gradients, whatever modes there are."""
    if node.op == "get_attr":
        return
    if (within := graph_within(node)) is not None:
        place, given = within
        inner = getattr(owner, node.args[place].target)
        values = iter(given)
        for each in inner.graph.nodes:
            if each.op == "placeholder":
                known[each] = known[next(values)]
            elif each.op == "output":
                known[node] = tuple(known[value] for value in each.args[0])
            else:
                _copy(each, inner, graph, known, prefix)
    elif node.target is GETITEM and isinstance(known[node.args[0]], tuple):
        known[node] = known[node.args[0]][node.args[1]]
    else:
        copied([node], graph, known)
        known[node].meta["nn_module_stack"] = _renamed(node.meta.get("nn_module_stack") or {}, prefix)


def _flat(key: str) -> str:
    """A tensor's name in a graph, which takes no dots: one of its own for each key (conv.1.weight is not conv_1.weight)."""
    return "t_" + quote(key, safe="").replace(".", "/")


def key_of(flat: str) -> str:
    """The key in the user's state dict of a graph's tensor t_..."""
    return unquote(flat.removeprefix("t_").replace("/", "."))


def _full(tensor: Tensor) -> Tensor:
    """The tensor itself, detached and plain; a copy in float32 of one in half precision, and of one that inference mode has
    sealed. A subclass would bring operations of its own into the graph; one that is made of several tensors is left."""
    tensor = tensor.detach()
    if type(tensor) is not Tensor and not hasattr(tensor, "__tensor_flatten__"):
        tensor = tensor.as_subclass(Tensor)
    if tensor.dtype in HALF:
        return tensor.float()
    return tensor.clone() if tensor.is_inference() else tensor


def _renamed(stack: dict, prefix: str) -> dict:
    """The modules around a node by their names in the user's network."""
    outer = prefix.removesuffix(".")
    return {key: (path.removeprefix(prefix), kind) for key, (path, kind) in stack.items() if not outer or path != outer}


def _checked_output(graph: FxGraph, form: TreeSpec) -> None:
    value = output(graph).args[0]
    if not isinstance(value, Node) or not form.is_leaf():
        held = f"a {form.type.__name__} of {form.num_leaves} value{'s' * (form.num_leaves != 1)}"
        raise no_logits("no tensor" if form.is_leaf() else held)
    shape = value.meta["val"].shape
    if len(shape) != 2:
        raise ValueError(
            f"the network gives (B{''.join(f', {int(n)}' for n in shape[1:])}), expected logits (B, D); wrap it in a module that "
            f"pools or unsqueezes them: one logit a class, (B, 1) for a binary net"
        )
    if not value.meta["val"].is_floating_point():
        raise no_logits(f"{value.meta['val'].dtype}")


@contextmanager
def plainly(device: torch.device, precision: str = "exact") -> Iterator[None]:
    """Outside inference mode and autocast, in full float32 (or as `precision` says) and with torch's usual defaults, whatever the
    caller or the process has chosen."""
    kind = torch.device(device).type
    with usual(), torch.autocast("cpu" if kind == "meta" else kind, enabled=False), multiplied(precision, kind):
        yield


def _told(value: object, number: dict[Node, int]) -> object:
    """Arguments with nodes by their number, so that two tracings of one function read the same."""
    if isinstance(value, Node):
        return f"%{number[value]}"
    if isinstance(value, (list, tuple)):
        return [_told(each, number) for each in value]
    if isinstance(value, dict):
        return {key: _told(each, number) for key, each in sorted(value.items())}
    return str(value)


def _bytes(tensor: Tensor) -> str:
    if tensor.is_meta:
        raise ValueError(
            "the network's weights are on the device meta, which holds no values; load them (model.to_empty, load_state_dict)"
        )
    array = tensor.detach().cpu().contiguous()
    raw = array.reshape(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b""
    return hashlib.sha256(f"{array.dtype}{tuple(array.shape)}".encode() + raw).hexdigest()

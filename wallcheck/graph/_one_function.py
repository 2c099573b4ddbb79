"""Is a traced graph a function of the images alone, and the one that the network is?

What a graph cannot tell is refused: numbers read out of tensors (they would pass for sizes), as many values as the images
decide, branches kept as operations, state that one call leaves for the next, random draws. What the tracing cannot see
(a flag of the export itself, gradients on or off, a call before, weights that a call puts others in place of, an error of the
tracing's that the network catches) shows where the network is run beside its graph, and what an image's place among others
decides (their number taken for a value) where the graph is run on one image and on several.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from wallcheck.defaults import callers
from wallcheck.graph._nodes import data_nodes, is_shape, logits_node, named, op_of, placeholder, where
from wallcheck.graph._tidy import HALF, undetached
from wallcheck.graph._tracing import NotOneGraph, brief, in_eval, untouched
from wallcheck.keeping import draws

SIZES = ("sym_size", "sym_numel", "sym_stride", "sym_storage_offset")
HOLLOW = "it holds no values in places"
MODES = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}


def is_plain(graph: FxGraph) -> bool:
    """Is every node one of torch's operations, or a graph within that only sets a mode?"""
    return not any(graph_within(node) is None and _holds_graphs(node) for node in graph.nodes)


def graph_within(node: Node) -> tuple[int, Sequence] | None:
    """Of a graph that is run with autocast, or with gradients, on or off: which argument it is, and what it is given."""
    place = MODES.get(str(node.target))
    return None if place is None else (place, node.args[place + 1 :])


def _holds_graphs(node: Node) -> bool:
    """Branches, loops, vmap and its kin."""
    return isinstance(node.target, HigherOrderOperator) or "functorch" in str(getattr(node.target, "__module__", ""))


def refuse_branches(graph: FxGraph) -> None:
    """Raise NotOneGraph for operations that hold others, of which values decide what runs."""
    for node in graph.nodes:
        if graph_within(node) is None and _holds_graphs(node):
            raise NotOneGraph(
                f"{where(node)} holds operations that may or may not run; make the branch arithmetic (torch.where)"
            )


def refuse_no_function(graph: FxGraph, stored: Collection[Node]) -> None:
    """Raise NotOneGraph unless the graph's output depends on the images alone. stored: tensors of the network that a call
    leaves changed."""
    data = data_nodes(graph, [placeholder(graph)])
    for node in graph.nodes:
        if is_shape(node) and op_of(node) not in SIZES and any(each in data for each in node.all_input_nodes):
            raise NotOneGraph(
                f"{where(node)} makes a plain number of a tensor's values (item, float, tolist); keep it a tensor"
            )
        if node in data and _is_unsized(node) and not _selects(node, data):
            raise NotOneGraph(
                f"{where(node)} gives as many values as the images decide (nonzero, x[x > 0], unique); select by torch.where"
            )
        _refuse_chance(node)
    _refuse_memory(graph, stored)


def _is_unsized(node: Node) -> bool:
    """Does a number of values that torch cannot know come in with this node?"""
    known = [symbol for each in node.all_input_nodes for symbol in _unknown(each)]
    return any(symbol not in known for symbol in _unknown(node))


def _unknown(node: Node) -> list:
    value = node.meta.get("val")
    tensors = [each for each in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(each, Tensor)]
    return [symbol for each in tensors for symbol in free_unbacked_symbols(each)]


def _selects(node: Node, data: Collection[Node]) -> bool:
    """Is it x[mask] with a mask that depends on no image?"""
    return op_of(node) == "index" and not any(each in data for each in node.all_input_nodes[1:])


def _refuse_chance(node: Node) -> None:
    drawn = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
    told = named(node) if drawn else {}
    # a dropout that is off, an attention without one
    quiet = False in (told.get("train"), told.get("training")) or told.get("dropout_p") == 0
    if drawn and not quiet:
        raise NotOneGraph(f"{where(node)} draws random numbers in eval mode; a proof needs one function: switch it off")


def _refuse_memory(graph: FxGraph, stored: Collection[Node]) -> None:
    """A call may write down what it likes as long as no later call reads it."""
    read, todo = set(), [logits_node(graph)]
    while todo:
        node = todo.pop()
        if isinstance(node, Node) and node not in read:
            read.add(node)
            todo += node.all_input_nodes
    for held in stored:
        if held in read:
            raise NotOneGraph(
                f"each call changes {held.meta['key']}, which the next one reads; a proof needs one function: freeze it in eval mode"
            )


class Ran(NamedTuple):
    """What a network gives: logits, and their gradient with respect to the images, weighted by noise; None where it has none."""

    logits: Tensor
    gradient: Tensor | None


class Own(NamedTuple):
    """What a network itself gives: of noise with gradients on and off, and logits of images that noise never is like."""

    noise: Tensor
    given: dict[bool, Ran]
    apart: list[tuple[Tensor, Tensor]]


def ran(module: nn.Module, images: Tensor) -> Own | None:
    """The network run on one image like images (B, C, H, W); on as many where it does not run on one, None where on neither. Before
    it is traced: tables that a first call keeps for all later ones are then made of numbers, not of what torch traces with."""
    with in_eval(module), untouched(module):
        for count in (1, len(images)):
            drawn = torch.randn(count, *images.shape[1:], generator=torch.Generator().manual_seed(count)).to(images)
            apart = [(each, _run(module, each.clone(), graded=False)) for each in _apart(drawn)]
            given = {graded: _run(module, drawn.clone(), graded) for graded in (True, False)}
            if None not in given.values():
                sound = [(each, found.logits) for each, found in apart if found is not None]
                return Own(drawn.float() if drawn.dtype in HALF else drawn, given, sound)
    return None


def _apart(drawn: Tensor) -> list[Tensor]:
    """An image of bytes, bright all over, and one as far below 0; half precision is too narrow for them."""
    bright = 128 + 64 * drawn.tanh()
    return [] if drawn.dtype in HALF else [bright, -bright]


def refuse_another(name: str, run: GraphModule, own: Own, exact: bool) -> None:
    """Raise NotOneGraph unless the network of this name gives the graph's logits and gradient. exact: whether neither computes in
    half precision. A network that lets no gradient through (it returns logits.detach()) is explained by that of what it computes:
    run is changed then."""
    slope = own.given[True].gradient
    wanted = _of_graph(name, run, own.noise)
    if slope is None or not _same_slope(slope, wanted.gradient):
        undetached(run)  # torch itself may have spelt an operation out with it
        wanted = _with_gradient(run, own.noise)
    for graded, found in own.given.items():
        _refuse_other(name, found.logits, wanted.logits, exact, f"gradients {'on' if graded else 'off'}")
    with torch.no_grad():
        for images, found in own.apart:
            logits = run(images)
            if found.isfinite().all() and logits.isfinite().all():  # they may overflow, the one sooner than the other
                _refuse_other(name, found, logits, exact, "bright or dark images")
    if exact and slope is not None and not _same_slope(slope, wanted.gradient):
        raise NotOneGraph(
            f"{name} has another gradient than the function it computes (torch.no_grad or detach on the way, a "
            f"backward of its own, a backward hook), and methods would explain the one or the other; take that out of the copy that "
            f"is explained"
        )
    with torch.no_grad():
        _refuse_places(name, run, own.noise, wanted.logits, exact)


def _of_graph(name: str, run: GraphModule, images: Tensor) -> Ran:
    """What the graph gives; raises NotOneGraph where torch has traced what does not run, or left in it a tensor that stands for
    values and has none."""
    try:
        found = _with_gradient(run, images)
        if not isinstance(found.logits, FakeTensor):
            return found
        reason = HOLLOW
    except Exception as error:
        reason = brief(error)
    raise _not_running(name, reason)


def refuse_hollow(name: str, constants: Iterable[object]) -> None:
    """Raise NotOneGraph where torch has kept, for a constant, a tensor that stands for values and has none."""
    if any(isinstance(each, FakeTensor) for each in constants):
        raise _not_running(name, HOLLOW)


def _not_running(name: str, reason: str) -> NotOneGraph:
    return NotOneGraph(
        f"the graph that was traced of {name} does not run ({reason}); write with torch's own operations what torch cannot trace "
        f"(torch.func.grad inside of a network)"
    )


def _refuse_other(name: str, own: Tensor, graphs: Tensor, exact: bool, given: str) -> None:
    if not _alike(own.to(graphs), graphs, exact):
        raise NotOneGraph(
            f"{name} gives other logits than the graph that was traced of it, with {given}: what it runs depends on something else "
            f"than the images (their number, gradients, the calls before, chance, being exported) or on their values by a way that "
            f"is not traced (numpy, weights replaced on the way); make it a function of the images alone, of torch's operations"
        )


def _same_slope(own: Tensor, graphs: Tensor | None) -> bool:
    """Up to rounding, which may turn a ReLU or two."""
    graphs = torch.zeros_like(own) if graphs is None else graphs
    if not own.isfinite().all():
        return torch.equal(own.isfinite(), graphs.isfinite())
    return bool((own - graphs).norm() <= 0.03 * own.norm())


def _with_gradient(function: Callable[[Tensor], Tensor], images: Tensor) -> Ran:
    leaf = images.detach().requires_grad_()
    gradient = None
    with torch.enable_grad():
        logits = function(leaf.clone())  # which the network may write into
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
        with suppress(RuntimeError):
            (gradient,) = torch.autograd.grad(logits, leaf, weights, allow_unused=True)
    return Ran(logits.detach(), gradient)


def _refuse_places(name: str, run: GraphModule, drawn: Tensor, alone: Tensor, exact: bool) -> None:
    """Raise NotOneGraph unless an image has the same logits at each place of a batch of its like; that no others take part in them
    is the proof's to say, and where they meet."""
    try:
        among = run(drawn.repeat(3, 1, 1, 1))
    except RuntimeError as error:
        raise NotOneGraph(
            f"the graph of {name} does not run on batches of every size ({brief(error)}); let it treat every batch alike"
        ) from error
    if len(among) != 3 * len(alone) or not _alike(among, alone.repeat(3, 1), exact):
        raise NotOneGraph(
            f"{name} gives an image other logits in a larger batch: the number of images or a place among them takes part in the values "
            f"(x * x.shape[0], torch.arange(x.shape[0]), a sum over the batch); treat every image by itself"
        )


def _run(module: nn.Module, images: Tensor, graded: bool) -> Ran | None:
    """What the network itself gives; None where it does not run on such a batch, which is the user's own matter. Raises NotOneGraph
    where it draws from Python's or numpy's random numbers, which are constants to torch."""

    def called(given: Tensor) -> Tensor:
        with callers():
            return module(given)

    for gradients in (graded, False):  # weights that were made in inference mode have none
        with draws() as drawn, torch.set_grad_enabled(gradients), suppress(Exception):
            found = _with_gradient(called, images) if gradients else Ran(called(images), None)
            break
    else:
        return None
    told = [name for name in drawn if name != "torch"]  # torch's draws are operations, which are looked at themselves
    if told:
        raise NotOneGraph(
            f"{type(module).__name__} draws random numbers of {' and '.join(told)} in eval mode; a proof needs one function: switch it off"
        )
    return found


def _alike(one: Tensor, two: Tensor, exact: bool) -> bool:
    if one.numel() != two.numel():
        return False
    near = 1e-3 if exact else 0.1  # of the largest logit: what rounding leaves of sums in another order
    scale = float(two.nan_to_num().abs().max()) if two.numel() else 0.0
    return torch.allclose(one.reshape(two.shape), two, rtol=near, atol=near * scale, equal_nan=True)

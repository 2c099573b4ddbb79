"""Reach: what can influence what in a graph, for every input, weight and batch, because it never looks at values.

Forward from a set of pixels it tells which elements of every node may depend on them; backward from a logit, which elements
may matter to it. Both carry one Boolean per element through one rule per operation (`_dependence`).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.utils._pytree import tree_map_only

from wallcheck.graph._dependence import arguments_of, rule_of
from wallcheck.graph._masks import Mask, distinct, masks_in, plain, shape_in, shape_of
from wallcheck.graph._nodes import data_nodes, example_of, is_shape, logits_node, named, op_of, placeholder
from wallcheck.graph.export import BATCH, plainly

Reached = dict[Node, Tensor]  # node -> Boolean, shaped as its value; nodes of several values are left out

FAKE_LOG = logging.getLogger("torch._subclasses.fake_tensor")


def shaped(run: GraphModule, colours: int, image_size: tuple[int, ...]) -> GraphModule:
    """run, with every node's shape for a batch of two written beside it (`meta["val"]`)."""
    example = example_of(run)
    dtype = example.dtype
    images = torch.empty(BATCH, colours, *image_size, dtype=dtype, device="meta")
    try:
        _Shapes(run).run(images)
    except (
        Exception
    ):  # an operation that has no form without values: torch's own, slower way, whose errors are the graph's
        with _unlogged():
            FakeTensorProp(run, FakeTensorMode(allow_non_fake_inputs=True)).propagate(
                torch.empty(images.shape, dtype=dtype, device=example.device)
            )
    return run


@contextmanager
def _unlogged() -> Iterator[None]:
    """Shapes that do not fit are asked for on purpose; torch would print each with a traceback."""
    level = FAKE_LOG.level
    FAKE_LOG.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        FAKE_LOG.setLevel(level)


class _Shapes(Interpreter):
    """A run without values, on torch's meta device."""

    def run_node(self, n: Node) -> object:
        value = tree_map_only(Tensor, lambda each: each.to("meta"), super().run_node(n))
        n.meta["val"] = value
        return value


def forward(run: GraphModule, pixels: Tensor) -> Reached:
    """Which elements of each node may depend on the pixels chosen, (B, C, H, W) Boolean, of `shaped` run."""
    images = placeholder(run.graph)
    env, reached = dict(_constants(run)), {}
    for node in data_nodes(run.graph, [images]):
        mask = pixels.float() if node is images else rule_of(node)(node, arguments_of(node, env))
        env[node] = _wrapped(mask)
        if isinstance(mask, Tensor):
            reached[node] = _arrives(mask)
    return reached


def backward(run: GraphModule, of: Tensor, at: Node | None = None, until: Node | None = None) -> Reached:
    """Which elements of each node may influence the elements chosen, `of` Boolean, of node `at` (the logits if None), by
    paths that do not go through node `until`."""
    images = placeholder(run.graph)
    at = logits_node(run.graph) if at is None else at
    nodes = data_nodes(run.graph, [images])
    constants, asked = dict(_constants(run)), {at: of.float()}
    with plainly(torch.device("cpu")):  # set once for all nodes
        for node in reversed(list(nodes)):
            wanted = asked.get(node)
            if wanted is None or node is images or node is until:
                continue
            sources = [each for each in node.all_input_nodes if each in nodes]
            for source, found in zip(sources, _handed_back(node, sources, constants, wanted), strict=True):
                asked[source] = _joined(asked.get(source), found)
    return {node: _arrives(mask) for node, mask in asked.items() if isinstance(mask, Tensor)}


def one_step(run: GraphModule, node: Node, of: Tensor) -> list[Tensor]:
    """Which elements of each of a node's sources may influence the elements chosen, `of` Boolean, by this node itself."""
    nodes = data_nodes(run.graph, [placeholder(run.graph)])
    sources = [each for each in node.all_input_nodes if each in nodes]
    found = _handed_back(node, sources, dict(_constants(run)), of.float())
    return [mask > 0 for mask in found if isinstance(mask, Tensor)]


def _handed_back(node: Node, sources: list[Node], constants: dict, wanted: Tensor | tuple) -> Iterator[Tensor | tuple]:
    """The transpose of the node's rule: what of each source the elements wanted depend on."""
    with (
        plainly(torch.device("cpu")),
        torch.enable_grad(),
    ):  # whatever mode the caller is in: without a gradient nothing reaches
        leaves = {source: _leaf(source) for source in sources}
        env = constants | {source: _wrapped(leaf) for source, leaf in leaves.items()}
        flat = [part for leaf in leaves.values() for part in (leaf if isinstance(leaf, tuple) else (leaf,))]
        if not all(plain(mask).requires_grad for mask in masks_in([env[source] for source in sources])):
            raise RuntimeError(
                "dependence cannot be followed back here: torch keeps no gradient; a proof would be empty"
            )
        out = rule_of(node)(node, arguments_of(node, env))
    outs, asked = (out, wanted) if isinstance(out, (tuple, list)) else ((out,), (wanted,))
    if not all(each.requires_grad for each in outs) and _silent(node, sources, constants, outs):
        raise RuntimeError(f"the rule of {op_of(node)} keeps no gradient; a proof would be empty")
    pairs = [(o, w) for o, w in zip(outs, asked, strict=True) if w is not None and o.requires_grad]
    slopes = (
        torch.autograd.grad([o for o, _ in pairs], flat, [w for _, w in pairs], allow_unused=True)
        if pairs
        else [None] * len(flat)
    )
    slopes = iter([None if slope is None else _binary(slope) for slope in slopes])
    for source in sources:
        leaf = leaves[source]
        yield tuple(next(slopes) for _ in leaf) if isinstance(leaf, tuple) else next(slopes)


def _silent(node: Node, sources: list[Node], constants: dict, outs: Sequence[Tensor]) -> bool:
    """Does something arrive, going forward, where nothing could be followed back?"""
    full = {source: _wrapped(_even(source, 1.0)) for source in sources}
    ahead = rule_of(node)(node, arguments_of(node, constants | full))
    ahead = ahead if isinstance(ahead, (tuple, list)) else (ahead,)
    return any(bool(a.any()) for a, o in zip(ahead, outs, strict=True) if not o.requires_grad)


def _leaf(node: Node) -> Tensor | tuple:
    """Masks of a node's shape, for a gradient."""
    masks = _even(node, 0.0)
    return tuple(mask.requires_grad_() for mask in masks) if isinstance(masks, tuple) else masks.requires_grad_()


def _even(node: Node, mark: float) -> Tensor | tuple:
    """mark at every place of a node, or of each of its several values."""
    value = node.meta["val"]
    if isinstance(value, (list, tuple)):
        return tuple(torch.tensor(mark).expand(shape_in(each)) for each in value)
    return torch.tensor(mark).expand(shape_of(node))


def _joined(one: Tensor | tuple | None, two: Tensor | tuple | None) -> Tensor | tuple | None:
    if one is None or two is None:
        return two if one is None else one
    if isinstance(one, tuple):
        return tuple(_joined(a, b) for a, b in zip(one, two, strict=True))
    return torch.maximum(one, two)


def _wrapped(mask: Tensor | tuple) -> Mask | tuple:
    if isinstance(mask, (tuple, list)):
        return tuple(Mask.of(_binary(each)) for each in mask)
    return Mask.of(_binary(mask))


def _binary(mask: Tensor) -> Tensor:
    """1 where something arrives: kept small, so that sums over many layers do not overflow. Leaves stay as they are."""
    return mask if mask.requires_grad else (distinct(plain(mask)) > 0).float().expand(mask.shape)


def _arrives(mask: Tensor) -> Tensor:
    return (distinct(mask) > 0).expand(mask.shape)


def weighs(run: GraphModule, node: Node) -> bool:
    """Is a constant a weight, a bias or a statistic alone, whose values no rule looks at?"""
    if not getattr(run, node.target).is_floating_point():
        return False
    return all(
        op_of(user) in WEIGHING and all(named(user).get(name) is not node for name in ("input", "self", "other"))
        for user in node.users
    )


WEIGHING = (
    "conv1d",
    "conv2d",
    "conv3d",
    "convolution",
    "linear",
    "batch_norm",
    "layer_norm",
    "group_norm",
    "instance_norm",
)


def _held(run: GraphModule, node: Node) -> Tensor:
    """A constant where masks are; one of its shape where its values play no part or are not there (the meta device)."""
    tensor = getattr(run, node.target).detach()
    shape_alone = weighs(run, node) or (tensor.is_meta and tensor.is_floating_point())
    return torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) if shape_alone else tensor.cpu()


def _constants(run: GraphModule) -> Iterator[tuple[Node, object]]:
    """What a rule may read besides masks: tensors, numbers made of sizes, and what is made of those (a class token for
    each image), for a batch of two."""
    data, env = data_nodes(run.graph, [placeholder(run.graph)]), {}
    for node in run.graph.nodes:
        if node.op == "get_attr":
            env[node] = _held(run, node)
        elif is_shape(node):
            env[node] = int(node.meta["val"])
        elif node.op == "call_function" and node not in data:
            arguments, options = map_arg((node.args, node.kwargs), lambda each: env[each])
            env[node] = node.target(*arguments, **options)
    yield from env.items()

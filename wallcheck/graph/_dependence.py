"""Which outputs of an operation may depend on which inputs: the rule of each node, and what the rule is given.

Rules of operations that work point by point are in `_pointwise`, of those that read windows in `_windows`, of those that sum
over axes in `_sums`; those that only move values are done to the mask itself, here.
"""

from torch import Tensor
from torch.fx import Node

from wallcheck.graph import _pointwise, _sums, _windows
from wallcheck.graph._masks import RULES, Mask, Rule, depends, everything, masks_in, plain, shape_of
from wallcheck.graph._nodes import GETITEM, named, op_of

MOVES = [
    "reshape", "permute", "transpose", "t", "expand", "expand_as", "slice", "select",
    "cat", "concat", "stack", "hstack", "vstack", "unbind", "split", "split_with_sizes", "chunk", "tensor_split", "flip",
    "fliplr", "flipud", "roll", "unfold", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "squeeze", "unsqueeze",
    "flatten", "unflatten", "narrow", "index_select", "index", "repeat", "tile", "repeat_interleave", "movedim",
    "moveaxis", "swapaxes", "swapdims", "diagonal", "tril", "triu", "numpy_T", "mT", "im2col", "slice_scatter",
    "select_scatter", "col2im", "fft_fftshift", "fft_ifftshift", "view_as", "reshape_as", "take_along_dim", "rot90", "broadcast_to", "alias",
]  # fmt: skip
SELECTING = ("index", "indices", "repeats", "start", "tensor_indices_or_sections")  # what is taken from where


@depends(*MOVES)
def moved(node: Node, arguments: dict) -> Tensor | tuple:
    """The operation itself, done to the mask; constants moved beside it carry nothing."""
    if masks_in([arguments.get(name) for name in SELECTING]):
        return everything(node, arguments)
    left = {name: value if name in SELECTING else _bare(value) for name, value in arguments.items()}
    order = [left.pop(a.name) for a in node.target._schema.arguments if not a.kwarg_only and a.name in left]
    return node.target(*order, **left)


@depends("gather")
def gathered(node: Node, arguments: dict) -> Tensor | tuple:
    """At constant places what stands there; at places that the images decide, all along the axis, and what decides."""
    index, shape = arguments["index"], shape_of(node)
    if not isinstance(index, Mask):
        return moved(node, arguments)
    whole = _bare(arguments["self"]).sum(arguments["dim"], keepdim=True)
    return whole[tuple(map(slice, shape))].expand(shape) + plain(index)


def _bare(value: object) -> object:
    """Masks as plain tensors, constant tensors as zeros."""
    if isinstance(value, Mask):
        return plain(value).contiguous()
    if isinstance(value, Tensor):
        return value.new_zeros(value.shape).float()
    return [_bare(each) for each in value] if isinstance(value, (list, tuple)) else value


def rule_of(node: Node) -> Rule:
    """The node's rule; `everything` for an operation without one."""
    if node.target is GETITEM:
        return lambda node, arguments: arguments["values"][arguments["place"]]
    return RULES.get(op_of(node), everything)


def arguments_of(node: Node, env: dict[Node, object]) -> dict:
    """The node's arguments by name, with what the environment holds in place of nodes."""

    def filled_in(value):
        if isinstance(value, Node):
            return env[value]
        if isinstance(value, (list, tuple)):
            return [filled_in(each) for each in value]
        if isinstance(value, slice):
            return slice(*(filled_in(each) for each in (value.start, value.stop, value.step)))
        return value

    if node.target is GETITEM:
        return {"values": filled_in(node.args[0]), "place": node.args[1]}
    return {name: filled_in(value) for name, value in named(node).items()} or {
        str(i): filled_in(value) for i, value in enumerate(node.args)
    }


RULE_BOOKS = (_pointwise, _windows, _sums)

__all__ = ["MOVES", "RULES", "RULE_BOOKS", "arguments_of", "everything", "rule_of"]

"""Which outputs of an operation may depend on which inputs: one rule per operation.

A rule turns masks of its inputs (float, 1 where something arrives and 0 elsewhere, shaped as the values) into the mask of
its output. It is linear and has no negative weight, so `rule(masks) > 0` carries reach forward, and its transpose, by one
vector-Jacobian product, carries it back: both directions are one text. Rules look at shapes and at constants that select
(indices, masks), never at weights or values. An operation without a rule makes everything depend on everything.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn.functional import conv2d, pad

from wallcheck.graph._nodes import GETITEM, named, op_of

# node, its arguments by name with masks in place of what depends on the images -> mask
Rule = Callable[[Node, dict], "Tensor | tuple"]

RULES: dict[str, Rule] = {}


def depends(*operations: str) -> Callable[[Rule], Rule]:
    """Register the rule of these operations."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(operations, rule))
        return rule

    return register


class Mask(Tensor):
    """A mask, told apart from a constant tensor."""

    @staticmethod
    def of(values: Tensor) -> "Mask":
        return values.as_subclass(Mask)


def plain(value: object) -> object:
    return value.as_subclass(Tensor) if isinstance(value, Mask) else value


def arrived(value: object) -> Tensor | None:
    """The mask itself, None for a constant."""
    return plain(value) if isinstance(value, Mask) else None


def masks_in(values: object) -> list[Tensor]:
    """All masks among arguments, those in lists too."""
    if isinstance(values, Mask):
        return [plain(values)]
    if isinstance(values, dict):
        values = list(values.values())
    return [mask for each in values for mask in masks_in(each)] if isinstance(values, (list, tuple)) else []


def shape_of(node: Node) -> tuple[int, ...]:
    return tuple(int(n) for n in node.meta["val"].shape)


def everything(node: Node, arguments: dict) -> Tensor | tuple:
    """No rule: each output may depend on each input."""
    total = sum(mask.sum() for mask in masks_in(arguments))
    value = node.meta["val"]
    if isinstance(value, (list, tuple)):
        return tuple(total.expand(tuple(int(n) for n in each.shape)) for each in value)
    return total.expand(shape_of(node))


# -- point by point -------------------------------------------------------------------------------

UNARY = [
    "relu",
    "relu6",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "silu",
    "gelu",
    "mish",
    "elu",
    "celu",
    "selu",
    "leaky_relu",
    "prelu",
    "rrelu",
    "threshold",
    "softplus",
    "softsign",
    "softshrink",
    "hardshrink",
    "sigmoid",
    "log_sigmoid",
    "tanh",
    "abs",
    "neg",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "sqrt",
    "rsqrt",
    "square",
    "reciprocal",
    "sin",
    "cos",
    "erf",
    "sign",
    "sgn",
    "floor",
    "ceil",
    "round",
    "trunc",
    "frac",
    "clamp",
    "clamp_min",
    "clamp_max",
    "pow",
    "clip",
    "nan_to_num",
    "logical_not",
    "bitwise_not",
    "isnan",
    "isinf",
    "positive",
    "tan",
    "atan",
    "asin",
    "acos",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "erfc",
    "digamma",
    "lgamma",
    "logit",
    "xlogy",
]
BINARY = [
    "add",
    "sub",
    "rsub",
    "mul",
    "div",
    "true_divide",
    "floor_divide",
    "remainder",
    "fmod",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
    "logical_xor",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "atan2",
    "hypot",
    "addcmul",
    "addcdiv",
    "lerp",
    "fake_quantize_per_tensor_affine",
]


@depends(*UNARY, *BINARY)
def pointwise(node: Node, arguments: dict) -> Tensor:
    shape = shape_of(node)
    return sum(mask.expand(shape) for mask in masks_in(arguments))


@depends("where")
def selected(node: Node, arguments: dict) -> Tensor:
    """A constant condition selects; one that depends on the images decides everything it touches."""
    condition, shape = arguments["condition"], shape_of(node)
    if isinstance(condition, Mask):
        return pointwise(node, arguments)
    kept = [(arguments.get("self"), condition), (arguments.get("other"), ~condition)]
    found = [plain(value).expand(shape) * chosen for value, chosen in kept if isinstance(value, Mask)]
    return sum(found)


@depends("masked_fill")
def filled(node: Node, arguments: dict) -> Tensor:
    mask = arguments["mask"]
    if isinstance(mask, Mask) or not isinstance(arguments["self"], Mask):
        return pointwise(node, arguments)
    left = plain(arguments["self"]).expand(shape_of(node)) * ~mask
    value = arrived(arguments["value"])
    return left if value is None else left + value * mask


@depends("batch_norm")
def batch_norm(node: Node, arguments: dict) -> Tensor:
    """With running statistics a scale and a shift; with the batch's own, one mean over images and positions."""
    x = plain(arguments["input"])
    if not arguments["training"] and arguments["running_mean"] is not None:
        return pointwise(node, arguments)
    dims = [0, *range(2, x.ndim)]
    return x.sum(dims, keepdim=True).expand(x.shape)


# -- sums over windows ----------------------------------------------------------------------------


@depends("conv2d", "conv1d", "conv3d", "convolution")
def convolution(node: Node, arguments: dict) -> Tensor | tuple:
    if (
        isinstance(arguments["weight"], Mask)
        or not isinstance(arguments["input"], Mask)
        or arguments["weight"].ndim != 4
    ):
        return everything(node, arguments)
    if arguments.get("transposed"):
        return everything(node, arguments)
    x, weight, groups = plain(arguments["input"]), arguments["weight"], arguments["groups"]
    joined = x.unflatten(1, (groups, -1)).sum(2).flatten(0, 1)[:, None]  # (N groups, 1, H, W): channels of a group mix
    ones = joined.new_ones(1, 1, *weight.shape[2:])
    spread = conv2d(joined, ones, None, arguments["stride"], arguments["padding"], arguments["dilation"])
    spread = spread.view(len(x), groups, 1, *spread.shape[2:])
    return spread.expand(-1, -1, weight.shape[0] // groups, -1, -1).flatten(1, 2)


@depends("max_pool2d", "avg_pool2d")
def pooling(node: Node, arguments: dict) -> Tensor:
    x, out = plain(arguments["self"]), shape_of(node)
    for axis in (0, 1):
        reads = _reads(x.shape[2 + axis], out[2 + axis], *_window(arguments, axis)).to(x)
        x = reads @ x if axis == 0 else x @ reads.T
    return x


def _window(arguments: dict, axis: int) -> tuple[int, int, int, int]:
    """Size, stride, padding and dilation along an axis."""
    size = _along(arguments["kernel_size"], axis)
    stride, around = _along(arguments["stride"], axis, size), _along(arguments["padding"], axis)
    return size, stride, around, _along(arguments.get("dilation"), axis, 1)


def _along(value: object, axis: int, otherwise: int = 0) -> int:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return otherwise if not values or values[0] is None else int(values[axis if len(values) > 1 else 0])


def _reads(length: int, out: int, size: int, stride: int, around: int, dilation: int) -> Tensor:
    """(out, length): does output position o read input position i?"""
    offset = torch.arange(length) - (torch.arange(out)[:, None] * stride - around)
    return (offset >= 0) & (offset < dilation * (size - 1) + 1) & (offset % dilation == 0)


@depends("adaptive_avg_pool2d", "adaptive_max_pool2d", "_adaptive_avg_pool2d")
def adaptive_pooling(node: Node, arguments: dict) -> Tensor | tuple:
    """Output cell o reads positions floor(o n / m) .. ceil((o + 1) n / m) - 1."""
    x = plain(arguments["self"])
    for axis, out in ((2, int(arguments["output_size"][0])), (3, int(arguments["output_size"][-1]))):
        length, place, cell = x.shape[axis], torch.arange(x.shape[axis]), torch.arange(out)[:, None]
        reads = ((place >= cell * length // out) & (place < -((cell + 1) * -length // out))).to(x)
        x = reads @ x if axis == 2 else x @ reads.T
    return (x, x) if isinstance(node.meta["val"], (list, tuple)) else x


@depends("upsample_bilinear2d", "upsample_nearest2d", "_upsample_nearest_exact2d")
def enlarged(node: Node, arguments: dict) -> Tensor | tuple:
    """Each pixel takes from the source cells next to it: all within one cell of the nearest are counted."""
    x, out = plain(arguments.get("self", arguments.get("input"))), shape_of(node)
    if len(out) != 4:
        return everything(node, arguments)
    for axis in (2, 3):
        length, made = x.shape[axis], out[axis]
        centre = (torch.arange(made) + 0.5) * length / made - 0.5
        aligned = torch.arange(made) * ((length - 1) / max(made - 1, 1))
        place = torch.arange(length)
        reads = sum(((c[:, None] - place).abs() < 1.5) for c in (centre.clamp(0, length - 1), aligned)).to(x)
        x = reads @ x if axis == 2 else x @ reads.T
    return x


# -- sums over axes -------------------------------------------------------------------------------


def axes(arguments: dict, ndim: int) -> list[int]:
    given = arguments.get("dim")
    if given is None or given == []:
        return list(range(ndim))
    return [d % ndim for d in (given if isinstance(given, (list, tuple)) else [given])]


@depends(
    *[
        "mean",
        "sum",
        "amax",
        "amin",
        "prod",
        "any",
        "all",
        "var",
        "std",
        "var_mean",
        "std_mean",
        "linalg_vector_norm",
        "norm",
        "logsumexp",
        "nansum",
        "nanmean",
        "median",
        "argmax",
        "argmin",
        "max",
        "min",
        "count_nonzero",
    ]
)
def reduced(node: Node, arguments: dict) -> Tensor | tuple:
    x = plain(arguments.get("self", arguments.get("input", arguments.get("x"))))
    if len(masks_in(arguments)) != 1:
        return pointwise(node, arguments)  # max(a, b) is point by point
    total = x.sum(axes(arguments, x.ndim), keepdim=bool(arguments.get("keepdim")))
    value = node.meta["val"]
    return tuple(total for _ in value) if isinstance(value, (list, tuple)) else total


@depends(*["softmax", "_softmax", "log_softmax", "_log_softmax", "cumsum", "cumprod", "sort", "topk", "argsort", "glu"])
def along_one_axis(node: Node, arguments: dict) -> Tensor | tuple:
    """Every output depends on all that stands along the axis with it."""
    x = plain(arguments["self"])
    total = x.sum(arguments["dim"], keepdim=True)
    value = node.meta["val"]
    if isinstance(value, (list, tuple)):
        return tuple(total.expand(tuple(int(n) for n in each.shape)) for each in value)
    return total.expand(shape_of(node))


@depends("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm")
def layer_norm(node: Node, arguments: dict) -> Tensor | tuple:
    x = plain(arguments["input"])
    dims = list(range(x.ndim - len(arguments["normalized_shape"]), x.ndim))
    total = x.sum(dims, keepdim=True)
    value = node.meta["val"]
    return (
        (total.expand(x.shape), total, total)[: len(value)]
        if isinstance(value, (list, tuple))
        else total.expand(x.shape)
    )


@depends("group_norm", "native_group_norm")
def group_norm(node: Node, arguments: dict) -> Tensor | tuple:
    if isinstance(node.meta["val"], (list, tuple)):
        return everything(node, arguments)
    x = plain(arguments["input"])
    total = x.unflatten(1, (arguments["num_groups"], -1)).flatten(2).sum(2)
    wide = total.repeat_interleave(x.shape[1] // arguments["num_groups"], 1)
    return wide.view(*wide.shape, *[1] * (x.ndim - 2)).expand(x.shape)


# -- products -------------------------------------------------------------------------------------


@depends("linear")
def linear(node: Node, arguments: dict) -> Tensor | tuple:
    if isinstance(arguments["weight"], Mask) or not isinstance(arguments["input"], Mask):
        return everything(node, arguments)
    return plain(arguments["input"]).sum(-1, keepdim=True).expand(shape_of(node))


@depends("matmul", "mm", "bmm", "addmm", "baddbmm")
def product(node: Node, arguments: dict) -> Tensor | tuple:
    one = arguments.get("self" if op_of(node) in ("matmul", "mm", "bmm") else "mat1", arguments.get("batch1"))
    two = arguments.get("other", arguments.get("mat2", arguments.get("batch2")))
    added = arrived(arguments.get("self")) if op_of(node) in ("addmm", "baddbmm") else None
    shape = shape_of(node)
    if min(one.ndim, two.ndim) < 2:
        return everything(node, arguments)
    parts = [added] if added is not None else []
    parts += [plain(one).sum(-1, keepdim=True)] if isinstance(one, Mask) else []
    parts += [plain(two).sum(-2, keepdim=True)] if isinstance(two, Mask) else []
    return sum(part.expand(shape) for part in parts)


@depends("einsum")
def einsum(node: Node, arguments: dict) -> Tensor | tuple:
    tensors = arguments["tensors"]
    parts = []
    for place, tensor in enumerate(tensors):
        if isinstance(tensor, Mask):
            others = [plain(t) if i == place else torch.ones(t.shape) for i, t in enumerate(tensors)]
            parts.append(torch.einsum(arguments["equation"], others))
    return sum(parts)


@depends("scaled_dot_product_attention")
def attention(node: Node, arguments: dict) -> Tensor | tuple:
    """A query depends on itself and on keys and values that the constant mask allows it, for all finite scores."""
    query, key, value = (arguments[name] for name in ("query", "key", "value"))
    mask, shape = arguments.get("attn_mask"), shape_of(node)
    if isinstance(mask, Mask) or arguments.get("enable_gqa"):
        return everything(node, arguments)
    allowed = torch.ones(query.shape[-2], key.shape[-2])
    if arguments.get("is_causal"):
        allowed = allowed.tril()
    if mask is not None:
        allowed = allowed * (mask if mask.dtype == torch.bool else mask > -torch.inf)
    parts = [plain(query).sum(-1, keepdim=True)] if isinstance(query, Mask) else []
    parts += [allowed @ plain(each).sum(-1, keepdim=True) for each in (key, value) if isinstance(each, Mask)]
    return sum(part.expand(shape) for part in parts)


# -- moves: the operation itself, done to the mask ------------------------------------------------

MOVES = [
    "view",
    "reshape",
    "_unsafe_view",
    "_reshape_alias",
    "permute",
    "transpose",
    "t",
    "expand",
    "expand_as",
    "slice",
    "select",
    "cat",
    "stack",
    "hstack",
    "vstack",
    "unbind",
    "split",
    "split_with_sizes",
    "chunk",
    "tensor_split",
    "flip",
    "roll",
    "unfold",
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    "squeeze",
    "unsqueeze",
    "flatten",
    "unflatten",
    "narrow",
    "index_select",
    "index",
    "gather",
    "repeat",
    "tile",
    "repeat_interleave",
    "movedim",
    "moveaxis",
    "swapaxes",
    "swapdims",
    "diagonal",
    "tril",
    "triu",
    "numpy_T",
    "mT",
    "im2col",
    "slice_scatter",
    "select_scatter",
    "view_as",
    "reshape_as",
    "take_along_dim",
    "rot90",
    "copy",
    "broadcast_to",
]
CASTS = [
    "clone",
    "contiguous",
    "to",
    "_to_copy",
    "type_as",
    "float",
    "double",
    "half",
    "bfloat16",
    "conj",
    "resolve_conj",
    "real",
]


@depends(*CASTS)
def cast(node: Node, arguments: dict) -> Tensor:
    return next(iter(masks_in(arguments)))


@depends("pad", "constant_pad_nd")
def padded(node: Node, arguments: dict) -> Tensor:
    """Padding repeats, mirrors or is constant: a constant depends on nothing."""
    mode = arguments.get("mode", "constant")
    return pad(plain(arguments["self"]), [int(n) for n in arguments["pad"]], mode)


@depends(*MOVES)
def moved(node: Node, arguments: dict) -> Tensor | tuple:
    if any(isinstance(arguments.get(name), Mask) for name in ("index", "indices", "repeats")):
        return everything(node, arguments)
    if "indices" in arguments and any(isinstance(each, Mask) for each in arguments["indices"]):
        return everything(node, arguments)

    def bare(value):
        if isinstance(value, Mask):
            return plain(value)
        if isinstance(value, Tensor):  # a constant beside masks carries nothing; one that selects stays what it is
            return torch.zeros(value.shape) if value.is_floating_point() else value
        return [bare(each) for each in value] if isinstance(value, (list, tuple)) else value

    schema = node.target._schema
    left = {name: bare(value) for name, value in arguments.items()}
    order = [left.pop(a.name) for a in schema.arguments if not a.kwarg_only and a.name in left]
    return node.target(*order, **left)


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


__all__ = ["Mask", "arguments_of", "everything", "masks_in", "plain", "rule_of"]

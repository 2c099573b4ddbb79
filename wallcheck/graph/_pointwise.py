"""Rules of dependence of operations that work point by point, select, or take what depends on no value."""

import torch
from torch import Tensor
from torch.fx import Node

from wallcheck.graph._masks import Mask, alone, arrived, depends, everything, masks_in, plain, shape_of, spread, total
from wallcheck.graph._nodes import op_of

UNARY = [
    "relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "gelu", "mish", "elu", "celu", "selu", "leaky_relu",
    "rrelu", "threshold", "softplus", "softshrink", "hardshrink", "sigmoid", "log_sigmoid", "tanh", "abs", "neg", "exp",
    "exp2", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "square", "reciprocal", "sin", "cos", "tan", "asin",
    "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erf", "erfc", "digamma", "lgamma", "logit", "sign", "sgn",
    "floor", "ceil", "round", "trunc", "frac", "nan_to_num", "logical_not", "bitwise_not", "isnan", "isinf", "positive",
    "signbit", "deg2rad", "rad2deg", "isfinite", "isposinf", "isneginf", "angle", "conj_physical", "erfinv", "sinc", "i0",
    "special_i0e", "special_i1", "special_i1e", "special_erfcx", "special_entr", "special_ndtri",
]  # fmt: skip
BINARY = [
    "add", "sub", "rsub", "mul", "div", "true_divide", "floor_divide", "remainder", "fmod", "pow", "maximum", "minimum",
    "fmax", "fmin", "clamp", "clamp_min", "clamp_max", "clip", "eq", "ne", "lt", "le", "gt", "ge", "logical_and",
    "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "atan2", "hypot", "addcmul", "addcdiv", "lerp",
    "xlogy", "copysign", "complex", "polar", "float_power", "ldexp", "logaddexp", "logaddexp2", "special_xlog1py",
]  # fmt: skip
CASTS = [
    "clone", "contiguous", "to", "_to_copy", "type_as", "float", "double", "half", "bfloat16", "conj", "resolve_conj", "real", "imag",
    "detach", "detach_",
]  # fmt: skip
CONSTRUCTORS = ["new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like"]


@depends(*UNARY, *BINARY)
def pointwise(node: Node, arguments: dict) -> Tensor:
    """Each output on the inputs at its place, smaller ones repeated as arithmetic repeats them."""
    shape = shape_of(node)
    return total([mask.expand(shape) for mask in masks_in(arguments)])


@depends(*CASTS)
def cast(node: Node, arguments: dict) -> Tensor:
    """Of itself; a tensor whose type alone is asked (type_as) gives none of its values."""
    x = arrived(arguments["self"])
    return nothing(node, arguments) if x is None else x


@depends(*CONSTRUCTORS)
def nothing(node: Node, arguments: dict) -> Tensor:
    """A new tensor of a given shape depends on no value."""
    return masks_in(arguments)[0].new_zeros(shape_of(node))


@depends("fill", "zero")
def overwritten(node: Node, arguments: dict) -> Tensor:
    """x.fill_(y) is y everywhere."""
    y = arrived(arguments.get("value"))
    return nothing(node, arguments) if y is None else y.expand(shape_of(node))


@depends("index_put")
def written_at(node: Node, arguments: dict) -> Tensor | tuple:
    """x[places] = y at constant places: y there, x elsewhere; where a place is named twice, on either y."""
    places, told = arguments["indices"], dict(accumulate=True)
    if masks_in(places):
        return everything(node, arguments)
    x, y, put = _mask_of(arguments["self"]), _mask_of(arguments["values"]), torch.ops.aten.index_put.default
    left = x if arguments["accumulate"] else put(x, places, x.new_zeros(()))
    return left + put(x.new_zeros(x.shape), places, y, **told)


@depends("scatter", "scatter_add", "scatter_reduce")
def scattered(node: Node, arguments: dict) -> Tensor | tuple:
    """y put at constant places along an axis, or added to what stands there: y there, x elsewhere."""
    dim, index, replaced = (
        arguments["dim"],
        arguments["index"],
        op_of(node) == "scatter" and not arguments.get("reduce"),
    )
    if isinstance(index, Mask):
        return everything(node, arguments)
    x, y = _mask_of(arguments["self"]), arrived(arguments.get("src"))
    left = x.scatter(dim, index, 0.0) if replaced else x
    return left if y is None else left + x.new_zeros(x.shape).scatter_add(dim, index, y[tuple(map(slice, index.shape))])


@depends("embedding", "view_as_real")
def vectors(node: Node, arguments: dict) -> Tensor | tuple:
    """Numbers at each place along an axis of their own: of a constant table, or both parts of a complex one."""
    x = alone(arguments, "indices", "self")
    return everything(node, arguments) if x is None else x.unsqueeze(-1).expand(shape_of(node))


@depends("view_as_complex")
def of_two_parts(node: Node, arguments: dict) -> Tensor:
    return plain(arguments["self"]).sum(-1)


@depends("bucketize", "searchsorted")
def sorted_in(node: Node, arguments: dict) -> Tensor | tuple:
    """The number of the interval of a constant row that holds each value."""
    x = alone(arguments, "self")
    return everything(node, arguments) if x is None else x


@depends("index_fill")
def filled_at(node: Node, arguments: dict) -> Tensor | tuple:
    x = alone(arguments, "self")
    return everything(node, arguments) if x is None else x.index_fill(arguments["dim"], arguments["index"], 0)


def _mask_of(value: Tensor) -> Tensor:
    return plain(value) if isinstance(value, Mask) else value.new_zeros(value.shape).float()


@depends("prelu")
def prelu(node: Node, arguments: dict) -> Tensor | tuple:
    x = alone(arguments, "self")
    return everything(node, arguments) if x is None else x


@depends("glu")
def glu(node: Node, arguments: dict) -> Tensor:
    one, two = plain(arguments["self"]).chunk(2, arguments["dim"])
    return one + two


@depends("where")
def selected(node: Node, arguments: dict) -> Tensor | tuple:
    """A constant condition selects; one that depends on the images decides everything it touches."""
    condition = arguments["condition"]
    if isinstance(node.meta["val"], (list, tuple)):
        return everything(node, arguments)
    if isinstance(condition, Mask):
        return pointwise(node, arguments)
    shape, condition = shape_of(node), condition.bool()
    kept = [(arguments.get("self"), condition), (arguments.get("other"), ~condition)]
    return sum(plain(value).expand(shape) * chosen for value, chosen in kept if isinstance(value, Mask))


@depends("masked_fill")
def filled(node: Node, arguments: dict) -> Tensor:
    mask, shape = arguments["mask"], shape_of(node)
    if isinstance(mask, Mask):
        return pointwise(node, arguments)
    kept = [(arguments["self"], ~mask.bool()), (arguments["value"], mask.bool())]
    return sum(plain(value).expand(shape) * chosen for value, chosen in kept if isinstance(value, Mask))


@depends("batch_norm")
def batch_norm(node: Node, arguments: dict) -> Tensor | tuple:
    """With running statistics a scale and a shift; with the batch's own, one mean over images and positions."""
    x = alone(arguments, "input")
    if x is None:
        return everything(node, arguments)
    if not arguments["training"] and arguments["running_mean"] is not None:
        return x
    return x.sum([0, *range(2, x.ndim)], keepdim=True).expand(x.shape)


@depends("instance_norm")
def instance_norm(node: Node, arguments: dict) -> Tensor | tuple:
    """One mean over the positions of each image and channel, unless running statistics are used."""
    x = alone(arguments, "input")
    if x is None:
        return everything(node, arguments)
    return x.sum(list(range(2, x.ndim)), keepdim=True).expand(x.shape) if arguments["use_input_stats"] else x


@depends("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm")
def layer_norm(node: Node, arguments: dict) -> Tensor | tuple:
    x = alone(arguments, "input")
    if x is None:
        return everything(node, arguments)
    total = x.sum(list(range(x.ndim - len(arguments["normalized_shape"]), x.ndim)), keepdim=True)
    return spread(node, total)


@depends("group_norm")
def group_norm(node: Node, arguments: dict) -> Tensor | tuple:
    x = alone(arguments, "input")
    if x is None:
        return everything(node, arguments)
    groups = x.unflatten(1, (arguments["num_groups"], -1))
    total = groups.sum(list(range(2, groups.ndim)), keepdim=True)
    return total.expand(groups.shape).reshape(x.shape)

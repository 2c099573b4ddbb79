"""Rules of dependence of operations that sum over axes: reductions, softmax, Fourier, products, attention, recurrence."""

import torch
from torch import Tensor
from torch.fx import Node

from wallcheck.graph._masks import (
    Mask,
    alone,
    arrived,
    depends,
    everything,
    masks_in,
    plain,
    shape_in,
    shape_of,
    spread,
)
from wallcheck.graph._nodes import op_of
from wallcheck.graph._pointwise import pointwise

REDUCTIONS = [
    "mean", "sum", "amax", "amin", "prod", "any", "all", "var", "std", "var_mean", "std_mean", "linalg_vector_norm", "norm",
    "logsumexp", "nansum", "nanmean", "median", "argmax", "argmin", "max", "min", "count_nonzero", "aminmax", "kthvalue", "mode",
    "quantile", "nanquantile", "linalg_norm",
]  # fmt: skip
ALONG = ["softmax", "_softmax", "log_softmax", "_log_softmax", "sort", "topk", "argsort"]


@depends(*REDUCTIONS)
def reduced(node: Node, arguments: dict) -> Tensor | tuple:
    if "other" in arguments:
        return pointwise(node, arguments)  # max(a, b)
    x = alone(arguments, "self", "input")
    if x is None:
        return everything(node, arguments)
    total = x.sum(_axes(arguments, x.ndim), keepdim=bool(arguments.get("keepdim")))
    return spread(node, total)


def _axes(arguments: dict, ndim: int) -> list[int]:
    given = arguments.get("dim")
    if given is None or given == []:
        return list(range(ndim))
    return [d % ndim for d in (given if isinstance(given, (list, tuple)) else [given])] if ndim else []


@depends(*ALONG)
def along_one_axis(node: Node, arguments: dict) -> Tensor | tuple:
    """Every output depends on all that stands along the axis with it."""
    return spread(node, plain(arguments["self"]).sum(arguments["dim"], keepdim=True))


@depends("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")
def up_to_here(node: Node, arguments: dict) -> Tensor | tuple:
    """Every output depends on what stands before it along the axis, and on itself."""
    return spread(node, plain(arguments["self"]).cumsum(arguments["dim"]))


@depends(*[f"fft_{way}{axes}" for way in ("fft", "ifft", "rfft", "irfft") for axes in ("", "2", "n")])
def fourier(node: Node, arguments: dict) -> Tensor | tuple:
    """Every output depends on all that stands along the axes transformed: those named, else as many of the last as sizes are given."""
    x, axes = plain(arguments["self"]), arguments["dim"]
    if axes is None and arguments["s"] is not None:
        axes = list(range(-len(arguments["s"]), 0))
    return spread(node, x.sum(_axes({"dim": axes}, x.ndim), keepdim=True))


@depends("cosine_similarity", "pairwise_distance")
def compared(node: Node, arguments: dict) -> Tensor:
    """Two vectors at each place."""
    pair = arguments["x1"], arguments["x2"]
    shape = torch.broadcast_shapes(*(each.shape for each in pair))
    total = sum(plain(each).expand(shape) for each in pair if isinstance(each, Mask))
    return total.sum(arguments.get("dim", -1), keepdim=bool(arguments.get("keepdim")))


@depends("cdist", "_cdist_forward", "_euclidean_dist")
def distances(node: Node, arguments: dict) -> Tensor | tuple:
    """Entry (i, j) on row i of the first and row j of the second."""
    one, two = arguments["x1"], arguments["x2"]
    parts = [plain(one).sum(-1)[..., :, None]] if isinstance(one, Mask) else []
    parts += [plain(two).sum(-1)[..., None, :]] if isinstance(two, Mask) else []
    return sum(part.expand(shape_of(node)) for part in parts)


@depends("bilinear")
def bilinear(node: Node, arguments: dict) -> Tensor | tuple:
    if masks_in([arguments["weight"], arguments["bias"]]):
        return everything(node, arguments)
    return sum(mask.sum(-1, keepdim=True).expand(shape_of(node)) for mask in masks_in(arguments))


@depends("gru", "lstm", "rnn_tanh", "rnn_relu")
def recurrent(node: Node, arguments: dict) -> Tensor | tuple:
    """Every step and every last state of an image on all its steps; an upper bound, which asks no direction."""
    x = alone(arguments, "input")
    if x is None or x.ndim != 3 or "batch_first" not in arguments:
        return everything(node, arguments)
    first = x if arguments["batch_first"] else x.transpose(0, 1)
    each = first.sum((1, 2))[:, None]  # (B, 1), as states (layers, B, n) hold images
    steps, *states = (shape_in(value) for value in node.meta["val"])
    made = each[:, None] if arguments["batch_first"] else each
    return made.expand(steps), *(each.expand(shape) for shape in states)


@depends("linear")
def linear(node: Node, arguments: dict) -> Tensor | tuple:
    x = alone(arguments, "input")
    return everything(node, arguments) if x is None else x.sum(-1, keepdim=True).expand(shape_of(node))


FACTORS = {
    "matmul": ("self", "other"),
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "mv": ("self", "vec"),
    "addmm": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}


@depends(*FACTORS)
def product(node: Node, arguments: dict) -> Tensor | tuple:
    """Entry (i, j) on row i of the first and column j of the second, and on what is added there."""
    one, two = (arguments[name] for name in FACTORS[op_of(node)])
    added = arrived(arguments["self"]) if "self" not in FACTORS[op_of(node)] else None
    if one.ndim < 2 or (two.ndim < 2 and isinstance(two, Mask)):
        return everything(node, arguments)
    if two.ndim < 2:
        return plain(one).sum(-1)
    parts = [added] if added is not None else []
    parts += [plain(one).sum(-1, keepdim=True)] if isinstance(one, Mask) else []
    parts += [plain(two).sum(-2, keepdim=True)] if isinstance(two, Mask) else []
    return sum(part.expand(shape_of(node)) for part in parts)


@depends("einsum")
def einsum(node: Node, arguments: dict) -> Tensor:
    tensors, parts = arguments["tensors"], []
    for place, tensor in enumerate(tensors):
        if isinstance(tensor, Mask):
            others = [plain(t) if i == place else torch.ones(t.shape) for i, t in enumerate(tensors)]
            parts.append(torch.einsum(arguments["equation"], others))
    return sum(parts)


@depends("tensordot")
def tensordot(node: Node, arguments: dict) -> Tensor:
    """As the products of masks with ones."""
    one, two = arguments["self"], arguments["other"]
    pairs = [(plain(one), torch.ones(two.shape))] if isinstance(one, Mask) else []
    pairs += [(torch.ones(one.shape), plain(two))] if isinstance(two, Mask) else []
    return sum(torch.tensordot(*pair, (arguments["dims_self"], arguments["dims_other"])) for pair in pairs)


@depends("scaled_dot_product_attention")
def attention(node: Node, arguments: dict) -> Tensor | tuple:
    """A query depends on itself and on all keys and values. A mask does not part them: what it forbids gets a weight of 0, and 0
    times a value that is not finite is not 0."""
    query, key, value = (arguments[name] for name in ("query", "key", "value"))
    if isinstance(arguments["attn_mask"], Mask) or arguments.get("enable_gqa"):
        return everything(node, arguments)
    parts = [plain(query).sum(-1, keepdim=True)] if isinstance(query, Mask) else []
    parts += [plain(each).sum((-2, -1), keepdim=True) for each in (key, value) if isinstance(each, Mask)]
    return sum(part.expand(shape_of(node)) for part in parts)

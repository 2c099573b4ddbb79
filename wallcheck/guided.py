"""Gradients of scores with respect to images, by backpropagation as it is and by guided backpropagation, from one forward.

Guided backpropagation (Springenberg et al. 2015) lets through a rectifier only what is positive on both passes:
dx = dy [x > 0] [dy > 0]. It is done on the graph that autograd recorded, by hooks on this graph's rectifiers that are gone
when the pass is: any module will do, rectifiers may be modules, functions or methods, in place or not, and nothing of the
network is touched. One forward serves both passes, so that batch-norm counts it once.

Rectifiers are ReLU, ReLU6, hardtanh, clamp and threshold with a lower bound of 0. Leaky and smooth activations let through
what they always do.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

# Node of the graph -> the attribute that holds its lower bound; None where the bound is always 0.
RECTIFIERS = {
    "ReluBackward0": None,
    "HardtanhBackward0": "_saved_min_val",
    "ClampMinBackward0": "_saved_min",
    "ClampBackward1": "_saved_min",
    "ThresholdBackward0": "_saved_threshold",
}
# One node that stands for a graph of its own, into which nobody sees.
OPAQUE = ("CompiledFunctionBackward", "CheckpointFunctionBackward", "DifferentiableGraphBackward")
IN_PLACE = {
    "relu_": torch.relu,
    "hardtanh_": F.hardtanh,
    "clamp_": torch.clamp,
    "clamp_min_": torch.clamp_min,
    "threshold_": F.threshold,
}


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Attention by its plain products: torch's fused kernels can be differentiated once."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


class InputGradients(NamedTuple):
    """Both gradients of one score, each of the images' shape."""

    standard: Tensor
    guided: Tensor


def recorded(forward: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """(images, forward(images)) for `input_gradients`: images (B, ...) as a new leaf that asks for its gradient. Attention runs as
    its plain products, which can be differentiated twice; fused kernels cannot."""
    leaf = images.detach().requires_grad_()
    with torch.enable_grad(), _RectifiersOnViews(), twice_differentiable():
        return leaf, forward(leaf.clone())  # a leaf must not be changed in place, which a first layer may do


def input_gradients(
    scores: Tensor, images: Tensor, differentiable: bool = False, detach: bool = True, scale: float = 1.0
) -> InputGradients:
    """d sum(scores) / d images by standard and by guided backpropagation, float32 or wider.

    scores (B,) or any shape, from the images that `recorded` returned. Each image's gradient is its own score's, unless
    batch-norm in training mode ties the images of a batch together: then it is that of all scores.
    differentiable: the gradients can be differentiated again; the guided one too if detach is False.
    scale: what the scores are multiplied by on the way, so that small gradients survive in float16.

    Raises ValueError where no rectifier lies between images and scores, or where the graph cannot be seen.
    """
    rectifiers = list(_rectifiers(scores))
    total = scores.to(torch.promote_types(scores.dtype, torch.float32)).sum() * scale
    with torch.autocast(images.device.type, enabled=False):  # a backward pass runs in the types of its forward
        standard = _gradient(total, images, differentiable)
        with _guiding(rectifiers):
            guided = _gradient(total, images, differentiable and not detach)
    return InputGradients(standard / scale, guided / scale)


def _gradient(total: Tensor, images: Tensor, differentiable: bool) -> Tensor:
    (gradient,) = torch.autograd.grad(total, images, create_graph=differentiable, retain_graph=True)
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))


@contextmanager
def _guiding(rectifiers: list[Node]) -> Iterator[None]:
    """Backward passes through these nodes are guided inside the block."""
    handles = [node.register_prehook(_positive) for node in rectifiers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _positive(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """What arrives at a rectifier from above, without its negative part; its own backward does the rest."""
    return tuple(None if gradient is None else gradient * (gradient > 0) for gradient in gradients)


def _rectifiers(scores: Tensor) -> Iterator[Node]:
    """The rectifiers of the graph behind the scores; raises ValueError if there is none, or none can be seen."""
    found = False
    for node in _nodes(scores):
        name = node.name().split("::")[-1]
        if name in OPAQUE:
            raise ValueError(
                f"the network holds a part whose graph cannot be seen ({name}), so its rectifiers cannot be guided; "
                f"train it without torch.compile, torch.jit and re-entrant checkpoints"
            )
        flag = RECTIFIERS.get(name)
        if name in RECTIFIERS and (flag is None or getattr(node, flag) == 0):
            found = True
            yield node
    if not found:
        raise ValueError(
            "no rectifier (ReLU, ReLU6, clamp at 0) lies between the images and the scores, so that guided and standard "
            "gradients are the same; use a network that has some"
        )


def _nodes(scores: Tensor) -> Iterator[Node]:
    """Every node behind the scores, once."""
    waiting, seen = [scores.grad_fn] if scores.grad_fn is not None else [], set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            yield node
            waiting += [parent for parent, _ in node.next_functions if parent is not None]


class _RectifiersOnViews(TorchFunctionMode):
    """A rectification in place on a view, which autograd hides in its record of the view's base, as one out of place
    and a copy: the same values, and a node of its own."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name, inplace = getattr(function, "__name__", "").split(".")[0], kwargs.get("inplace", False)
        outside: Any = IN_PLACE.get(name, function if inplace and f"{name}_" in (*IN_PLACE, "relu6_") else None)
        given = args[0] if args else kwargs.get("input")
        if outside is None or not isinstance(given, Tensor) or not given._is_view():
            return function(*args, **kwargs)
        rest = {key: value for key, value in kwargs.items() if key not in ("inplace", "input")}
        return given.copy_(outside(given.clone(), *args[1:], **rest))  # what is overwritten is not what backward needs

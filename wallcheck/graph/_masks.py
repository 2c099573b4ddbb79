"""Masks of dependence, and the book of rules: one rule per operation, `everything` for an operation without one.

A rule turns masks of an operation's inputs (float, 1 where something arrives and 0 elsewhere, shaped as the values) into the
mask of its output. It is linear and has no negative weight, so `rule(masks) > 0` carries reach forward, and its transpose, by
one vector-Jacobian product, carries it back: both directions are one text. Rules look at shapes and at constants that select
(indices, masks), never at weights or values.
"""

from collections.abc import Callable
from functools import reduce
from operator import add

from torch import Tensor
from torch.fx import Node

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


def alone(arguments: dict, *names: str) -> Tensor | None:
    """The mask under the first of these names that there is; None where it is a constant, or another argument is a mask too."""
    found = next((arguments[name] for name in names if name in arguments), None)
    return plain(found) if isinstance(found, Mask) and len(masks_in(arguments)) == 1 else None


def shape_of(node: Node) -> tuple[int, ...]:
    return shape_in(node.meta["val"])


def shape_in(value: Tensor) -> tuple[int, ...]:
    return tuple(int(n) for n in value.shape)


def spread(node: Node, total: Tensor) -> Tensor | tuple:
    """A total with one entry along the axes it was taken over, for each position of the output, or of each of several."""
    value = node.meta["val"]
    if isinstance(value, (list, tuple)):
        return tuple(total.expand(shape_in(each)) for each in value)
    return total.expand(shape_in(value))


def everything(node: Node, arguments: dict) -> Tensor | tuple:
    """No rule: each output may depend on each input."""
    return spread(node, sum(mask.sum() for mask in masks_in(arguments)))


def distinct(mask: Tensor) -> Tensor:
    """The mask without what only repeats it: most are the same for all channels, and `expand` to them is free."""
    once = zip(mask.stride(), mask.shape, strict=True)
    return mask[tuple(slice(0, 1) if not stride and size > 1 else slice(None) for stride, size in once)]


def total(masks: list[Tensor]) -> Tensor:
    """Their sum; of one alone itself, not a copy."""
    return reduce(add, masks)


def along(x: Tensor, axis: int, reads: Tensor) -> Tensor:
    """reads (out, length) applied along an axis: output o takes from the positions i where reads[o, i] is 1."""
    shape = list(x.shape)
    shape[axis] = len(reads)
    few = x if x.requires_grad or not x.stride(axis) else distinct(x)
    return (few.movedim(axis, -1) @ reads.to(x).T).movedim(-1, axis).expand(shape)


__all__ = [
    "RULES",
    "Mask",
    "Rule",
    "alone",
    "along",
    "arrived",
    "depends",
    "distinct",
    "everything",
    "masks_in",
    "plain",
    "shape_in",
    "shape_of",
    "spread",
    "total",
]

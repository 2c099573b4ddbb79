"""What an adapter says of its library: how its explainers are known, built on a model, and asked for maps."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

# Arguments of constructors that say where an explainer looks, and not how: another model has its own.
PLACES = (
    "model", "forward_func", "target_layer", "target_layers", "layer", "layers", "fc_layer", "reshape_transform", "input_shape",
    "device_ids", "enable_hooks", "composite", "attr_output", "attribution_method",
)  # fmt: skip
LAYERS = ("target_layers", "target_layer", "layers", "layer")
PLAIN = (bool, int, float, str)


class Library(NamedTuple):
    """One library. No function here imports it before it is called.

    module: its top-level module, by which its objects are known. package: its name for pip.
    holds: explainer -> the model it was built on; None where it was built on none, as a rule set.
    build: (class or partial of one, model, target layer) -> explainer.
    ask: (explainer, model, target layer, images (B, 3, H, W), targets (B,)) -> maps, in the library's own form.
    again: (explainer, model, target layer) -> one like it, built on this model.
    every: () -> name -> what `build` or `ask` takes, light where its default is heavy.
    """

    module: str
    package: str
    holds: Callable[[object], nn.Module | None]
    build: Callable[[Callable, nn.Module, nn.Module], object]
    ask: Callable[[object, nn.Module, nn.Module, Tensor, Tensor], object]
    again: Callable[[object, nn.Module, nn.Module], object]
    every: Callable[[], dict[str, object]]


def maker(explain: object) -> Callable | None:
    """The class that a class, or a partial of one, makes instances of; None for anything else."""
    made = explain.func if isinstance(explain, partial) else explain
    return made if isinstance(made, type) else None


def is_of(explain: object, module: str) -> bool:
    """Does the class of an object, a class, or the function of a partial come from a library? Asked without importing it."""
    inner = explain.func if isinstance(explain, partial) else explain
    if inspect.isroutine(inner):
        return _top(inner) == module
    kind = inner if isinstance(inner, type) else type(inner)
    return any(_top(base) == module for base in kind.__mro__)


def _top(entry: object) -> str:
    return str(getattr(entry, "__module__", "") or "").partition(".")[0]


def parameters(call: Callable) -> list[str]:
    """Names of what a callable takes, `self` left out; none where it does not say."""
    try:
        return list(inspect.signature(call).parameters)
    except (TypeError, ValueError):
        return []


def with_layer(make: Callable, model: nn.Module, layer: nn.Module) -> object:
    """make(model, layer), or make(model) where it asks for no layer; a list of layers where it asks for layers."""
    asked = next((name for name in parameters(make) if name in LAYERS), None)
    if asked is None:
        return make(model)
    return make(model, **{asked: [layer] if asked.endswith("s") else layer})


def options_of(explainer: object) -> dict[str, object]:
    """What an explainer's constructor was given, where it is kept under the same name: how it looks, not where."""
    kept = vars(explainer)
    names = [name for name in parameters(type(explainer)) if name not in PLACES]
    return {name: kept.get(name, kept.get(f"_{name}")) for name in names if name in kept or f"_{name}" in kept}


def alike(made: object, explainer: object) -> object:
    """made, with the plain settings that were set on explainer after it was built."""
    for name, value in vars(explainer).items():
        if isinstance(value, PLAIN):
            setattr(made, name, value)
    return made


def built_again(explainer: object, model: nn.Module, layer: nn.Module) -> object:
    """`Library.again` of a library whose constructors keep what they are given."""
    return alike(with_layer(partial(type(explainer), **options_of(explainer)), model, layer), explainer)

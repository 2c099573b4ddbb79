"""Anything that can be called as an explainer: what it takes is read from the names of its arguments, never tried out."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

NAMES = {
    "model": ("model", "net", "network", "module", "classifier", "forward_func"),
    "layer": ("layer", "target_layer"),
    "layers": ("layers", "target_layers"),
    "images": ("images", "image", "inputs", "input", "x", "input_tensor", "batch", "x_batch", "imgs", "img", "tensor"),
    "targets": (
        "targets", "target", "labels", "label", "y", "classes", "class_idx", "y_batch", "target_class", "target_category"
    ),
}  # fmt: skip
ROLES = {name: role for role, names in NAMES.items() for name in names}
WANTED = (
    "give a function (model, images (B, 3, H, W), targets (B,)) -> maps; (model, layer, images, targets), (images, targets) and "
    "functions (model) or (model, layer) that build an explainer are taken too"
)


class Signature(NamedTuple):
    """The roles of a callable's arguments: in order, and by name of those that are by keyword alone."""

    roles: tuple[str, ...]
    keywords: dict[str, str]

    @property
    def builds(self) -> bool:
        """Does it take a model and no images: is it a factory of explainers?"""
        return "model" in self.all and "images" not in self.all

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.roles, *self.keywords.values())

    def call(self, function: Callable, **given: object) -> object:
        return function(
            *(given[role] for role in self.roles), **{name: given[role] for name, role in self.keywords.items()}
        )


def signature_of(function: Callable) -> Signature:
    """What to hand to a callable: what it cannot do without, and what it has no default but None for. ValueError where its names do
    not tell.

    >>> signature_of(lambda model, images, targets: 0).roles, signature_of(lambda net, target_layer: 0).builds
    (('model', 'images', 'targets'), True)
    >>> signature_of(lambda a, b, c: 0).roles
    ('model', 'images', 'targets')
    """
    inner = function.forward if hasattr(function, "named_modules") and not isinstance(function, type) else function
    try:
        taken = list(inspect.signature(inner).parameters.values())  # a module's __call__ takes anything
    except (TypeError, ValueError):
        raise ValueError(f"{function!r} does not say what it takes; {WANTED}") from None
    known = [one for one in taken if _is_asked(one)]
    plain = [ROLES.get(one.name.lower()) for one in known if one.kind is not one.KEYWORD_ONLY]
    keywords = {one.name: ROLES.get(one.name.lower()) for one in known if one.kind is one.KEYWORD_ONLY}
    if None in plain and len(plain) == 3 and not keywords:
        plain = ["model", "images", "targets"]
    asked = [*plain, *keywords.values()]
    if None in asked or not {"model", "images"} & set(asked) or len(set(asked)) < len(asked):
        names = ", ".join(one.name for one in known)
        raise ValueError(f"{named(function)}({names}) takes what cannot be told from these names; {WANTED}")
    return Signature(tuple(plain), keywords)


def _is_asked(one: inspect.Parameter) -> bool:
    if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
        return False
    return one.default is one.empty or (one.default is None and one.name.lower() in ROLES)


def named(function: object) -> str:
    """What a callable is called in tables: the class or function behind a partial, an instance's class.

    >>> named(named), named(partial(named, 1)), named(lambda model, images, targets: 0)
    ('named', 'named', 'lambda')
    """
    inner = function.func if isinstance(function, partial) else function
    name = getattr(inner, "__name__", None) or type(inner).__name__
    return "lambda" if name == "<lambda>" else name

"""The one door for methods: whatever explains an image, as a Method that runs beside ours.

Taken are a function (model, images, targets) -> maps, its like with other arguments (`_callables`), classes and objects of the
libraries known here (`PEERS`) as they are, and texts: "package.module:function", or a peer's name, "captum.Saliency".

An explainer is given `net.model`, the whole ordinary module, on a clean copy, and what it leaves there is told by a LeftBehind
warning. An object that was built on net.model itself is used as it is; one that was built on any other model is built again, with
its settings, on the copy.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from wallcheck.adapters._callables import WANTED, named, signature_of
from wallcheck.adapters._explainers import Library, is_of, maker
from wallcheck.defaults import callers
from wallcheck.evidence import Evidence
from wallcheck.graph import ordinary
from wallcheck.handed import Handed, one_value, seen
from wallcheck.keeping import HOOKS, UncleanHands, alone, draws, same, traces, undisturbed, untouched
from wallcheck.models import BlindNet
from wallcheck.switches import switches

DEEPEST = 3  # factories of factories


class LeftBehind(UserWarning):
    """An explainer left something behind: hooks, modes, gradients, random state. Its maps stand, and all was put back."""


def library_of(explain: object, libraries: tuple[Library, ...]) -> Library | None:
    return next((one for one in libraries if is_of(explain, one.module)), None)


@dataclass(eq=False)
class Door:
    """The body of a foreign Method: evidence -> the explainer's own maps, on cells or pixels as it was found to give them.

    grid: "cells" or "pixels"; None where it was not found out. told: what was handed over is kept here, call by call, where a list
    is given.
    """

    explain: object
    name: str
    libraries: tuple[Library, ...]
    grid: str | None = None
    told: list[Handed] | None = None
    _copy: tuple = field(default=(None, None), repr=False, compare=False)

    def __call__(self, ev: Evidence) -> Tensor:
        handed = self.handed(ev)
        if self.told is not None:
            self.told.append(handed)
        return handed.own

    def telling(self) -> "Door":
        """The same door, which keeps what comes through."""
        return Door(self.explain, self.name, self.libraries, self.grid, [], self._copy)

    def handed(self, ev: Evidence) -> Handed:
        """The explainer's maps of the evidence's images, measured."""
        maps, facts = self.maps(ev)
        found = seen(maps, ev.net, self.grid)
        return replace(found, facts=(*found.facts, *facts))

    def maps(self, ev: Evidence) -> tuple[Tensor, tuple[str, ...]]:
        """Maps (B, h, w) as the explainer gives them, and what was done to have one value a position."""
        images, targets = ev.images.clone(), ev.targets.clone()
        model = self._model(ev)
        with alone(), self._watched(model, images, targets, ev) as left, undisturbed(ev.seed), draws() as drawn:
            with switches() as switched, torch.enable_grad(), callers():
                found = self._given(model, images, targets)
            left += switched
            maps, facts = one_value(found, len(images), ev.net.image_size, ev.net.wall.seen.shape)
            maps = maps.to(ev.images.device).clone()
        if drawn:
            self._tell([f"the global random state of {', '.join(drawn)} moved on"])
        return maps if maps.dtype == torch.float64 else maps.to(ev.images.dtype), facts

    # -- the model it is given ------------------------------------------------------------------------

    def _model(self, ev: Evidence) -> nn.Module:
        if self.is_bound(ev.net):
            return ev.net.model
        graph, kept = self._copy
        if graph is not ev.graph:
            kept = copy.deepcopy(ordinary(ev.graph.walled))
            self._copy = (ev.graph, kept)
        return kept

    def is_bound(self, net: BlindNet) -> bool:
        """Is the explainer built on net.model? One that takes no model is believed to be."""
        if library := library_of(self.explain, self.libraries):
            return maker(self.explain) is None and library.holds(self.explain) is net.model
        return "model" not in signature_of(self.explain).all

    @contextmanager
    def _watched(self, model: nn.Module, images: Tensor, targets: Tensor, ev: Evidence) -> Iterator[list[str]]:
        """Yields a list that takes what else was left behind."""
        left, flags, switched = traces(model), (images.requires_grad, images.grad), []
        with untouched(model) as changes:
            try:
                yield switched
            except BaseException:
                self._copy = (None, None)  # whatever it was in the middle of
                raise
            found = left()
        if (images.requires_grad, images.grad) != flags:
            found.append("requires_grad or gradients on the images")
        changes = [name for name in changes if not name.startswith(HOOKS)]
        changes += [] if same(images.detach(), ev.images) else ["the images"]
        changes += [] if same(targets.detach(), ev.targets) else ["the targets"]
        if found or switched or changes:
            self._copy = (None, None)
        if changes:
            raise UncleanHands(f"{self.name} changed {', '.join(changes)}; work on copies, x.clone()")
        if found or switched:
            self._tell([*found, *switched])

    def _tell(self, what: list[str]) -> None:
        warnings.warn(f"{self.name} left behind: {'; '.join(what)}. All was put back", LeftBehind, stacklevel=2)

    # -- asking it ------------------------------------------------------------------------------------

    def _given(self, model: nn.Module, images: Tensor, targets: Tensor) -> object:
        """What the explainer returns; what would end the process, or be told of our graph, is told of the explainer."""
        try:
            return self._asked(self.explain, model, images, targets)
        except SystemExit as error:
            raise RuntimeError(f"it left the process with status {error.code}; raise an error instead") from None
        except AttributeError as error:
            if "GraphModule" not in str(error):
                raise
            raise AttributeError(
                f"{error}: the model is handed over as one graph; its target layer is model.target, others are in model.named_modules()"
            ) from None

    def _asked(self, explain: object, model: nn.Module, images: Tensor, targets: Tensor, depth: int = 0) -> object:
        layer = model.target
        if library := library_of(explain, self.libraries):
            return _of_library(library, explain, model, images, targets)
        signature = signature_of(explain)
        given = dict(model=model, layer=layer, layers=[layer], images=images, targets=targets)
        found = signature.call(explain, **given)
        if not signature.builds:
            return found
        if depth >= DEEPEST or not (callable(found) or library_of(found, self.libraries)):
            raise ValueError(
                f"{self.name} takes a model and no images, and built {type(found).__name__}, no explainer; {WANTED}"
            )
        return self._asked(found, model, images, targets, depth + 1)


def _of_library(library: Library, explain: object, model: nn.Module, images: Tensor, targets: Tensor) -> object:
    layer = model.target
    if maker(explain) is not None:
        built = library.build(explain, model, layer)
    elif library.holds(explain) is model:
        return library.ask(explain, model, layer, images, targets)
    else:
        built = library.again(explain, model, layer)
    try:
        return library.ask(built, model, layer, images, targets)
    finally:
        close(built)


def close(explainer: object) -> None:
    """Let go of the hooks that an explainer set when it was built."""
    leave = getattr(type(explainer), "__exit__", None)
    if leave is not None:
        leave(explainer, None, None, None)


def name_of(explain: object, library: Library | None) -> str:
    """What an explainer is called in tables: library.class, or the function's name."""
    if library is None:
        return named(explain)
    given = explain.keywords if isinstance(explain, partial) else {}
    inner = getattr(explain, "attribution_method", None) or getattr(explain, "composite", None)
    name = given.get("method") or named(explain)
    return f"{library.module}.{name}" + (f"({named(inner)})" if inner is not None else "")

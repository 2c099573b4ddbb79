"""One bad method costs itself alone: it is run so that it can harm no other, and what it did wrong is told by image.

wallcheck's own methods share one Evidence and are held to clean hands by their tests. Any other method gets an Evidence of its
own, and the net is given back as it was whatever the method did to it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wallcheck.cams import METHODS, Method
from wallcheck.evidence import Evidence

SHARED = ("activations", "logits", "targets", "gradient")
# What a module consists of and what hangs on it.
PARTS = (
    "_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
)  # fmt: skip
LONGEST = 300  # letters of an error that are told


class UncleanHands(ValueError):
    """A method changed what it was only to look at."""


Use = Callable[[Tensor, list[int]], list[Tensor]]  # raw maps and their places in the batch -> values (N,) of each


class Tried(NamedTuple):
    """What one method gave of a batch, still on its device: places in the batch, values (n,) as `use` gave them, which of the maps
    are NaN or infinite (n,), and place -> error of those that have no map."""

    places: list[int]
    values: list[Tensor]
    bad: Tensor | None
    wrong: dict[int, str]

    def read(self, method: Method, bad: list[bool]) -> tuple[list[int], dict[int, str]]:
        """(which of `places` stand, place -> error of all others); bad: `self.bad`, read."""
        said = f"{method.name} gave NaN or infinity; are the weights finite?"
        wrong = self.wrong | {place: said for place, is_bad in zip(self.places, bad, strict=True) if is_bad}
        return [n for n, is_bad in enumerate(bad) if not is_bad], wrong


def each(method: Method, evidence: Evidence, use: Use) -> tuple[list[int], list, dict[int, str]]:
    """use(raw maps, places) of the images that have one: (their places in the batch, what use gave, place -> error of the others).

    A batch that fails as a whole is tried again image by image, so that one bad image costs no other.
    """
    found = tried(method, evidence, use)
    kept, wrong = found.read(method, [] if found.bad is None else found.bad.tolist())
    if not kept:
        return [], [], wrong
    return [found.places[n] for n in kept], [values[kept] for values in found.values], wrong


def tried(method: Method, evidence: Evidence, use: Use) -> Tried:
    """`each`, not read from the device yet: to read is to wait for it. Maps that are NaN or infinite are used as 0."""
    count = len(evidence.images)
    try:
        raw = maps_of(method, evidence)
        bad = (~torch.isfinite(raw)).flatten(1).any(1)
        places = list(range(count))
        return Tried(places, use(torch.where(bad[:, None, None], 0.0, raw), places), bad, {})
    except Exception as error:  # whatever a stranger's code raises
        told = described(error)
        if count == 1:
            return Tried([], [], None, {0: told})
    return _one_by_one(method, evidence, use, told)


def _one_by_one(method: Method, evidence: Evidence, use: Use, told: str) -> Tried:
    kept, results, wrong = [], [], {}
    for place in range(len(evidence.images)):
        alone = evidence.part(slice(place, place + 1))
        found, values, errors = each(method, alone, lambda raw, _, place=place: use(raw, [place]))
        if found:
            kept.append(place)
            results.append(values)
        else:
            wrong[place] = errors[0]
    if not kept:  # nothing works: what the batch said is what the caller asked
        return Tried([], [], None, dict.fromkeys(wrong, told))
    values = [torch.cat(values) for values in zip(*results, strict=True)]
    return Tried(kept, values, torch.zeros(len(kept), dtype=torch.bool, device=values[0].device), wrong)


def maps_of(method: Method, evidence: Evidence) -> Tensor:
    """method(evidence), harmless to evidence, images and net; raises what the method raises, or UncleanHands."""
    if is_ours(method):
        return method(evidence)
    own = own_copy(evidence)
    with untouched(evidence.net) as changes:
        raw = method(own).clone()
    looked_at = [name for name in ("images", *SHARED) if name in vars(own)]
    changes += [name for name in looked_at if not same(vars(own)[name], getattr(evidence, name))]
    if changes:
        raise UncleanHands(f"{method.name} changed {', '.join(changes)}; work on copies, x.clone()")
    return raw


def is_ours(method: Method) -> bool:
    return METHODS.get(method.name) is method and method.body.__module__.startswith("wallcheck.cams")


def own_copy(evidence: Evidence) -> Evidence:
    """An Evidence that shares no tensor with this one, but need not compute again what is shared."""
    whole = slice(None)
    own = evidence.part(whole)
    own.images = evidence.images.clone()
    for name in SHARED:
        try:
            vars(own)[name] = getattr(evidence, name).clone()
        except RuntimeError:  # a head without derivative: the method may not ask for one
            continue
    return own


@contextmanager
def untouched(net: nn.Module) -> Iterator[list[str]]:
    """Give net back as it was, bit by bit; yields a list that names what had to be put back.

    Modes, gradients and requires_grad are put back without a word, since asking for a gradient may leave them.
    """
    modules = {name: (module, module.training, _parts(module)) for name, module in net.named_modules()}
    tensors = dict([*net.named_parameters(), *net.named_buffers()])
    values = {name: _held(value) for name, value in tensors.items()}
    changes: list[str] = []
    try:
        yield changes
    finally:
        for name, (module, training, parts) in modules.items():
            module.training = training
            changes += [
                f"{part} of {name or 'the net'}" for part in PARTS if _put_back(getattr(module, part), parts[part])
            ]
        for name, value in tensors.items():
            changes += [name] if _restore(value, *values[name]) else []


def _parts(module: nn.Module) -> dict[str, dict]:
    return {part: dict(getattr(module, part)) for part in PARTS}


def _held(value: Tensor) -> tuple[Tensor, bool, Tensor | None, Tensor | None]:
    grad = value.grad
    return value.detach().clone(), value.requires_grad, grad, None if grad is None else grad.detach().clone()


def _put_back(now: dict, before: dict) -> bool:
    if list(now) == list(before) and all(now[name] is before[name] for name in now):
        return False
    now.clear()
    now.update(before)
    return True


def _restore(value: Tensor, before: Tensor, requires_grad: bool, grad: Tensor | None, slope: Tensor | None) -> bool:
    """Put value, and then what goes with it, back; was it another one?"""
    changed = not same(value.detach(), before)
    value.grad = None  # of a type that may not be the value's
    if changed:
        _fill(value, before)
    if value.requires_grad != requires_grad:
        value.requires_grad_(requires_grad)
    if grad is not None and not same(grad, slope):
        _fill(grad, slope)
    value.grad = grad
    return changed


def _fill(value: Tensor, before: Tensor) -> None:
    if value.shape == before.shape and value.dtype == before.dtype:
        with torch.no_grad():
            value.copy_(before)
    else:
        value.data = before


def same(one: Tensor, two: Tensor) -> bool:
    """Equal in shape, type and every value; NaN is NaN."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    return bool(((one == two) | ((one != one) & (two != two))).all())


def described(error: BaseException) -> str:
    """An error of a stranger's code in one line; ours say all there is to say."""
    said = " ".join(str(error).split())[:LONGEST]
    return said if isinstance(error, (ValueError, TypeError)) and said else f"{type(error).__name__}: {said}"

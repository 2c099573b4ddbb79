"""One bad method costs itself alone: it is run so that it can harm no other, and what it did wrong is told by image.

wallcheck's own methods share one Evidence and are held to clean hands by their tests. Any other method gets an Evidence of its
own, and the net is given back as it was whatever the method did to it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


def each(method: Method, evidence: Evidence, use: Use) -> tuple[list[int], list, dict[int, str]]:
    """use(raw maps, places) of the images that have one: (their places in the batch, what use gave, place -> error of the others).

    A batch that fails as a whole is tried again image by image, so that one bad image costs no other.
    """
    count = len(evidence.images)
    try:
        raw = maps_of(method, evidence)
        bad = (~torch.isfinite(raw)).flatten(1).any(1).tolist()
        kept = [place for place in range(count) if not bad[place]]
        wrong = {n: f"{method.name} gave NaN or infinity; are the weights finite?" for n in range(count) if bad[n]}
        return kept, use(raw[kept] if wrong else raw, kept) if kept else [], wrong
    except Exception as error:  # whatever a stranger's code raises
        told = described(error)
        if count == 1:
            return [], [], {0: told}
    return _one_by_one(method, evidence, use, told)


def _one_by_one(method: Method, evidence: Evidence, use: Use, told: str) -> tuple[list[int], list, dict[int, str]]:
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
        return [], [], dict.fromkeys(wrong, told)
    return kept, [torch.cat(values) for values in zip(*results, strict=True)], wrong


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

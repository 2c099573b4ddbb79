"""One bad method costs itself alone: it is run so that it can harm no other, and what it did wrong is told by image.

wallcheck's own methods share one Evidence and are held to clean hands by their tests. Any other method gets an Evidence of its
own, and the net is given back as it was whatever the method did to it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from wallcheck.cams import METHODS, Method
from wallcheck.evidence import Evidence
from wallcheck.keeping import UncleanHands, same, untouched

SHARED = ("activations", "logits", "targets", "gradient")
LONGEST = 300  # letters of an error that are told


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
        found, values, errors = each(method, alone, _of_image(place, use))
        if found:
            kept.append(place)
            results.append(values)
        else:
            wrong[place] = errors[0]
    if not kept:  # nothing works: what the batch said is what the caller asked
        return Tried([], [], None, dict.fromkeys(wrong, told))
    values = [torch.cat(values) for values in zip(*results, strict=True)]
    return Tried(kept, values, torch.zeros(len(kept), dtype=torch.bool, device=values[0].device), wrong)


def _of_image(place: int, use: Use) -> Use:
    """use of the one image at this place of the batch."""
    return lambda raw, _: use(raw, [place])


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


def described(error: BaseException) -> str:
    """An error of a stranger's code in one line; ours say all there is to say."""
    try:
        said = " ".join(str(error).split())[:LONGEST]
    except Exception:  # some errors cannot be told either
        said = ""
    kind = type(error).__name__
    return said if isinstance(error, (ValueError, TypeError)) and said else f"{kind}: {said}" if said else kind

"""One bad method costs itself alone: it is run so that it can harm no other, and what it did wrong is told by image.

wallcheck's own methods share one Evidence and are held to clean hands by their tests. Any other method gets an Evidence of its
own, and the net is given back as it was whatever the method did to it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wallcheck.cams import METHODS, Method
from wallcheck.evidence import Evidence
from wallcheck.keeping import UncleanHands, same, untouched

SHARED = ("activations", "logits", "targets", "gradient")
LONGEST = 300  # letters of an error that are told


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


def described(error: BaseException) -> str:
    """An error of a stranger's code in one line; ours say all there is to say."""
    said = " ".join(str(error).split())[:LONGEST]
    return said if isinstance(error, (ValueError, TypeError)) and said else f"{type(error).__name__}: {said}"

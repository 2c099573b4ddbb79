"""A method held against every metric: its map is made once, and what a metric asks for is made when first asked."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from wallcheck.cams import Method
from wallcheck.evidence import Evidence
from wallcheck.maps import displayed, rectify, upsample
from wallcheck.masking import asked
from wallcheck.metrics import KINDS, Metric, named
from wallcheck.numerics import probabilities

NEARBY, REACH = 10, 0.02


def scores(
    ev: Evidence, method: Method, names: Iterable[str] | None = None, inside: Tensor | None = None
) -> dict[str, Tensor]:
    """Metric -> values (B,) of one method's maps, in double precision; NaN where a metric is not defined on a map.

    names: of `wallcheck.metrics`, None is all that can be had. inside (B, H, W) Boolean: the object, for localisation.
    All is measured on the image: leakage and localisation on the map rectified and upsampled, the others on the
    displayed one (stretched to [0, 1]), max_sensitivity and those of truth on the raw map. Raises LookupError for an unknown
    name, ValueError for a metric of localisation without `inside`, and for one that asks what each cell adds where the head does
    not tell (`Evidence.truth`) or the map has no cells.
    """
    every = [metric for registry in KINDS.values() for metric in registry.values()]
    wanted = (
        [metric for metric in every if can_be_had(metric, ev, method, inside)] if names is None else map(named, names)
    )
    wanted = list(wanted)
    needed = {part.name: part for metric in wanted for part in (*map(named, metric.of), metric)}
    found = measured(ev, method, [metric for metric in needed.values() if not metric.of], inside)
    for metric in needed.values():
        if metric.of:
            found[metric.name] = metric(*(found[name] for name in metric.of))
    return {metric.name: found[metric.name] for metric in wanted}


def can_be_had(metric: Metric, ev: Evidence, method: Method, inside: Tensor | None) -> bool:
    """Is all known that the metric asks for?"""
    if metric.kind == "localisation":
        return inside is not None
    return metric.asks != "contributions" or (method.grid == "cells" and ev.truth is not None)


def measured(ev: Evidence, method: Method, metrics: list[Metric], inside: Tensor | None) -> dict[str, Tensor]:
    """`scores` of metrics that are not combined of others."""
    raw = method(ev)
    shown, bright = displayed(raw, ev.net.image_size), upsample(rectify(raw), ev.net.image_size)
    of_kind = {kind: [metric for metric in metrics if metric.kind == kind] for kind in KINDS}
    found: dict[str, Tensor] = {}
    if of_kind["leakage"]:
        unseen, halo = (torch.from_numpy(r.copy()).to(raw.device) for r in (ev.regions.unseen, ev.regions.halo))
        found |= {metric.name: metric(bright, unseen, ~halo) for metric in of_kind["leakage"]}
    if of_kind["localisation"]:
        if inside is None:
            raise ValueError(
                f"{of_kind['localisation'][0].name} needs to know where the object is; give its mask as `inside` (B, H, W)"
            )
        found |= {metric.name: metric(bright, inside) for metric in of_kind["localisation"]}
    if of_kind["faithfulness"]:
        before = ev.of_target(probabilities(ev.logits.double()))
        answers = asked(ev, shown, names=[metric.asks for metric in of_kind["faithfulness"]])
        found |= {metric.name: metric(before, answers[metric.asks]) for metric in of_kind["faithfulness"]}
    for metric in of_kind["truth"]:
        found[metric.name] = metric(raw, *contributions(ev, method, metric))
    for metric in of_kind["consistency"]:
        found[metric.name] = metric(*compared(ev, method, raw, shown)[metric.asks]())
    return {name: value.double() for name, value in found.items()}


def contributions(ev: Evidence, method: Method, metric: Metric) -> tuple[Tensor, ...]:
    """What a metric of truth holds a map against; ValueError where that is not known."""
    if metric.asks == "itself":
        return ()
    if method.grid != "cells" or ev.truth is None:
        why = (
            "the net's head does not add up over cells"
            if method.grid == "cells"
            else f"{method.name} has pixels, not cells"
        )
        raise ValueError(
            f"{metric.name} asks what each cell adds to the logit, and {why}; leave it out, or use a net whose head pools or "
            f"flattens the map and ends in one linear layer"
        )
    return (ev.truth,)


def compared(ev: Evidence, method: Method, raw: Tensor, shown: Tensor) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """What a consistency metric compares, by what it asks for."""
    return {
        "itself": lambda: (shown,),
        "again": lambda: (shown, displayed(method(ev.at(ev.images * shown[:, None])), ev.net.image_size)),
        "nearby": lambda: (raw, torch.stack([method(ev.at(images)) for images in nearby(ev)], 1)),
    }


def nearby(ev: Evidence) -> Iterable[Tensor]:
    """Ten times the images, each pixel moved by at most 0.02; the same way in every image."""
    draw = ev.generator(salt=74)
    for _ in range(NEARBY):
        moved = torch.rand(ev.images.shape[1:], generator=draw, dtype=torch.float64).to(ev.images.device)
        yield ev.images + (REACH * (2 * moved - 1)).to(ev.images)

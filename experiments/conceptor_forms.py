"""Base methods and their conceptor forms: which relations between channels, which Boolean operation, which aperture."""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from wallcheck.auditing import finite
from wallcheck.cams import METHODS, Method
from wallcheck.cams.ablation.attribution import lift_weights, lrp_weights
from wallcheck.cams.ablation.channels import ablation_drops
from wallcheck.cams.conceptor.algebra import through_or, through_states
from wallcheck.cams.conceptor.methods import conceptor, hirescam_evidence
from wallcheck.cams.pooled.gradients import gradcam_weights, plusplus_weights, xgradcam_weights
from wallcheck.evidence import Evidence
from wallcheck.models import BlindNet

BASE, PLAIN = "base", "both, AND NOT"
FORMS: dict[str, dict[str, object]] = {
    PLAIN: {},
    "inter": dict(intra=False),
    "intra": dict(inter=False),
    "both, OR": dict(combined=through_or),
    "both, no Boolean": dict(combined=through_states),
    "aperture x 1/16": dict(widening=1 / 16),
    "aperture x 1/4": dict(widening=1 / 4),
    "aperture x 4": dict(widening=4.0),
    "aperture x 16": dict(widening=16.0),
}
NOT_BASES = ("control", "conceptor", "repair", "peer")
WEIGHTS: dict[str, Callable[[Evidence], Tensor]] = {
    "gradcam": gradcam_weights,
    "gradcampp": lambda ev: plusplus_weights(ev.activations, ev.gradient),
    "xgradcam": xgradcam_weights,
    "ablationcam": lambda ev: ev.once(ablation_drops),
    "liftcam": lift_weights,
    "lrpcam": lrp_weights,
}
RUNS_OFTEN = (  # left to --full: each takes as long as all others together
    "opticam",
    "opticam_authors",
    "sscam",
    "sscam_input",
    "iscam",
    "iscam_torchcam",
)


def bases_of(net: BlindNet, names: Sequence[str], dear: bool) -> list[Method]:
    """Every method on cells that is defined on the net and no control, conceptor or repair; or those named.

    dear: with those that run the net some hundreds of times for an image.
    """
    if names:
        return [METHODS[name] for name in names]
    every = [m for m in METHODS.values() if m.grid == "cells" and m.family not in NOT_BASES and not m.refuses(net)]
    return [m for m in every if dear or m.name not in RUNS_OFTEN]


def evidence_of(base: Method, raw: Tensor) -> Method | Callable[[Evidence], Tensor]:
    """What `conceptor` filters: w_k A_k where the base has such weights, G A for HiResCAM; else the base's map `raw`, which is
    shared among the channels."""
    if base.name in WEIGHTS:
        return lambda ev: WEIGHTS[base.name](ev)[..., None, None] * ev.activations
    if base.name == "hirescam":
        return hirescam_evidence
    return Method(base.name, lambda ev: raw, base.family, base.source, base.cost, base.verdict)


def maps_of(ev: Evidence, base: Method) -> Iterator[tuple[str, Tensor]]:
    """(form, raw map) of the base and of each of its conceptor forms."""
    raw = finite(base, base(ev))
    yield BASE, raw
    for form, settings in FORMS.items():
        with ev.plainly():
            yield form, conceptor(evidence_of(base, raw), **settings)(ev)

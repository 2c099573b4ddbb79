"""Conceptor-CAM: a base method's evidence filtered by conceptors of its channels and of its cells.

Qian et al. 2022 (arXiv 2201.08636; IEEE TIP). Known of the paper here is what its abstract says:
conceptors, freed from recurrent nets, model relations between channels (inter-channel) and within
them (intra-channel); Boolean operations combine positive and pseudo-negative evidence; any CAM method
can be the base (here: any whose map is on the cells). No code of the authors was found. The rest is ours:

* evidence E (B, K, h, w), per channel and cell, that sums over channels to the base map: w_k A_k for a
  base with channel weights, G * A for HiResCAM, and for any other method its map shared out among the
  channels in proportion to their activation;
* positive and pseudo-negative states are relu(E) and relu(-E) (`by_cell`), or the activations of each
  channel times relu(v_k) and relu(-v_k), v_k = sum_u E_k(u) (`by_channel`);
* inter-channel: states are cells, a K x K conceptor; intra-channel: states are channels, Z x Z;
* each is (positive) AND NOT (pseudo-negative), or with `combined=through_or` (positive) OR (pseudo-negative), at one
  aperture: the one at which the positive conceptor's ||C||_F^2 changes fastest with log aperture (Jaeger 2014), so
  that weak opposition weighs little;
* map = sum_k [C_inter E C_intra]_k, signed.

No positive evidence gives the zero map, unless it is OR. With channel weights of `by_cell` the positive and negative
channels are different ones, so between channels AND NOT changes nothing; within them it does. (positive) AND
(pseudo-negative) has no method: between such channels it is 0, and within them it is 0 but for chance where there are fewer
channels than cells, since two small subspaces share no direction.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from torch import Tensor

from wallcheck.cams._method import Method, cam_method
from wallcheck.cams.ablation.attribution import lift_weights, liftcam
from wallcheck.cams.conceptor.algebra import absorbing, through_and_not, through_or
from wallcheck.cams.pooled.gradients import gradcam_weights, plusplus_weights
from wallcheck.evidence import Evidence
from wallcheck.numerics import ratio

States = Callable[[Evidence, Tensor], tuple[Tensor, Tensor]]
Boolean = Callable[[Tensor, Tensor, Tensor], Tensor]  # rows, states for and against -> rows through the conceptor


def by_cell(ev: Evidence, evidence: Tensor) -> tuple[Tensor, Tensor]:
    """Evidence for and against, each where it stands; a cell without evidence has no states."""
    return evidence.clamp(min=0), (-evidence).clamp(min=0)


def by_channel(ev: Evidence, evidence: Tensor) -> tuple[Tensor, Tensor]:
    """Whole channels, for or against by their total evidence; unseen cells have states like any other."""
    vote = evidence.sum((2, 3), keepdim=True)
    return ev.activations * vote.clamp(min=0), ev.activations * (-vote).clamp(min=0)


def conceptor(
    base: Method | Callable[[Evidence], Tensor],
    *,
    inter: bool = True,
    intra: bool = True,
    states: States = by_cell,
    combined: Boolean = through_and_not,
    widening: float = 1.0,
) -> Callable[[Evidence], Tensor]:
    """The base, a method or a function Evidence -> evidence (B, K, h, w), filtered by conceptors.

    A base whose map is on the pixels has no cells to relate: ValueError.

    inter, intra: which of the two relations to use; with neither the map is the base's. combined: how the conceptors
    of the states for and against become one, `through_and_not` or `through_or`; `through_states`
    takes those for it alone. widening: what the best aperture is multiplied by.
    """
    if isinstance(base, Method) and base.grid != "cells":
        raise ValueError(
            f"{base.name} gives a map of pixels, conceptors relate the cells and channels of the target layer; "
            f"choose a base whose grid is 'cells'"
        )
    known = with_aperture(shared_among_channels(base) if isinstance(base, Method) else base, states)

    def filtered(ev: Evidence) -> Tensor:
        evidence, aperture = ev.once(known)
        positive, negative = (part.flatten(2).double() for part in states(ev, evidence))
        scale = widening * aperture  # one for both relations and both signs
        positive, negative = scale * positive, scale * negative
        row = positive.new_ones(len(positive), 1, positive.shape[1])  # the sum over channels, from the left
        if inter:
            row = combined(row, positive, negative)
        row = row @ evidence.flatten(2).double()
        if intra:
            row = combined(row, positive.mT, negative.mT)
        return row.view(len(row), *evidence.shape[2:]).to(evidence.dtype)

    return filtered


@cache
def with_aperture(
    evidence_of: Callable[[Evidence], Tensor], states: States
) -> Callable[[Evidence], tuple[Tensor, Tensor]]:
    """Evidence -> (evidence (B, K, h, w), the best aperture of its positive states (B, 1, 1)): what methods of one base share."""

    def found(ev: Evidence) -> tuple[Tensor, Tensor]:
        evidence = evidence_of(ev)
        return evidence, absorbing(states(ev, evidence)[0].flatten(2).double())

    return found


def shared_among_channels(base: Method) -> Callable[[Evidence], Tensor]:
    """The base's map at each cell, shared among the channels in proportion to their activation (>= 0) there.

    A cell without activation has no channel to carry its value, which is lost.
    """

    def evidence(ev: Evidence) -> Tensor:
        positive = ev.activations.clamp(min=0)
        return base(ev)[:, None] * ratio(positive, positive.sum(1, keepdim=True))

    return evidence


# -- evidence of some bases -----------------------------------------------------------------------


def gradcam_evidence(ev: Evidence) -> Tensor:
    return gradcam_weights(ev)[..., None, None] * ev.activations


def gradcampp_evidence(ev: Evidence) -> Tensor:
    return plusplus_weights(ev.activations, ev.gradient)[..., None, None] * ev.activations


def hirescam_evidence(ev: Evidence) -> Tensor:
    return ev.gradient * ev.activations


def liftcam_evidence(ev: Evidence) -> Tensor:
    return lift_weights(ev)[..., None, None] * ev.activations


CONCEPTOR: dict[str, Any] = dict(
    family="conceptor", source="Qian et al. 2022 after the abstract; the rest is ours, see cams/conceptor"
)

for name, evidence in (("gradcam", gradcam_evidence), ("gradcampp", gradcampp_evidence)):
    cam_method(**CONCEPTOR, name=f"conceptor_{name}", cost="1F+1b", verdict="may_leak")(conceptor(evidence))

conceptor_gradcam_or = cam_method(**CONCEPTOR, name="conceptor_gradcam_or", cost="1F+1b", verdict="may_leak")(
    conceptor(gradcam_evidence, combined=through_or)
)

conceptor_liftcam = cam_method(
    **CONCEPTOR, name="conceptor_liftcam", cost="1F+2f+1b", verdict="may_leak", refuses=liftcam.refuses
)(conceptor(liftcam_evidence))

# Gated evidence has no states at unseen cells, so its conceptors do not know them.
conceptor_hirescam = cam_method(**CONCEPTOR, name="conceptor_hirescam", cost="1F+1b", verdict="zero")(
    conceptor(hirescam_evidence)
)
conceptor_hirescam_inter = cam_method(**CONCEPTOR, name="conceptor_hirescam_inter", cost="1F+1b", verdict="zero")(
    conceptor(hirescam_evidence, intra=False)
)

# Cells related by what channels show at them, seen or not: this carries evidence across the wall.
conceptor_hirescam_channels = cam_method(
    **CONCEPTOR, name="conceptor_hirescam_channels", cost="1F+1b", verdict="may_leak"
)(conceptor(hirescam_evidence, states=by_channel))
conceptor_gradcam_channels = cam_method(
    **CONCEPTOR, name="conceptor_gradcam_channels", cost="1F+1b", verdict="may_leak"
)(conceptor(gradcam_evidence, states=by_channel))

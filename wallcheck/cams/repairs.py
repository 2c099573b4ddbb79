"""Repairs: a base method made blind where the model is blind.

`sealed(base)` is the base's map where the head's gradient can reach, and 0 elsewhere. It needs no
knowledge of a wall and no change of the base, so it repairs any method on any model; what it
cannot repair is the map in front of the wall, whose weights may still have been chosen by what is
behind it.

Exact repairs of one method only stand with their family: `eigengradcam_uncentred` (not centred),
`lift_elementwise` (summed over channels), Recipro-CAM less the empty map's score; LeGrad times attention, Grad-ECLIP with the
network's own attention, ViT-ReciproCAM less the class token's score. Centring RISE (`rise_centred`) takes its floor away in
expectation only, so it is sealed here too.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wallcheck.cams._method import Method, cam_method
from wallcheck.cams.ablation import attribution
from wallcheck.cams.ablation import channels as ablation
from wallcheck.cams.pixel import masks as pixel_masks
from wallcheck.cams.pooled import gradients as pooled
from wallcheck.cams.rescoring import scores as rescoring
from wallcheck.cams.subspace import eigen as subspace
from wallcheck.evidence import Evidence

PROBES = 16


def sealed(
    base: Method,
    reach: Callable[[Evidence, str], Tensor] | None = None,
) -> Callable[[Evidence], Tensor]:
    """The base's map, 0 where reach(evidence, grid) (h, w), (B, h, w) or their like for pixels, is False.

    reach: `gradient_reach` unless told otherwise; `declared_reach` believes the net's own wall.
    """

    def repaired(ev: Evidence) -> Tensor:
        open_ = (reach or gradient_reach)(ev, base.grid)
        return torch.where(open_, base(ev), 0.0)

    return repaired


def declared_reach(ev: Evidence, grid: str) -> Tensor:
    """(h, w) or (H, W): what the wall of the net says is seen. Free, but only a BlindNet declares it."""
    return ~ev.unseen if grid == "cells" else torch.from_numpy(~ev.regions.unseen).to(ev.images.device)


def gradient_reach(ev: Evidence, grid: str) -> Tensor:
    """(B, h, w) or (B, H, W): where the gradient of some logit is not exactly 0, for the image itself or for a probe.

    One image's gradient misses what its saturated ReLUs hide, so random probes are asked too: the
    cell is sealed when none of them, with random weights on all logits, moves anything there. Where no
    path leads, no probe can find one, so nothing unseen is ever opened; a seen cell behind units that are saturated
    for every probe too is sealed with the rest. The probes are the same for
    every image.
    """
    return ev.once(cell_reach if grid == "cells" else pixel_reach)


def cell_reach(ev: Evidence) -> Tensor:
    """(B, h, w): probes are |noise| in the target layer, of standard deviations from 0.1 to 10."""
    own = (ev.gradient != 0).any(1)
    drawn = probes(ev, (PROBES, *ev.activations.shape[1:]), salt=51).abs()
    beside = ev.beside_of(
        torch.zeros(len(drawn), dtype=torch.long), len(drawn)
    )  # of the first image: reach is the graph's
    return own | reached(ev, drawn, lambda leaf: ev.graph.logits(leaf, beside))


def pixel_reach(ev: Evidence) -> Tensor:
    """(B, H, W): probes are noise images."""
    drawn = probes(ev, (PROBES, *ev.images.shape[1:]), salt=52)
    return reached(ev, drawn, ev.logits_of) | reached(ev, ev.images, ev.logits_of, each=True)


def probes(ev: Evidence, shape: tuple[int, ...], salt: int) -> Tensor:
    """Gaussian noise, the first probes small and the last large: a bias hides a small one, saturation a large one."""
    noise = torch.randn(shape, generator=ev.generator(salt=salt), dtype=torch.float64)
    return (noise * torch.logspace(-1, 1, shape[0])[:, None, None, None]).to(ev.images)


def reached(ev: Evidence, inputs: Tensor, logits_of: Callable[[Tensor], Tensor], each: bool = False) -> Tensor:
    """Where d (random mix of logits) / d inputs is not 0 in some channel: (h, w) over all inputs, or (N, h, w) for each."""
    with ev.plainly(), torch.enable_grad():
        leaf = inputs.detach().requires_grad_()
        logits = logits_of(leaf)
        mix = torch.randn(logits.shape[1], generator=ev.generator(salt=53)).to(logits)
        (gradient,) = torch.autograd.grad((logits @ mix).sum(), leaf)
    found = (gradient != 0).any(1)
    return found if each else found.any(0)


REPAIR: dict[str, Any] = dict(family="repair", verdict="zero")
BASES = (
    pooled.gradcam,
    pooled.gradcampp,
    pooled.xgradcam,
    ablation.ablationcam,
    rescoring.scorecam,
    attribution.liftcam,
    subspace.eigencam,
    pixel_masks.rise,
    pixel_masks.rise_centred,
)

for base in BASES:
    cam_method(
        **REPAIR,
        name=f"sealed_{base.name}",
        source=f"wallcheck: {base.source}; sealed by the gradient's reach",
        cost=f"{base.cost}+{f'1b+{PROBES}(f+b)' if base.grid == 'cells' else f'{PROBES + 1}(F+B)'}",
        grid=base.grid,
        refuses=base.refuses,
        repairs=base.name,
    )(sealed(base))

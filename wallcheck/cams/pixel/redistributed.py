"""Pixel level, from a map of cells: what Grad-CAM gives each unit of the target layer, handed down to the pixels it was made of."""

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.cams.pixel.rules import RULED, RULES_KEEP
from wallcheck.cams.pooled.gradients import gradcam_weights
from wallcheck.evidence import Evidence
from wallcheck.graph import following
from wallcheck.graph.following import NORMS, WEIGHTED, Step, lacking
from wallcheck.graph.rules import positive, shared, straight
from wallcheck.models import BlindNet
from wallcheck.numerics import ratio


def undescended(net: BlindNet) -> str | None:
    """For Method.refuses: why relevance cannot be followed from the target layer to the pixels."""
    if net.graph.has_beside:
        return "what runs beside its cells would take a share of them; use a method of gradients"
    return lacking(net.graph.features, RULED)


@cam_method(
    family="pixel",
    grid="pixels",
    source="Qiu et al. 2023 (FG-CAM) over Grad-CAM, without denoising, the authors' code: z+ without biases, norms hand on what they "
    "are given, z^B at the pixels between the image's least and largest value",
    cost="2F+1B+1b",
    verdict="may_leak",
    refuses=undescended,
)
def fgcam(ev: Evidence) -> Tensor:
    """R_k(u) = mean G_k A_k(u), from the target layer down R_i = sum_j (x_i w_ij)+ R_j / sum_i (x_i w_ij)+; summed over colours.

    At the pixels (x_i w_ij - l w_ij+ - h w_ij-) takes the place of (x_i w_ij)+, l and h the least and the largest value of the
    image. The channel weights are Grad-CAM's: an unseen cell has its share, and hands it to the pixels that it looks at.
    """
    return ev.in_portions(_handed_to_pixels, RULES_KEEP * ev.graph.kept_whole)


def _handed_to_pixels(ev: Evidence) -> Tensor:
    form = ev.graph.form
    with ev.plainly(), torch.enable_grad():
        leaf = ev.images.detach().requires_grad_()
        top = form.cells(following.through(ev.graph.features, handed_down, leaf, first=bounded))
        start = gradcam_weights(ev)[:, :, None, None].expand_as(top)
        (relevance,) = torch.autograd.grad(top, leaf, start)
    return relevance.sum(1)


def handed_down(step: Step, *rows: Tensor) -> Tensor:
    """z+ where there are weights; a batch norm hands on the relevance it is given."""
    if step.op in NORMS:
        out = step.apply(rows[0].detach())
        return straight(out, ratio(out, rows[0].detach()), rows[0])
    return positive(step, *rows)


def bounded(step: Step, *rows: Tensor) -> Tensor:
    """z^B for pixels, no bias: shares x w - l w+ - h w-, l and h the least and largest value of each image; the slope is the
    relevance itself. What only moves pixels is handed on."""
    if step.op not in WEIGHTED:
        return step.apply(*rows)
    pixels = rows[0].detach()
    unit = torch.ones_like(pixels) + (rows[0] - pixels)
    low, high = pixels.amin((1, 2, 3), keepdim=True), pixels.amax((1, 2, 3), keepdim=True)
    part = step.reweighted(lambda w: w, bias=False)(pixels * unit)
    part = part - step.reweighted(lambda w: w.clamp(min=0), bias=False)(low * unit)
    part = part - step.reweighted(lambda w: w.clamp(max=0), bias=False)(high * unit)
    return shared(step, rows[0], part)

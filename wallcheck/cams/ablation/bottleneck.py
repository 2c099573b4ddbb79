"""Information bottleneck attribution (IBA): what of the layer may be drowned in noise before the class suffers."""

import torch
from torch import Tensor

from wallcheck.cams._blur import reflected
from wallcheck.cams._method import cam_method
from wallcheck.cams.rescoring.learnt import in_double
from wallcheck.evidence import Evidence
from wallcheck.memory import slices
from wallcheck.numerics import log_probabilities

START, RATE, STEPS, COPIES, BETA = 5.0, 1.0, 10, 10, 10.0
SIGMA, REACH = 1.0, 2  # of the Gaussian over lambda, in cells
BETAS, FLOOR = (0.9, 0.999), 1e-8  # Adam's memories, and its epsilon in units of the slope
SALT = 42


@cam_method(
    family="ablation",
    source="Schulz et al. 2020 (IBA), per sample, as the authors' code but for the noise: its mean and deviation are a channel's own "
    "over the cells of the image, there a unit's over a data set, with deviations of at least 0.01; in nats; float64",
    cost="1F+100(f+b)",
    verdict="leaks",
)
def iba(ev: Evidence) -> Tensor:
    """sum_k KL(u) of z = l r + (1 - l) e from noise e alone: how many nats of the layer r get through, after 9 steps of Adam.

    l = G * sigmoid(a), one a for each unit, G a Gaussian of one cell over cells, a from 5 at rate 1 down the slope of
    -log p(z) + 10 mean KL, -log p averaged over 10 draws of e. The draws of a step are the same for all images. A channel of one
    value carries nothing and is handed on as it is.

    Given this mean and deviation the authors' code has the same map, in bits. Noise that knew a data set would make a map depend
    on more than net and image. Nothing asks for the units behind the wall,
    but ten steps do not shut them: some nats are left there. Adam gives a slope that is all rounding a full step, hence float64.
    """
    precise = ev.once(in_double)
    size = precise.chunk(6 * COPIES * precise.activations[0].numel())  # a backward keeps what the head made
    maps = [
        information(precise, torch.arange(piece.start, piece.stop, device=ev.images.device))
        for piece in slices(0, len(ev.images), size)
    ]
    return torch.cat(maps).to(ev.activations)


def information(ev: Evidence, which: Tensor) -> Tensor:
    """(n, h, w): nats that pass, for the images of these numbers, on the way of the search's last step."""
    layer = ev.activations[which]
    mean, deviation = layer.mean((2, 3), keepdim=True), layer.std((2, 3), correction=0, keepdim=True)
    varied = layer.amax((2, 3), keepdim=True) > layer.amin((2, 3), keepdim=True)
    normal = ((layer - mean) / deviation.where(varied, 1.0)).masked_fill(~varied, 0)
    logits, first, second = (torch.full_like(layer, value) for value in (START, 0.0, 0.0))
    draw = ev.generator(salt=SALT)
    for step in range(1, STEPS + 1):
        noise = torch.randn(COPIES, *layer.shape[1:], generator=draw, dtype=layer.dtype).to(layer)
        fields = mean[:, None] + (deviation * varied)[:, None] * noise  # (n, copies, K, h, w)
        passed, slope = slope_of_passing(ev, which, logits, normal, varied, layer, fields)
        first = BETAS[0] * first + (1 - BETAS[0]) * slope
        second = BETAS[1] * second + (1 - BETAS[1]) * slope.square()
        spread = (second / (1 - BETAS[1] ** step)).sqrt()
        logits = logits - RATE * first / (1 - BETAS[0] ** step) / (spread + FLOOR)
    return passed


def slope_of_passing(
    ev: Evidence, which: Tensor, logits: Tensor, normal: Tensor, varied: Tensor, layer: Tensor, fields: Tensor
) -> tuple[Tensor, Tensor]:
    """Nats that pass each cell, (n, h, w), and the slope of the loss in the logits of lambda, (n, K, h, w)."""
    beside = ev.beside_of(which.repeat_interleave(COPIES), len(which) * COPIES)
    with ev.plainly(), torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        share = smoothed(leaf.sigmoid())
        nats = -0.5 * (1 + 2 * (1 - share).log() - (share * normal).square() - (1 - share).square()) * varied
        mixed = share[:, None] * layer[:, None] + (1 - share)[:, None] * fields
        answers = log_probabilities(ev.graph.logits(mixed.flatten(0, 1), beside))
        lost = -ev.of_target(answers, which.repeat_interleave(COPIES)).unflatten(0, (len(which), COPIES)).mean(1)
        (slope,) = torch.autograd.grad((lost + BETA * nats.mean((1, 2, 3))).sum(), leaf)
    return nats.detach().sum(1), slope


def smoothed(shares: Tensor) -> Tensor:
    """(n, K, h, w) -> same: a Gaussian of one cell, cut at two, reflected at the border."""
    rows, columns = (reflected(size, REACH, SIGMA).to(shares) for size in shares.shape[-2:])
    return rows @ (shares @ columns.T)

"""Pixel level, by gradients and backward rules: what a pixel cannot change, it is not given.

All maps are signed sums over the colour channels. Papers that show max |.| over colours or drop the
negative part do so for display.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wallcheck.cams._method import cam_method
from wallcheck.cams._slopes import gradients_at, image_gradient
from wallcheck.cams.pixel import rules
from wallcheck.cams.pooled.gradients import gradcam
from wallcheck.evidence import Evidence
from wallcheck.graph.rules import alpha_beta, damped, favouring, guided, rescale, squared_weights
from wallcheck.numerics import in_double, ratio

PIXEL: dict[str, Any] = dict(family="pixel", grid="pixels", verdict="zero")
RULED: dict[str, Any] = PIXEL | dict(refuses=rules.unruled)
EXCITED: dict[str, Any] = PIXEL | dict(refuses=rules.unexcited)
COPIES, SPREAD = 12, 0.15  # of SmoothGrad and its kin; the spread in units of the image's range


@cam_method(**PIXEL, source="Simonyan et al. 2014, sec. 3; signed, summed over colours", cost="1F+1B")
def gradient(ev: Evidence) -> Tensor:
    """d y / d x."""
    return image_gradient(ev, ev.images).sum(1)


@cam_method(**PIXEL, source="Shrikumar et al. 2016 (1605.01713)", cost="1F+1B")
def inputxgradient(ev: Evidence) -> Tensor:
    """x * d y / d x; equal to LRP-0. 0 for a black image (0 after normalisation)."""
    return (ev.images * image_gradient(ev, ev.images)).sum(1)


def integrated_gradients_with(steps: int) -> Callable[[Evidence], Tensor]:
    """Integrated Gradients from a black image by Gauss-Legendre quadrature with this many steps."""
    places, weights = np.polynomial.legendre.leggauss(steps)

    def integrated(ev: Evidence) -> Tensor:
        """x * int_0^1 dy/dx (t x) dt. Sums to y(x) - y(0) up to the quadrature's error at kinks."""
        slopes = gradients_at(ev, ((place + 1) / 2 * ev.images for place in places.tolist()))
        gradients = sum(weight / 2 * slope for weight, slope in zip(weights.tolist(), slopes, strict=True))
        return (ev.images * gradients).sum(1)

    return integrated


@cache
def noisy_gradients_with(samples: int, spread: float) -> Callable[[Evidence], tuple[Tensor, Tensor]]:
    """Evidence -> (mean, sum of squared deviations from it), (B, 3, H, W) each, of dy/dx at this many noisy copies, noise of
    `spread` times the image's own range; the draws are the same for every image. Added up so that equal gradients deviate by
    exactly 0."""

    def noisy_gradients(ev: Evidence) -> tuple[Tensor, Tensor]:
        flat, draws = ev.images.flatten(1), ev.generator(salt=31)
        sigma = spread * (flat.amax(1) - flat.amin(1))[:, None, None, None]
        mean, deviations = torch.zeros_like(ev.images), torch.zeros_like(in_double(ev.images))
        noise = (torch.randn(ev.images.shape[1:], generator=draws, dtype=torch.float64) for _ in range(samples))
        points = (ev.images + sigma * drawn.to(mean) for drawn in noise)
        for count, slope in enumerate(gradients_at(ev, points), start=1):
            away = slope - mean
            mean = mean + away / count
            deviations = deviations + in_double(away) * (
                slope - mean
            )  # squares of slopes of 1e-21 are no single-precision numbers
        return mean, deviations

    return noisy_gradients


def smoothgrad_with(samples: int, spread: float) -> Callable[[Evidence], Tensor]:
    """SmoothGrad with this many noisy copies, see `noisy_gradients_with`."""

    def smoothed(ev: Evidence) -> Tensor:
        """mean over noise of dy/dx (x + noise)."""
        mean, _ = ev.once(noisy_gradients_with(samples, spread))
        return mean.sum(1)

    return smoothed


integrated_gradients = cam_method(
    **PIXEL,
    name="integrated_gradients",
    source="Sundararajan et al. 2017, eq. 1, black baseline; 16 Gauss-Legendre steps (captum: 50)",
    cost="16(F+B)",
)(integrated_gradients_with(16))

smoothgrad = cam_method(
    **PIXEL,
    name="smoothgrad",
    source="Smilkov et al. 2017, noise 15 % of the range; 12 copies (paper: 50), signed",
    cost="12(F+B)",
)(smoothgrad_with(COPIES, SPREAD))


@cam_method(
    **PIXEL,
    source="Adebayo et al. 2018 (VarGrad), the noise and copies of `smoothgrad`; unbiased variance, summed over colours",
    cost="12(F+B)",
)
def vargrad(ev: Evidence) -> Tensor:
    """The variance over noise of dy/dx (x + noise). Never negative; 0 where the net is linear around the image."""
    _, deviations = ev.once(noisy_gradients_with(COPIES, SPREAD))
    return deviations.sum(1) / (COPIES - 1)


@cam_method(
    **PIXEL,
    source="Hooker et al. 2019 (SmoothGrad-Squared), the noise and copies of `smoothgrad`; summed over colours",
    cost="12(F+B)",
)
def squaregrad(ev: Evidence) -> Tensor:
    """The mean over noise of the square of dy/dx (x + noise): SmoothGrad's square plus the variance."""
    mean, deviations = ev.once(noisy_gradients_with(COPIES, SPREAD))
    return (in_double(mean).square() + deviations / COPIES).sum(1)


@cam_method(**RULED, source="Springenberg et al. 2015", cost="1F+1B")
def guidedbp(ev: Evidence) -> Tensor:
    """The gradient with every ReLU handing back positive slopes only."""
    return rules.image_slope(ev, guided).sum(1)


@cam_method(**RULED, source="Selvaraju et al. 2017, sec. 3.3; relu(Grad-CAM) enlarged bilinearly", cost="1F+1B+1b")
def guidedgradcam(ev: Evidence) -> Tensor:
    """U(relu(Grad-CAM)) * guided backprop: the second factor seals what the first leaks, at pixels."""
    coarse = gradcam(ev).clamp(min=0)[:, None]
    fine = interpolate(coarse, ev.net.image_size, mode="bilinear", align_corners=False)[:, 0]
    return in_double(fine) * guidedbp(ev)


@cam_method(**RULED, source="Shrikumar et al. 2017, Rescale rule, black baseline", cost="1F+1B")
def deeplift(ev: Evidence) -> Tensor:
    """x times the multipliers from the black image to x. Sums to y(x) - y(0) exactly."""
    return (ev.images * rules.image_slope(ev, rescale, with_reference=True)).sum(1)


@cam_method(
    **RULED,
    source="Bach et al. 2015, eq. 58; ours: epsilon of each unit is 2 % of its sum of |x_i w_ij| + |b|, where Montavon et al. "
    "2019 take 0.25 rms(z)",
    cost="1F+1B",
)
def lrp_epsilon(ev: Evidence) -> Tensor:
    """R_i = sum_j x_i w_ij R_j / (z_j + e_j sign z_j). Without epsilon this is input x gradient.

    On small nets, trained or not, e_j is on average 0.2 to 0.8 of 0.25 rms(z) in convolutions, and 0.4 to 3.4 times it in
    the first linear layer, where many terms cancel: there this rule damps more, elsewhere less.
    """
    return (ev.images * rules.image_slope(ev, damped(0.02))).sum(1)


@cam_method(**RULED, source="Montavon et al. 2019, gamma 0.25 in every layer, w^2 rule at the pixels", cost="1F+1B")
def lrp_gamma(ev: Evidence) -> Tensor:
    """R_i = sum_j x_i (w_ij + gamma w_ij+) R_j / sum_i x_i (w_ij + gamma w_ij+).

    At the pixels the bias takes no share, as in the paper; zennit's WSquare gives b^2 one beside the w^2: 0.01 to 0.03
    of the peak apart (docs/disagreements.md).
    """
    return rules.image_slope(ev, favouring(0.25), first=squared_weights).sum(1)


@cam_method(
    **RULED,
    source="Bach et al. 2015, eq. 60, alpha 2, beta 1; biases take part; pixels by the sign of x_i w_ij",
    cost="1F+1B",
)
def lrp_alpha_beta(ev: Evidence) -> Tensor:
    """R_i = sum_j (2 (x_i w_ij)+ / z_j+ - (x_i w_ij)- / z_j-) R_j; a part that is empty hands nothing back."""
    return (ev.images * rules.image_slope(ev, alpha_beta(2.0))).sum(1)


@cam_method(
    **RULED,
    source="Bach et al. 2015, eq. 60, alpha 1, beta 0; the positive bias takes part; pixels by the sign of x_i w_ij",
    cost="1F+1B",
)
def lrp_alpha1_beta0(ev: Evidence) -> Tensor:
    """R_i = sum_j (x_i w_ij)+ / z_j+ R_j; a unit without positive contributions hands nothing back."""
    return (ev.images * rules.image_slope(ev, alpha_beta(1.0))).sum(1)


@cam_method(
    **EXCITED,
    source="Zhang et al. 2016, eq. 5; continued to signed pixels by the sign of x_i w_ij",
    cost="1F+1B",
)
def excitationbp(ev: Evidence) -> Tensor:
    """P_i = sum_j (x_i w_ij)+ P_j / sum_i (x_i w_ij)+, from 1 on the class; sums to 1 unless a unit has no such part."""
    return rules.excitation(ev, won).sum(1)


@cam_method(
    **EXCITED,
    source="Zhang et al. 2016, sec. 3.3; the contrast is taken at the input of the last layer, no truncation at 0",
    cost="1F+1B",
)
def excitationbp_contrastive(ev: Evidence) -> Tensor:
    """Excitation backprop of the class less that of its negated weights."""
    return rules.excitation(ev, lambda w, v: won(w, v) - won(-w, v)).sum(1)


def won(weights: Tensor, values: Tensor) -> Tensor:
    """(B, n): w+ / (v . w+), winning probability per unit of v >= 0; 0 where nothing speaks for the class."""
    weights = weights.clamp(min=0)
    return ratio(weights, (weights * values).sum(1, keepdim=True))

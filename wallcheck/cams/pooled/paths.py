"""Pooled gradient, averaged over changed images: noise around the image, or a path that leads to it.

Draws are made in float32 from the evidence's seed, and every image of a batch gets the same ones, so
a map depends neither on its batch nor on the precision.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.cams._slopes import cells_at
from wallcheck.cams.rescoring.learnt import BLACK, MEAN_COLOUR
from wallcheck.evidence import Evidence
from wallcheck.numerics import in_double, probabilities, ratio, weighted_sum

SAMPLES, SPREAD = 8, 0.15
TORCHCAM_SAMPLES, TORCHCAM_SIGMA = 4, 0.3
STEPS, RELEASED_STEPS = 20, 50
NOISE, NOISE_TORCHCAM, STARTS, TIMES = 1, 2, 3, 4  # salts


def noise(ev: Evidence, count: int, salt: int) -> Iterator[Tensor]:
    """`count` standard normal images (3, H, W)."""
    generator, shape = ev.generator(salt=salt), ev.images.shape[1:]
    for _ in range(count):
        yield torch.randn(shape, generator=generator).to(ev.images)


def spread(images: Tensor) -> Tensor:
    """SmoothGrad's standard deviation, 0.15 of each image's range over pixels and colours: (B, 1, 1, 1)."""
    return SPREAD * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))


def smoothed_alpha(powers: list[Tensor], activations: Tensor) -> Tensor:
    """mean G^2 / (2 mean G^2 + mean G^3 sum_v A), powers = [mean G, mean G^2, mean G^3]; 0 where mean G^2 = 0."""
    _, squares, cubes = powers
    return ratio(squares, 2 * squares + cubes * activations.sum((2, 3), keepdim=True))


@cam_method(
    family="pooled",
    source="Omeiza et al. 2019 (Smooth Grad-CAM++), eq. 9-10 with mean G^2 as the numerator of alpha; "
    "8 samples, sigma 0.15 of the image's range as in SmoothGrad",
    cost="9F+8b",
    verdict="may_leak",
)
def smooth_gradcampp(ev: Evidence) -> Tensor:
    """w_k = sum_u alpha_k(u) relu(mean_n G), powers of G averaged over noisy images; A of the clean image.

    The paper prints mean G where Grad-CAM++ and torchcam have mean G^2. Without noise it is
    Grad-CAM++; with noise alpha's denominator, and so a weight, can be negative.
    """
    powers = [torch.zeros_like(in_double(ev.activations)) for _ in range(3)]
    deviation = spread(ev.images)
    for _, gradient in cells_at(ev, (ev.images + deviation * drawn for drawn in noise(ev, SAMPLES, NOISE))):
        powers = [mean + in_double(gradient) ** p / SAMPLES for p, mean in enumerate(powers, start=1)]
    weights = (smoothed_alpha(powers, ev.activations) * powers[0].clamp(min=0)).sum((2, 3))
    return weighted_sum(weights.to(ev.activations), ev.activations)


@cam_method(
    family="pooled",
    source="torchcam 0.5.0, SmoothGradCAMpp as it runs: 4 samples, sigma 0.3, last noisy pass in the sum",
    cost="5F+4b",
    verdict="may_leak",
)
def smooth_gradcampp_last(ev: Evidence) -> Tensor:
    """w_k = sum_u alpha_k(u) relu(G of the last noisy image), applied to that image's activations.

    alpha = mean G^2 / (2 mean G^2 + sum_v A(v) mean G(v)^3), A of the clean image: the sum over v
    takes in the cubes, as in torchcam's Grad-CAM++.
    """
    squares = cubes = torch.zeros_like(in_double(ev.activations))
    points = (ev.images + TORCHCAM_SIGMA * drawn for drawn in noise(ev, TORCHCAM_SAMPLES, NOISE_TORCHCAM))
    for point in cells_at(ev, points):
        gradient = in_double(point[1])
        squares, cubes = squares + gradient**2 / TORCHCAM_SAMPLES, cubes + gradient**3 / TORCHCAM_SAMPLES
    alpha = ratio(squares, 2 * squares + (ev.activations * cubes).sum((2, 3), keepdim=True)).where(squares > 0, 0.0)
    last, slope = point
    return weighted_sum((alpha * gradient.clamp(min=0)).sum((2, 3)).to(slope), last)


@cam_method(
    family="pooled",
    source="Sattarzadeh et al. 2021 (Integrated Grad-CAM), eq. 5-6: ReLU inside the integral; 20 steps from a zero image",
    cost="21F+20b",
    verdict="may_leak",
)
def integrated_gradcam(ev: Evidence) -> Tensor:
    """mean_t relu(sum_k mean_u G_k(t) (A_k(t) - A_k(0))), image t x for t = 1/20 .. 1.

    0 is the zero image, the mean colour after normalisation: the paper's black image is ours to
    place. The ReLU stands inside the integral, so it is part of the formula, not of the display.
    The authors' code differs: see `integrated_gradcam_authors`.
    """
    start = ev.at(torch.zeros_like(ev.images)).activations
    total = torch.zeros_like(ev.activations[:, 0])
    for cells, gradient in cells_at(ev, (ev.images * (step / STEPS) for step in range(1, STEPS + 1))):
        gained = weighted_sum(gradient.mean((2, 3)), cells - start)
        total = total + gained.clamp(min=0) / STEPS
    return total


@cam_method(
    family="pooled",
    source="Sattarzadeh et al. 2021 (Integrated Grad-CAM), the authors' code: no activations subtracted, left end points, "
    "50 steps from a zero image",
    cost="50F+50b",
    verdict="may_leak",
)
def integrated_gradcam_authors(ev: Evidence) -> Tensor:
    """mean_t relu(sum_k mean_u G_k(t) A_k(t)), image t x for t = 0, 1/50 .. 49/50: the mean Grad-CAM of fading images.

    The first is the zero image's own map, whose activations eq. 5 subtracts; the image itself is not among them.
    """
    total = torch.zeros_like(ev.activations[:, 0])
    for cells, gradient in cells_at(ev, (ev.images * (step / RELEASED_STEPS) for step in range(RELEASED_STEPS))):
        total = total + weighted_sum(gradient.mean((2, 3)), cells).clamp(min=0) / RELEASED_STEPS
    return total


@cam_method(
    family="pooled",
    source="Integrated Grad-CAM as a change of Grad-CAM's weights alone (how later papers cite it); 20 steps from zero",
    cost="21F+20b",
    verdict="may_leak",
)
def integrated_gradcam_weights(ev: Evidence) -> Tensor:
    """w_k = mean_t mean_u G_k(t), image t x for t = 1/20 .. 1; A of the image itself. Grad-CAM where the head is linear."""
    points = (ev.images * (step / STEPS) for step in range(1, STEPS + 1))
    weights = sum(gradient.mean((2, 3)) for _, gradient in cells_at(ev, points)) / STEPS
    return weighted_sum(weights, ev.activations)


RSI: dict[str, Any] = dict(family="pooled", verdict="may_leak")
RSI_SOURCE = "Lucas et al. 2022 (RSI-Grad-CAM): probabilities, positive gradients, trapezoids; {}"


def rsi_gradcam_with(steps: int, start: tuple[float, float, float]) -> Callable[[Evidence], Tensor]:
    """RSI-Grad-CAM in so many steps from an image of one colour."""

    def integrated(ev: Evidence) -> Tensor:
        """w_k = mean_u sum_t (relu(G_k(t)) + relu(G_k(t + 1))) / 2 (A_k(t + 1) - A_k(t)), G of the class's probability.

        The layer moves along its own path while the image fades in; without the ReLU a channel's weight would be its share of
        p(x) - p(start). A of the image itself is weighed. The code takes the mean over channels and rectifies for display.
        """
        first = torch.zeros_like(ev.images)
        first[:, :3] += first.new_tensor(start[: first.shape[1]])[:, None, None]
        chance = ev.explaining(lambda logits: ev.of_target(probabilities(logits)))
        weights = torch.zeros_like(ev.activations[:, :, 0, 0])
        before: tuple[Tensor, Tensor] | None = None
        for cells, gradient in cells_at(
            chance, (first + step / steps * (ev.images - first) for step in range(steps + 1))
        ):
            here = cells, gradient.clamp(min=0)
            if before is not None:
                weights = weights + ((here[1] + before[1]) / 2 * (here[0] - before[0])).mean((2, 3))
            before = here
        return weighted_sum(weights, ev.activations)

    return integrated


rsi_gradcam = cam_method(
    **RSI, name="rsi_gradcam", source=RSI_SOURCE.format("20 steps from a zero image"), cost="22F+21b"
)(rsi_gradcam_with(STEPS, MEAN_COLOUR))

rsi_gradcam_authors = cam_method(
    **RSI,
    name="rsi_gradcam_authors",
    source=RSI_SOURCE.format("the authors' code: 50 steps from a black image"),
    cost="52F+51b",
)(rsi_gradcam_with(RELEASED_STEPS, BLACK))


@cam_method(
    family="pooled",
    source="after Buono et al. 2024 (Expected Grad-CAM), our reading of a text that was not at hand in full; 8 draws",
    cost="24F+8b",
    verdict="may_leak",
)
def expected_gradcam(ev: Evidence) -> Tensor:
    """w_k = E mean_u G_k(x' + t (z - x')) (A_k(z) - A_k(x')), over starts x', ends z near x, t uniform on (0, 1).

    The paper's: Expected Gradients in place of the gradient, smoothed by a kernel around x, starts
    that know the data. Ours: the kernel is SmoothGrad's normal, z = x + 0.15 range(x) n; a start is
    noise with the mean and deviation of x's own colours; one t per draw. For a linear head
    the weights sum to E[y(z) - y(x')] / h w: completeness. An image of one value in all pixels and
    colours gives 0, to the rounding of its mean: start and end are the image.
    """
    weights = torch.zeros_like(ev.activations[:, :, 0, 0])
    for start, point, end in expected_paths(ev):
        weights = weights + (point.gradient * (end.activations - start.activations)).mean((2, 3)) / SAMPLES
    return weighted_sum(weights, ev.activations)


def expected_paths(ev: Evidence) -> Iterator[tuple[Evidence, Evidence, Evidence]]:
    """(start x', point x' + t (z - x'), end z) of each draw."""
    times = torch.rand(SAMPLES, generator=ev.generator(salt=TIMES)).tolist()
    colour, deviation = ev.images.mean((2, 3), keepdim=True), ev.images.std((2, 3), correction=0, keepdim=True)
    for t, near, far in zip(times, noise(ev, SAMPLES, NOISE), noise(ev, SAMPLES, STARTS), strict=True):
        start, end = colour + deviation * far, ev.images + spread(ev.images) * near
        yield ev.at(start), ev.at(start + t * (end - start)), ev.at(end)

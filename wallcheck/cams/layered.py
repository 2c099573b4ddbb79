"""Layered: maps of several layers, or of one layer at several image sizes, fused on the image.

The fused map is as blind as its blindest factor (a product) or as leaky as its leakiest part (a sum).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from wallcheck.cams._layers import by_portion, by_portion_of_all, local_maps, needs_convolutions, on_image, stages
from wallcheck.cams._method import cam_method
from wallcheck.cams.pooled.gradients import gradcam, plusplus_weights
from wallcheck.cams.subspace.entropy import smoe_scale
from wallcheck.evidence import Evidence
from wallcheck.models import BlindNet
from wallcheck.numerics import ratio, unit_range, weighted_sum

PIXELS: dict[str, Any] = dict(grid="pixels")
PERCENTILE = 80
SCALES = (1, 2, 3)


def needs_any_size(net: BlindNet) -> str | None:
    """Why images of other sizes cannot go through net; None where its features are windows and single positions alone."""
    graph = net.graph
    if graph.quick.line is not None or graph.runs_at_any_size:
        return None
    return "its features hold sizes that are fixed for its own images; use a method that does not enlarge them"


def winsorised_sum(importance_of: Callable[[Tensor], Tensor]) -> Callable[[Evidence], Tensor]:
    """Winsor-CAM with importance_of(channel weights (B, K)) -> (B,) as a layer's importance."""

    @by_portion_of_all
    def summed(ev: Evidence) -> Tensor:
        """sum over convolutions of w_l U(N(relu(sum_k a_k A_k))), a = mean_u G, A before the ReLU.

        w_l is the layer's winsorised importance, see `winsorised`. A layer of importance 0 adds nothing.
        """
        layers = ev.traced([number for number, step in enumerate(ev.graph.steps) if step.op == "conv2d"])
        weights = [layer.gradient.mean((2, 3)) for layer in layers]
        maps = [
            unit_range(weighted_sum(a, layer.output).clamp(min=0)) for a, layer in zip(weights, layers, strict=True)
        ]
        importance = winsorised(torch.stack([importance_of(a).clamp(min=0) for a in weights], 1))
        return sum(w[:, None, None] * on_image(map_, ev) for w, map_ in zip(importance.T, maps, strict=True))

    return summed


WINSOR: dict[str, Any] = PIXELS | dict(family="pooled", cost="1F+1B", verdict="may_leak", refuses=needs_convolutions)
WINSOR_SOURCE = (
    "Winsor-CAM 2025 (arXiv 2507.10846), importance relu({}_k a_k); p = 80 is ours, the paper leaves it to the user"
)

cam_method(**WINSOR, name="winsorcam", source=WINSOR_SOURCE.format("mean"))(winsorised_sum(lambda a: a.mean(1)))
cam_method(**WINSOR, name="winsorcam_max", source=WINSOR_SOURCE.format("max"))(winsorised_sum(lambda a: a.amax(1)))


def winsorised(importance: Tensor) -> Tensor:
    """(B, L): the non-zero entries of each row cut at their 80th percentile and stretched to [0.1, 1]; zeros stay.

    >>> winsorised(torch.tensor([[0., 1., 2., 100.], [0., 0., 5., 0.]]))
    tensor([[0.0000, 0.1000, 0.1151, 1.0000],
            [0.0000, 0.0000, 1.0000, 0.0000]])
    """
    live = importance > 0
    cut = importance.where(live, torch.nan).nanquantile(PERCENTILE / 100, dim=1, keepdim=True)
    held = importance.minimum(cut)
    low, high = held.where(live, torch.inf).amin(1, keepdim=True), held.where(live, -torch.inf).amax(1, keepdim=True)
    stretched = torch.where(high > low, 0.1 + 0.9 * (held - low) / (high - low), 1.0)
    return stretched.where(live, 0.0)


def refined(maps_of: Callable[[Evidence], Sequence[Tensor]], again: bool = False) -> Callable[[Evidence], Tensor]:
    """Product over layers of U(N(relu(a layer's map))): bright only where every layer is.

    The layers are the last of each resolution; N is min-max per map. A layer without any positive
    cell makes the product 0. again: each factor is stretched on the image too, N(U(N(...))).
    """

    @by_portion
    def product(ev: Evidence) -> Tensor:
        factors = [on_image(unit_range(map_.clamp(min=0)), ev) for map_ in maps_of(ev)]
        return torch.stack([unit_range(factor) if again else factor for factor in factors]).prod(0)

    return product


def plusplus_maps(ev: Evidence) -> list[Tensor]:
    """Grad-CAM++ of each layer, (B, h, w)."""
    return [weighted_sum(plusplus_weights(layer.output, layer.gradient), layer.output) for layer in stages(ev)]


def local_parts(ev: Evidence) -> list[Tensor]:
    """Layer-CAM of each layer, (B, h, w), before its last ReLU."""
    return local_maps(ev, lambda layer: layer.gradient.clamp(min=0).mul_(layer.output).sum(1))


REFINE = "RefineCAM 2026 (arXiv 2605.14641), {}, over {}"
REFINED: dict[str, Any] = PIXELS | dict(family="layered", cost="1F+1B")
ONCE = "plain product of maps stretched before they are enlarged, as in torchcam"
AGAIN = "the authors' code and grad-cam: plain product of maps stretched before and after they are enlarged"

cam_method(**REFINED, name="refinecam", source=REFINE.format(ONCE, "Grad-CAM++"), verdict="may_leak")(
    refined(plusplus_maps)
)
cam_method(**REFINED, name="refinecam_authors", source=REFINE.format(AGAIN, "Grad-CAM++"), verdict="may_leak")(
    refined(plusplus_maps, again=True)
)
cam_method(**REFINED, name="refinecam_layercam", source=REFINE.format(ONCE, "Layer-CAM"), verdict="zero_but_bleed")(
    refined(local_parts)
)


@cam_method(
    family="layered",
    grid="pixels",
    source="Mundhenk et al. 2019 (FastCAM), equal weights, Grad-CAM; values squashed by their own Gaussian's distribution function "
    "(the code came to prefer a Gamma's), last layer of each resolution",
    cost="2F+1b",
    verdict="leaks",
)
def fastcam(ev: Evidence) -> Tensor:
    """mean_l U(P(SMOE_l)) * P(U(relu(Grad-CAM))), P(v) = Phi((v - mean v) / std v) over the cells or pixels of an image.

    Both factors are above 0 everywhere, so every unseen pixel lights up; a map of one value becomes 1/2. A Gamma in the Gaussian's
    place moves a layer's values by 0.2 to 0.3 of the peak on small nets. See `smoe`.
    """
    portions = ev.images.split(ev.chunk(ev.graph.staged_whole))
    saliency = torch.cat([_layers_saliency(ev, images) for images in portions])
    return saliency * squashed(on_image(gradcam(ev).clamp(min=0), ev))


def _layers_saliency(ev: Evidence, images: Tensor) -> Tensor:
    """mean_l U(P(SMOE_l)) of some of the images, (n, H, W); no slope is needed."""
    with ev.plainly(), torch.no_grad():
        layers = ev.graph.stage_maps(images)
    return sum(on_image(squashed(smoe_scale(layer)), ev) for layer in layers) / len(layers)


def squashed(maps: Tensor) -> Tensor:
    """(B, h, w) -> same, in (0, 1): the normal distribution function of the standardised values of each map."""
    flat = maps.double().flatten(1)
    away = ratio(flat - flat.mean(1, keepdim=True), flat.std(1, keepdim=True).expand_as(flat))
    return torch.special.ndtr(away).view_as(maps).to(maps.dtype)


def cameras_with(scales: Sequence[float], mode: str = "bilinear") -> Callable[[Evidence], Tensor]:
    """CAMERAS at these image sizes, in sizes of the net's image; mode: how the image is enlarged."""

    def cameras(ev: Evidence) -> Tensor:
        """sum_k mean_s U(A_s) * mean_s U(G_s): layer and gradient of enlarged images, averaged on the image, then multiplied.

        Ours: a head that wants h x w cells is given the enlarged layer averaged down to them, as
        torchvision's adaptive pool does; three sizes and bilinear images, where the authors' code takes eight sizes
        (224 + 100 i pixels of 224: 1 to 4.1 times) and bicubic ones. The two are 0.3 to 0.4 of the peak apart on
        small nets, and both 0 behind the wall (docs/disagreements.md). The authors' final ReLU and min-max are
        display. Work and memory grow with the square of the size.
        """
        maps = []
        for image in range(len(ev.images)):
            layers = [enlarged_layer(ev, image, scale, mode) for scale in scales]
            activations, gradient = (
                sum(interpolate(part, ev.net.image_size, mode="bilinear") for part in parts) / len(scales)
                for parts in zip(*layers, strict=True)
            )
            maps.append((activations * gradient).sum(1)[0])
        return torch.stack(maps)

    return cameras


cameras = cam_method(
    **PIXELS,
    name="cameras",
    family="layered",
    refuses=needs_any_size,
    source="Jalwana et al. 2021 (CAMERAS), logit score; ours: image sizes 1, 2 and 3 times the net's, enlarged bilinearly",
    cost="14F+14B",
    verdict="zero_but_bleed",
)(cameras_with(SCALES))


def enlarged_layer(ev: Evidence, image: int, scale: float, mode: str = "bilinear") -> tuple[Tensor, Tensor]:
    """A and d score / d A, (1, K, s h, s w) each, of one image enlarged by scale."""
    size = [round(scale * length) for length in ev.net.image_size]
    with ev.plainly(), torch.no_grad():
        enlarged = interpolate(ev.images[image : image + 1], size, mode=mode)
        activations, _ = ev.graph.activations(enlarged)
    with ev.plainly(), torch.enable_grad():
        leaf = activations.detach().requires_grad_()
        logits = ev.graph.logits(adaptive_avg_pool2d(leaf, ev.wall.seen.shape))
        (gradient,) = torch.autograd.grad(logits[0, ev.targets[image]], leaf)
    return activations, gradient

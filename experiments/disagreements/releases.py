"""The methods beside their authors' released code: what the release does otherwise, and what that is worth.

No release is run here. What it computes is a registered variant (held to a twin of its own by the tests) or is written out
below from its formula; both are seen on the same evidence as ours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.disagreements.comparisons import shown
from experiments.disagreements.settling import gap
from wallcheck.cams import METHODS
from wallcheck.cams.layered import cameras_with
from wallcheck.cams.pixel.rules import image_slope
from wallcheck.cams.pooled import augmented
from wallcheck.cams.rescoring import layers as polycam
from wallcheck.cams.rescoring.masks import upsample
from wallcheck.evidence import Evidence
from wallcheck.graph import rules
from wallcheck.graph.following import Step
from wallcheck.metrics.leakage import leak_mass
from wallcheck.models import in_mode
from wallcheck.numerics import ratio, weighted_sum

Maps = Callable[[Evidence], Tensor]


@dataclass(frozen=True)
class Release:
    """One of our methods and its authors' code.

    where: repository. does: what the code does otherwise. maps: evidence -> what it gives there. variant: the
    registered name of that, where there is one.
    """

    ours: str
    where: str
    does: str
    maps: Maps
    variant: str | None = None


@dataclass(frozen=True)
class Distance:
    """How far a method and its release are apart on some evidence, maps as displayed: largest difference as a share
    of the peak, and the mean share of positive attribution on unseen pixels of either."""

    difference: float
    ours_unseen: float
    theirs_unseen: float


def distance(release: Release, ev: Evidence) -> Distance:
    pair = [shown(ev, maps) for maps in (METHODS[release.ours](ev), release.maps(ev))]
    unseen = torch.from_numpy(ev.regions.unseen.copy()).to(ev.images.device)
    leaks = [float(leak_mass(maps, unseen, torch.ones_like(unseen)).nanmean()) for maps in pair]
    return Distance(gap(*pair), *leaks)


def released(ours: str, where: str, does: str, variant: str) -> Release:
    """A release that is registered here under a name of its own."""
    return Release(ours, where, does, METHODS[variant], variant)


# -- releases that are not registered ---------------------------------------------------------------

CAMERAS_SCALES = tuple(1 + 100 * step / 224 for step in range(8))


def adam_towards_superresolution(ev: Evidence, steps: int = 200, rate: float = 0.001) -> Tensor:
    """Augmented Grad-CAM's functional descended on by Adam from 0; D reads the corner pixel of each cell."""
    (height, width), (h, w) = ev.net.image_size, ev.wall.seen.shape
    corner = (torch.arange(h)[:, None] * height // h * width + torch.arange(w) * width // w).flatten()
    turns = [augmented.turned(ev, *motion) for motion in augmented.motions(ev)]
    operator = torch.cat([augmented.sparse(ev, *turn).index_select(0, corner) for turn in turns])
    cells = augmented.cells_of_copies(ev, turns)
    fine = torch.zeros(height * width, len(cells)).to(cells).requires_grad_()
    optimiser = torch.optim.Adam([fine], lr=rate)
    for _ in range(steps):
        with torch.enable_grad():
            image = fine.view(height, width, -1)
            variation = image.diff(dim=0).abs().sum() + image.diff(dim=1).abs().sum()
            weights = augmented.TOTAL_VARIATION * variation + augmented.ENERGY * fine.square().sum()
            loss = (operator @ fine - cells.T).square().sum() + augmented.COPIES * weights
        (fine.grad,) = torch.autograd.grad(loss, fine)
        optimiser.step()
    return fine.detach().T.reshape(-1, height, width)


def zoom_of_every_relu(ev: Evidence) -> Tensor:
    """max over all ReLUs, enlarged from deep to shallow, of (m - min m) / max m, m = relu(sum_k G A)."""
    fused = None
    for layer in reversed([layer for layer in ev.trace[1:] if layer.step.op == "relu"]):
        maps = (layer.gradient * layer.output).sum(1).clamp(min=0)
        maps = ratio(maps - maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True).expand_as(maps))
        fused = maps if fused is None else torch.maximum(upsample(fused, tuple(maps.shape[1:])), maps)
    return upsample(fused, ev.net.image_size)


def polycam_with_floor(ev: Evidence, floor: float = 1e-12) -> Tensor:
    """PCAM+ with R_l / max(U(D(R_l)), 1e-12) where ours has 0 for a local mean of 0."""
    weights, maps = ev.once(polycam.shown), None
    by_image = [polycam.layers(ev, image) for image in range(len(ev.images))]
    for number in reversed(range(len(weights))):
        here = weighted_sum(weights[number], torch.stack([kept[number] for kept in by_image])).clamp(min=0)
        if maps is not None:
            local = upsample(upsample(here, tuple(maps.shape[1:])), tuple(here.shape[1:]))
            here = here / local.clamp(min=floor) * upsample(maps, tuple(here.shape[1:]))
        maps = here
    return upsample(maps, ev.net.image_size)


def extremal_of_torchray(ev: Evidence, steps: int = 40, area: float = 0.1) -> Tensor:
    """Extremal perturbation by TorchRay's formulas, in as many steps as ours: kernel exp(-2 max(d / sigma - 1/2, 0)^2), area by
    sorted pixels of the mask and its margin, first step undamped, every other image flipped, blur from black borders.
    Its 7 and 21 pixels of 224 are taken in proportion."""
    side = ev.net.image_size[0]
    step, sigma = max(1, round(7 * side / 224)), 21 * side / 224
    margin, weight = round(sigma), 300.0
    values = torch.ones(len(ev.images), -(-side // step), -(-side // step)).to(ev.images)
    pyramid = torch.stack([blurred_from_black(ev.images, 20 / 224 * (1 - level / 7)) for level in range(8)], 1)
    speed = None
    for number in range(steps):
        leaf = values.detach().requires_grad_()
        with in_mode(ev.net), torch.enable_grad():
            mask = softly_pooled(leaf, step, sigma, margin, side)
            fine = mask[:, margin : margin + side, margin : margin + side]
            shares = (1 - (7 * fine[:, None] - torch.arange(8)[:, None, None]).abs()).clamp(min=0)
            seen = (shares[:, :, None] * pyramid).sum(1)
            ranked = mask.flatten(1).sort(stable=True, dim=1).values
            wanted = torch.arange(ranked.shape[1]) >= int(ranked.shape[1] * (1 - area))
            size = weight * 16.4 ** (number / steps) * (ranked - wanted.to(ranked)).square().mean(1)
            score = ev.of_target(ev.net(seen.flip(3) if number % 2 == 0 else seen))
            (slope,) = torch.autograd.grad((score - size).sum(), leaf)
        speed = slope if speed is None else 0.9 * speed + 0.1 * slope
        values = (values + 0.01 * speed).clamp(0, 1)
    return softly_pooled(values, step, sigma, margin, side)[:, margin : margin + side, margin : margin + side]


def softly_pooled(values: Tensor, step: int, sigma: float, margin: int, side: int) -> Tensor:
    """(B, side + 2 margin, ...): softmax-weighted mean (coldness 20) of the values around each pixel, seen through the kernel."""
    radius = 1 + math.ceil(sigma / step)
    place = torch.arange(-margin, side + margin)
    near = (place // step)[:, None] + torch.arange(-radius, radius + 1)
    off = (place[:, None] - step * near).square()
    distance = (off[:, None, :, None] + off[None, :, None, :]).sqrt() / sigma
    kernel = (-2 * (distance - 0.5).clamp(min=0).square()).exp().to(values)
    frame = radius + margin // step + 2
    padded, index = torch.nn.functional.pad(values, (frame,) * 4), near + frame
    seen = (kernel * padded[:, index[:, None, :, None], index[None, :, None, :]]).flatten(3)
    return ((20 * seen).softmax(3) * seen).sum(3)


def blurred_from_black(images: Tensor, sides: float) -> Tensor:
    """Gaussian blur, sigma in image sides; what lies outside counts as 0."""
    size = images.shape[-1]
    offsets = torch.arange(-size, 2 * size, dtype=torch.float64) - torch.arange(size, dtype=torch.float64)[:, None]
    weights = (-0.5 * (offsets / max(sides * size, 1e-6)) ** 2).exp()
    lines = (weights / weights.sum(1, keepdim=True))[:, size : 2 * size].to(images)
    return lines @ images @ lines.T


def normgrad_selective(ev: Evidence) -> Tensor:
    """||relu(G * A)||, norm over channels."""
    return (ev.gradient * ev.activations).clamp(min=0).norm(dim=1)


def iia_at_one_point(ev: Evidence) -> Tensor:
    """sum_t sum_k G_k(t) relu(A_k(t)), image t x for t = 0, 1/10 .. 1."""
    points = (ev.at(ev.images * (step / 10)) for step in range(11))
    return sum((point.gradient * point.activations.clamp(min=0)).sum(1) for point in points)


def lrp_gamma_with_bias(ev: Evidence) -> Tensor:
    """gamma = 0.25, and at the pixels shares of w_ij^2 / (sum_i w_ij^2 + b_j^2)."""

    def squared(step: Step, rows: Tensor) -> Tensor:
        unit = torch.ones_like(rows) + (rows - rows.detach())
        return rules.shared(step, rows, step.reweighted(torch.square)(unit))

    return image_slope(ev, rules.favouring(0.25), first=squared).sum(1)


RELEASES: tuple[Release, ...] = (
    released(
        "shapleycam_hires_rest",
        "caihuaiguang/pytorch-shapley-cam",
        "its plain name, ShapleyCAM, is the E form, which rectifies each product before the sum; H is as ours",
        "shapleycam_e_rest",
    ),
    Release(
        "augmented_gradcam",
        "diegocarrera89/AugmentedGradCAM",
        "200 steps of Adam at rate 0.001 from 0, far from the optimum; cells read at their corner; 100 copies (here 8)",
        adam_towards_superresolution,
    ),
    released("finercam", "Imageomics/Finer-CAM", "1e-9 is added to the rivals' probability", "finercam_authors"),
    released(
        "finer_hirescam", "Imageomics/Finer-CAM", "1e-9 is added to the rivals' probability", "finer_hirescam_authors"
    ),
    released("gradcampp", "adityac94/Grad_CAM_plus_plus", "alpha over its sum over G > 0", "gradcampp_authors"),
    released(
        "integrated_gradcam",
        "smstrzd/IntegratedGradCAM",
        "no activations subtracted; left end points; 50 steps",
        "integrated_gradcam_authors",
    ),
    released(
        "opticam",
        "hanwei0912/OptiCAM",
        "masks before normalisation, so hidden is black; 50 steps; early stop",
        "opticam_authors",
    ),
    released("refinecam", "liuktc/RefineCAM", "factors stretched again after enlarging", "refinecam_authors"),
    released(
        "groupcam_denoised",
        "wofmanaf/Group-CAM",
        "so from 30 May to 18 August 2021 only; before, the blurred image's probability was not taken off; since, groups "
        "are neither cut nor stretched: `groupcam`",
        "groupcam",
    ),
    Release(
        "extremal_soft",
        "facebookresearch/TorchRay",
        "another kernel, area by sorted pixels, an undamped first step, flips; 800 steps (here 40)",
        extremal_of_torchray,
    ),
    Release(
        "cameras",
        "VisMIL/CAMERAS",
        "eight sizes, bicubic images",
        lambda ev: cameras_with(CAMERAS_SCALES, "bicubic")(ev),
    ),
    Release(
        "zoomcam", "X-Shi/Zoom-CAM", "every ReLU, over the maximum before the minimum is taken off", zoom_of_every_relu
    ),
    Release("polycam_plus", "andralex8/polycam", "a floor of 1e-12 under the local mean", polycam_with_floor),
    released(
        "decomcam",
        "CapricornGuang/DecomCAM",
        "bicubic maps and masks; masked and blurred image joined by their maximum; nothing taken off the score; 500 channels",
        "decomcam_authors",
    ),
    Release(
        "normgrad_scaling",
        "ruthcfong/TorchRay, a branch",
        "its selective form rectifies each product; `normgrad` is as ours; the released TorchRay has neither",
        normgrad_selective,
    ),
    released("rsi_gradcam", "mlerma54/RSIGradCAM", "50 steps from a black image", "rsi_gradcam_authors"),
    Release(
        "iia",
        "iia-iccv23/iia",
        "the start of the inner path is a minimum over an axis of length 1, so the layer itself: one point of the path is left",
        iia_at_one_point,
    ),
    Release("lrp_gamma", "chr5tphr/zennit", "WSquare gives the bias's square a share", lrp_gamma_with_bias),
)

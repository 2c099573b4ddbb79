"""The methods beside their authors' released code: what the release does otherwise, and what that is worth.

No release is run here. What it computes is a registered variant (held to a twin of its own by the tests) or is written out
below from its formula; both are seen on the same evidence as ours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.disagreements.comparisons import shown
from experiments.disagreements.settling import gap
from wallcheck.cams import METHODS
from wallcheck.cams.layered import cameras_with
from wallcheck.cams.pixel import rules
from wallcheck.cams.pooled import augmented
from wallcheck.cams.rescoring import layers as polycam
from wallcheck.cams.rescoring.masks import upsample
from wallcheck.evidence import Evidence
from wallcheck.metrics.leakage import leak_mass
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
    for layer in reversed([layer for layer in ev.trace if isinstance(layer.module, nn.ReLU)]):
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


def normgrad_selective(ev: Evidence) -> Tensor:
    """||relu(G * A)||, norm over channels."""
    return (ev.gradient * ev.activations).clamp(min=0).norm(dim=1)


def lrp_gamma_with_bias(ev: Evidence) -> Tensor:
    """gamma = 0.25, and at the pixels shares of w_ij^2 / (sum_i w_ij^2 + b_j^2)."""

    def squared(module: nn.Module, rows: Tensor) -> Tensor:
        unit = torch.ones_like(rows) + (rows - rows.detach())
        return rules.shared(module, rows, rules.reweighted(module, torch.square)(unit))

    return rules.image_slope(ev, rules.favouring(0.25), first=squared).sum(1)


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
        "so from 30 May to 18 August 2021 only; before, the blurred image's probability was not taken off, since, neither "
        "cut nor stretched: `groupcam`",
        "groupcam",
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
    Release("lrp_gamma", "chr5tphr/zennit", "WSquare gives the bias's square a share", lrp_gamma_with_bias),
)

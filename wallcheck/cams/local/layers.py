"""Local, over several layers: element-wise maps of each layer, upsampled and put together on the image.

A layer's gradient is exactly 0 wherever no seen cell looks. Upsampling smears a value past its cell: by
less than half a stride, or a stride where corners are aligned. A layer behind a 3 x 3 convolution looks a
whole stride past its cells, so on VGG-like nets the fused maps are exactly 0 on unseen pixels. A layer
that looks no further than its own cell (a 1 x 1 convolution after a pool) does bleed past the wall.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wallcheck.cams._layers import by_portion, by_portion_of_all, local_maps, needs_known_terms, on_image
from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.numerics import ratio, unit_range

LOCAL: dict[str, Any] = dict(family="local", cost="1F+1B", verdict="zero_but_bleed", grid="pixels")
TERMS: dict[str, Any] = LOCAL | dict(refuses=needs_known_terms)


def positive_share(layer) -> Tensor:
    """Layer-CAM of one layer, relu(sum_k relu(G) A), over its maximum: (B, h, w) in [0, 1]; 0 where nothing is positive."""
    maps = layer.gradient.clamp(min=0).mul_(layer.output).sum(1).clamp(min=0)
    return ratio(maps, maps.amax((1, 2), keepdim=True))


@cam_method(**LOCAL, source="Jiang et al. 2021, eq. 8-9, gamma 2; last layer of each resolution")
@by_portion
def layercam_fused(ev: Evidence) -> Tensor:
    """max over layers of U(tanh(2 L_l / max L_l)), the target layer without the tanh.

    The tanh lifts the faint maps of shallow layers. Ours: the target layer is L / max L, so that
    all lie in [0, 1]; shallow means every resolution but the last.
    """
    *shallow, deep = local_maps(ev, positive_share)
    maps = [*(torch.tanh(2 * map_) for map_ in shallow), deep]
    return torch.stack([on_image(map_, ev) for map_ in maps]).amax(0)


@cam_method(**LOCAL, source="torchcam 0.5.0, LayerCAM.fuse_cams: tanh on every layer; last layer of each resolution")
@by_portion
def layercam_fused_tanh(ev: Evidence) -> Tensor:
    """max over layers of U(tanh(2 N(L_l))), N min-max per map."""
    maps = [torch.tanh(2 * unit_range(map_)) for map_ in local_maps(ev, positive_share)]
    return torch.stack([on_image(map_, ev) for map_ in maps]).amax(0)


@cam_method(**LOCAL, source="grad-cam, LayerCAM with a list of layers; last layer of each resolution")
@by_portion
def layercam_mean(ev: Evidence) -> Tensor:
    """Mean over layers of U(N(L_l)), N min-max per map."""
    return torch.stack([on_image(unit_range(map_), ev) for map_ in local_maps(ev, positive_share)]).mean(0)


@cam_method(
    **LOCAL,
    source="Shi et al. 2020 (Zoom-CAM); ours: last layer of each resolution, each upsampled to the image at once",
)
@by_portion
def zoomcam(ev: Evidence) -> Tensor:
    """max over layers of U(N(relu(sum_k G A))), N min-max per map; a layer with no positive cell adds 0.

    Ours: every map goes to the image in one step, where the paper goes up layer by layer; and the layers are
    those of the paper's figures, where the authors' code fuses every ReLU by default and divides by the maximum
    from before the minimum was taken off: 0.6 to 0.9 of the peak apart on vgg_small, both 0 behind the wall
    (docs/disagreements.md).
    """
    maps = local_maps(ev, lambda layer: (layer.gradient * layer.output).sum(1).clamp(min=0))
    return torch.stack([on_image(unit_range(map_), ev) for map_ in maps]).amax(0)


def full_gradient(ev: Evidence) -> list[Tensor]:
    """Signed terms of y: input * gradient (B, 3, H, W), then bias * gradient of every layer (B, K, h, w).

    They and the head's own bias terms sum to y for a network of linear layers, ReLUs and max-pools.
    """
    image, *layers = ev.trace
    return [image.output * image.gradient] + [
        layer.constant[:, None, None] * layer.gradient for layer in layers if layer.constant is not None
    ]


def share(term: Tensor) -> Tensor:
    """psi: |term| stretched to [0, 1] over channels and cells of each image at once, summed over channels."""
    flat = unit_range(term.abs().flatten(2))  # (B, K, h w): the last two axes are one image's values
    return flat.view_as(term).sum(1)


def enlarged(maps: Tensor, ev: Evidence) -> Tensor:
    """The authors' bilinear enlargement, corners aligned; it commutes with the sum over channels."""
    return interpolate(maps[:, None], ev.net.image_size, mode="bilinear", align_corners=True)[:, 0]


@cam_method(
    **TERMS,
    source="Srinivas and Fleuret 2019, eq. 4 and the authors' code: rescaled per image and layer, no head terms",
)
@by_portion_of_all
def fullgrad(ev: Evidence) -> Tensor:
    """psi(x G_x) + sum over layers of U(psi(b_l G_l)). A layer whose terms are all equal adds 0."""
    image, *biases = [share(term) for term in full_gradient(ev)]
    return image + sum(enlarged(map_, ev) for map_ in biases)


@cam_method(
    **TERMS,
    source="grad-cam 1.5.7, FullGrad: every channel is rescaled by itself and enlarged with half-pixel centres",
)
@by_portion_of_all
def fullgrad_by_channel(ev: Evidence) -> Tensor:
    """sum_c N(|x_c G_c|) + sum over layers and channels of U(N(|b_k G_k|)): a faint channel counts as much as a strong
    one. A channel without any slope adds 0."""
    image, *biases = [unit_range(term.abs()).sum(1) for term in full_gradient(ev)]
    return image + sum(on_image(map_, ev) for map_ in biases)


@cam_method(
    **TERMS, source="Srinivas and Fleuret, authors' SimpleFullGrad: gradients before each ReLU, biases left out"
)
@by_portion_of_all
def simple_fullgrad(ev: Evidence) -> Tensor:
    """psi(x G_x) + sum over layers with a bias of U(psi(G_l))."""
    image, *layers = ev.trace
    maps = [share(layer.gradient) for layer in layers if layer.constant is not None]
    return share(image.output * image.gradient) + sum(enlarged(map_, ev) for map_ in maps)

"""BlindNet = features . wall . head: a classifier whose head is not handed the unseen cells."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wallcheck.geometry import Layer, Regions, Wall, Window, crop, regions
from wallcheck.models._chain import chain

POINTWISE = (nn.ReLU, nn.Identity, nn.Dropout, nn.BatchNorm2d, nn.LeakyReLU, nn.GELU, nn.SiLU)


class BlindNet(nn.Module):
    """A classifier that reads only the cells in front of a wall.

    `features` maps images (B, 3, H, W) to activations (B, K, h, w) of the target layer, the last
    module of `features`. The wall hands its seen cells to `head`: as (B, K, r, c) when they form
    a rectangle of r x c cells, else as (B, K, 1, n). The head therefore owns no weight for an
    unseen cell, and no optimiser, weight decay or checkpoint can open the wall.

    `layers` and `regions` are read off `features` at construction: they are what the net declares
    about itself and what a certificate holds it to.

    Raises ValueError when a layer's receptive field is unknown or the wall does not fit the map.
    """

    def __init__(
        self,
        features: nn.Sequential,
        head: nn.Module,
        wall: Wall,
        image_size: tuple[int, int],
        description: dict | None = None,
    ):
        super().__init__()
        self.features = features.to(memory_format=torch.channels_last)
        self.head = head
        self.wall = wall
        self.image_size = tuple(image_size)
        self.description = description
        self.layers = layers_of(features)
        self.regions: Regions = regions(wall, self.layers, self.image_size)
        self._rows, self._columns, self._first = crop(wall, self.layers, self.image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, D). The features run on the visible part of the images alone, since nothing else can matter."""
        self.check(images)
        return self.head(self.seen_cells(images[(..., *self.visible)]))

    @property
    def visible(self) -> tuple[slice, slice]:
        """Rows and columns of the part of an image that decides every logit."""
        return slice(*self._rows), slice(*self._columns)

    @property
    def channels(self) -> int:
        """K of the target layer."""
        convolutions = [module for module in self.features.modules() if isinstance(module, nn.Conv2d)]
        return convolutions[-1].out_channels if convolutions else 3

    def seen_cells(self, parts: Tensor) -> Tensor:
        """What the head reads, from the visible part of images alone: net(x) = head(seen_cells(x[..., *visible]))."""
        return self._hand_over(self._run_features(parts), self._first)

    def activations(self, images: Tensor) -> Tensor:
        """The whole target layer (B, K, h, w), unseen cells included: what a CAM looks at."""
        self.check(images)
        return self._run_features(images)

    def logits_from(self, activations: Tensor) -> Tensor:
        """Logits (B, D) of activations (B, K, h, w): the wall, then the head."""
        if activations.shape[-2:] != self.wall.seen.shape:
            raise ValueError(
                f"activations have {tuple(activations.shape[-2:])} cells, the wall covers {self.wall.seen.shape}; "
                f"pass the whole target layer as net.activations(images) gives it"
            )
        return self.head(self._hand_over(activations, (0, 0)))

    def check(self, images: Tensor) -> None:
        """Raise ValueError unless images are floating point (B, 3, H, W) of this net's size."""
        wanted = (3, *self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != wanted:
            raise ValueError(
                f"images have shape {tuple(images.shape)}, this net takes (B, {', '.join(map(str, wanted))}); "
                f"read them with wallcheck.data or resize and convert them to RGB"
            )
        if not images.is_floating_point():
            raise ValueError(f"images are {images.dtype}, expected floating point; use wallcheck.data.normalise")

    def _run_features(self, images: Tensor) -> Tensor:
        return self.features(images.contiguous(memory_format=torch.channels_last))

    def _hand_over(self, activations: Tensor, first: tuple[int, int]) -> Tensor:
        """The seen cells of a map whose cell (0, 0) is cell `first` of the whole grid."""
        (top, bottom), (left, right) = self.wall.box
        if self.wall.is_box:
            return activations[:, :, top - first[0] : bottom - first[0], left - first[1] : right - first[1]]
        rows, columns = self.wall.seen.nonzero()
        return activations[:, :, rows - first[0], columns - first[1]][:, :, None]


def layers_of(features: nn.Module) -> tuple[Layer, ...]:
    """The windows of a chain of convolutions, pools and point-wise modules, in forward order."""
    layers: list[Layer] = []
    for module in chain(features):
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            layers.append(_layer(module))
        elif not isinstance(module, POINTWISE):
            raise ValueError(
                f"the receptive field of {type(module).__name__} is not known; "
                f"build features from Conv2d, MaxPool2d, AvgPool2d and point-wise modules"
            )
    return tuple(layers)


def _layer(module: nn.Module) -> Layer:
    if getattr(module, "ceil_mode", False) or getattr(module, "padding_mode", "zeros") != "zeros":
        raise ValueError(f"{module} uses ceil_mode or a padding that reads elsewhere; use floor and zero padding")
    if isinstance(module.padding, str):
        raise ValueError(f"{module} pads by name; give the padding as a number")
    size, stride, pad, dilation = (
        _pair(getattr(module, name, 1)) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    return Layer(*(Window(*axis) for axis in zip(size, stride, pad, dilation, strict=True)))


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)

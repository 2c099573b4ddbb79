"""Where leakage is counted on maps of any resolution: unseen cells, unseen pixels, or positions that lie over unseen pixels alone."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wallcheck.models import BlindNet


@dataclass(frozen=True)
class On:
    """The positions of maps of one resolution.

    unit: "cells" or "pixels". unseen, counted (h, w) Boolean: counted leaves out the halo. shape: of the maps; of another
    resolution than cells and image are `placed` over the image.
    """

    unit: str
    unseen: Tensor
    counted: Tensor
    shape: tuple[int, int]

    def placed(self, maps: Tensor) -> Tensor:
        """Maps (B, h, w) on these positions. A map of another resolution is laid over the image without smoothing; a position
        that lies over seen and unseen pixels is the seen ones' alone, so that no coarse map is blamed for its coarseness."""
        if tuple(maps.shape[-2:]) == tuple(self.unseen.shape):
            return maps
        size = tuple(self.unseen.shape)
        wide = interpolate(maps[:, None], size, mode="nearest-exact")[:, 0]
        number = torch.arange(self.shape[0] * self.shape[1], dtype=torch.float64).view(1, 1, *self.shape)
        owner = interpolate(number, size, mode="nearest-exact")[0, 0].long()
        touched = torch.zeros(self.shape[0] * self.shape[1], dtype=torch.bool)
        touched[owner[~self.unseen.cpu()]] = True
        shared = (touched[owner] & self.unseen.cpu()).to(maps.device)
        if self.unseen.any() and bool(shared[self.unseen].all()):
            raise ValueError(
                f"maps of {self.shape[0]} x {self.shape[1]} have no position that lies over unseen pixels alone, so they cannot be "
                f"read; return maps of more positions, such as the image's {size[0]} x {size[1]}"
            )
        return wide.masked_fill(shared, 0)


def regions_on(
    net: BlindNet, shape: tuple[int, ...], device: torch.device | str = "cpu", grid: str | None = None
) -> On:
    """The positions of maps (B, h, w) of the net: cells where they have its grid, pixels otherwise. grid: "cells" or "pixels", for
    nets whose cells are as many as their pixels; pixels if not given."""
    shape = (shape[0], shape[1])
    if shape == tuple(net.wall.seen.shape) and (shape != tuple(net.image_size) or grid == "cells"):
        unseen = _tensor(net.wall.unseen, device)
        return On("cells", unseen, torch.ones_like(unseen), shape)
    unseen, halo = (_tensor(each, device) for each in (net.regions.unseen, net.regions.halo))
    return On("pixels", unseen, ~halo, shape)


def _tensor(mask, device: torch.device | str) -> Tensor:
    return torch.from_numpy(mask.copy()).to(device)

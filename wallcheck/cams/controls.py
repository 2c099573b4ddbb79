"""Controls: maps that explain nothing, so that every scale shows its ends and its middle."""

from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.models import BlindNet

CONTROL: dict[str, Any] = dict(family="control", source="wallcheck", cost="0")


def without_wall(net: BlindNet) -> str | None:
    """Why the two ends of the scale mean nothing on this net."""
    return "it has no wall, so nothing is unseen" if net.wall.is_open else None


@cam_method(**CONTROL, verdict="leaks")
def constant(ev: Evidence) -> Tensor:
    """1 everywhere: what a map without any content scores."""
    return torch.ones(len(ev.images), *ev.wall.seen.shape, device=ev.images.device, dtype=ev.images.dtype)


@cam_method(**CONTROL, verdict="leaks")
def random(ev: Evidence) -> Tensor:
    """Uniform on (0, 1], independent at every cell; the draw of an image follows from its bytes and the seed."""
    maps = [
        torch.rand(
            ev.wall.seen.shape,
            generator=ev.generator(salt=crc32(image.contiguous().cpu().numpy())),
        )
        for image in ev.images
    ]
    return 1 - torch.stack(maps).to(ev.images)


@cam_method(**CONTROL, verdict="zero", refuses=without_wall)
def seen_only(ev: Evidence) -> Tensor:
    """The oracle of the wall: 1 on seen cells, 0 on unseen ones. Leaks nothing and says nothing."""
    return (~ev.unseen).to(ev.images.dtype).expand(len(ev.images), -1, -1)


@cam_method(**CONTROL, verdict="leaks", refuses=without_wall)
def unseen_only(ev: Evidence) -> Tensor:
    """The worst case: 1 on unseen cells, 0 on seen ones."""
    return ev.unseen.to(ev.images.dtype).expand(len(ev.images), -1, -1)

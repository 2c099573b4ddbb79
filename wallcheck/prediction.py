"""How much leakage must be expected from the activations alone: the theory's prediction, no free parameter.

For a bias-free Gaussian head on given activations A, theory/any_backbone.py (claim T3) shows that at every
cell, seen or unseen, E[relu Grad-CAM(u)] is one constant times |A(u)|, the norm of the channels at u, and
E[relu Grad-CAM(u)^2] the same constant squared, up to a factor, times |A(u)|^2. The constant falls out of any
share. So the local contrast of the features decides the expected leakage, wall or no wall.
"""

import pandas as pd
import torch
from torch import Tensor

from wallcheck.checking import checked_settings, checked_targets
from wallcheck.evidence import Evidence
from wallcheck.maps import upsample
from wallcheck.models import BlindNet, as_blind
from wallcheck.numerics import ratio


def predict_leakage(net: BlindNet, images: Tensor, blind: BlindNet | None = None, batch_size: int = 32) -> pd.DataFrame:
    """Expected leakage of Grad-CAM per image, from one forward to the target layer.

    images (B, 3, H, W). blind: the walled twin whose unseen region counts, for a net without a wall.
    Columns: image, on ("grid" or "image"), metric (leak_mass, and on the grid leak_l2), predicted. The value
    is the ratio of the two expectations, which is what the theory gives; the mean of a ratio
    differs from it by sampling noise that falls with the number of cells. Raises ValueError if nothing is unseen,
    and for images that do not fit the net.
    """
    net, region = as_blind(net), as_blind(net if blind is None else blind)
    if region.wall.is_open:
        raise ValueError("this net has no wall, so nothing is unseen; pass its walled twin as `blind`")
    checked_settings(0, batch_size, None)
    checked_targets(net, images, None)
    tables = []
    for start in range(0, len(images), batch_size):
        evidence = Evidence(net, images[start : start + batch_size])
        norms = channel_norms(evidence)
        for on, shares in (("grid", _grid(norms, region)), ("image", _image(norms, region))):
            for metric, share in shares.items():
                where = {"image": range(start, start + len(share)), "on": on, "metric": metric}
                tables.append(pd.DataFrame(where | {"predicted": share.double().cpu().numpy()}))
    return pd.concat(tables, ignore_index=True).sort_values(["on", "metric", "image"], ignore_index=True)


def channel_norms(evidence: Evidence) -> Tensor:
    """|A(u)|_2, (B, h, w), in double precision, where squares have room: up to one constant, the expected rectified Grad-CAM of a random head."""
    return evidence.activations.double().norm(dim=1)


def _grid(norms: Tensor, region: BlindNet) -> dict[str, Tensor]:
    unseen = torch.from_numpy(region.wall.unseen.copy()).to(norms.device)
    return {"leak_mass": _share(norms, unseen), "leak_l2": _share(norms.square(), unseen).sqrt()}


def _image(norms: Tensor, region: BlindNet) -> dict[str, Tensor]:
    """Upsampling is linear, so it commutes with the expectation; squares do not, so there is no leak_l2 here."""
    unseen, halo = (
        torch.from_numpy(mask.copy()).to(norms.device) for mask in (region.regions.unseen, region.regions.halo)
    )
    return {"leak_mass": _share(upsample(norms, region.image_size) * ~halo, unseen)}


def _share(values: Tensor, unseen: Tensor) -> Tensor:
    return ratio((values * unseen).sum((1, 2)), values.sum((1, 2)))

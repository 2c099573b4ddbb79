"""The audit: (net, images, methods, metrics) -> rows. No Lightning, no files."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wallcheck.cams import METHODS, Method
from wallcheck.certificate import Certificate, certify
from wallcheck.evidence import BUDGET_MB, Evidence
from wallcheck.maps import views_of
from wallcheck.metrics import LEAKAGE, Metric
from wallcheck.models import BlindNet
from wallcheck.numerics import unit_scale
from wallcheck.registry import unique
from wallcheck.results import COLUMNS, sorted_rows


def audit(
    net: BlindNet,
    images: Tensor,
    methods: Sequence[str | Method] | None = None,
    *,
    metrics: Sequence[str] | None = None,
    targets: Tensor | Sequence[int] | None = None,
    certificate: Certificate | None = None,
    contrast: BlindNet | None = None,
    net_name: str = "net",
    image_set: str = "images",
    indices: Sequence[int] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    budget_mb: float = BUDGET_MB,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Measure the leakage of methods on a blind net; one row per image x method x view x metric.

    images (B, 3, H, W), normalised as the net was trained. methods: names, or Methods of your own made
    with `cam_method`; None is all. metrics: names, None is all.
    targets: classes explained, None the predicted ones. certificate: of these very weights; made
    here if None. contrast: the walled twin of a net without a wall; leakage is then counted in the
    twin's unseen region, where this net sees, to show what the same map looks like without a wall.
    indices: numbers of the images in their set. progress: told after each batch how many images
    are done. Columns: net, images, image, method, view, on, metric, target, value; see
    `wallcheck.results.summary` for means with intervals and `split` there for where leakage comes from.

    Raises BrokenWall if the net is not blind or not the one certified, ValueError if it has no wall
    and no contrast was given.
    """
    if not len(images):
        raise ValueError("there are no images to audit; pass at least one, (B, 3, H, W)")
    blind = require_wall(net, contrast)
    (certificate or certify(blind)).raise_if_broken().raise_if_other(blind)
    chosen, measured = applicable(net, methods), [LEAKAGE[name] for name in unique(metrics or LEAKAGE)]
    indices = range(len(images)) if indices is None else indices
    tables = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        given = None if targets is None else torch.as_tensor(targets)[part]
        evidence = Evidence(net, images[part], given, seed=seed, budget_mb=budget_mb)
        tables.append(measure(evidence, chosen, measured, blind, net_name, image_set, indices[part]))
        if progress is not None:
            progress(len(evidence.images))
    return sorted_rows(tables)


def measure(
    evidence: Evidence,
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    blind: BlindNet,
    net_name: str,
    image_set: str,
    indices: Sequence[int],
) -> pd.DataFrame:
    """The rows of one batch; leakage is counted in the unseen region of `blind`."""
    cells, pixels, halo = (
        torch.from_numpy(mask.copy()).to(evidence.images.device)
        for mask in (blind.wall.unseen, blind.regions.unseen, blind.regions.halo)
    )
    where = {"grid": (cells, torch.ones_like(cells)), "image": (pixels, ~halo)}
    names, values = [], []
    for method in methods:
        raw, _ = unit_scale(finite(method, method(evidence)))  # views and shares of 1e-40 as of 1
        for view in views_of(method.grid):
            maps, _ = unit_scale(view.alter(raw, cells, evidence.net.image_size))  # once for all metrics
            for metric in metrics:
                names.append((method.name, view.name, view.on, metric.name))
                values.append(metric.body(maps, *where[view.on]).cpu().numpy())
    table = pd.DataFrame(names, columns=["method", "view", "on", "metric"])
    table = table.loc[table.index.repeat(len(evidence.images))].reset_index(drop=True)
    table["net"], table["images"], table["value"] = net_name, image_set, np.concatenate(values)
    table["image"] = np.tile(np.asarray(indices), len(names))
    table["target"] = np.tile(evidence.targets.cpu().numpy(), len(names))
    return table[COLUMNS]


def require_wall(net: BlindNet, contrast: BlindNet | None) -> BlindNet:
    """The net whose unseen region leakage is counted in: net itself, or its walled twin."""
    if contrast is None:
        if net.wall.is_open:
            raise ValueError("this net has no wall, so nothing is unseen; pass its walled twin as `contrast`")
        return net
    if contrast.image_size != net.image_size or contrast.wall.seen.shape != net.wall.seen.shape:
        raise ValueError(
            f"the contrast has {contrast.image_size} px and {contrast.wall.seen.shape} cells, the net "
            f"{net.image_size} px and {net.wall.seen.shape}; pass twins that differ in the wall alone"
        )
    return contrast


def applicable(net: BlindNet, wanted: Sequence[str | Method] | None) -> list[Method]:
    """The methods wanted; of all methods, those that are defined on this net."""
    if wanted is not None:
        own = {method.name: method for method in wanted if isinstance(method, Method)}
        names = [method.name if isinstance(method, Method) else method for method in wanted]
        return [own.get(name) or METHODS[name] for name in unique(names)]
    return [method for method in METHODS.values() if not method.refuses(net)]


def finite(method: Method, raw: Tensor) -> Tensor:
    """raw, or ValueError: a NaN in a map would make every mean that it enters NaN."""
    if not torch.isfinite(raw).all():
        image = int((~torch.isfinite(raw)).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"{method.name} gave NaN or infinity on image {image} of its batch; are the weights finite?")
    return raw

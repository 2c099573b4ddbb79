"""The audit: (net, images, methods, metrics) -> rows; one bad method costs itself alone. No Lightning, no files.

Beside leakage stands what a map misses, for a map that says nothing leaks nothing: where the head adds up over cells, so that
what each adds is known (`Evidence.truth`), and for every map how much of it is bright.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wallcheck.adapters import foreign
from wallcheck.cams import METHODS, Method
from wallcheck.certificate import Certificate, prove
from wallcheck.checking import (
    answered,
    checked_extras,
    checked_indices,
    checked_settings,
    checked_targets,
    chosen_metrics,
    refused,
    require_wall,
)
from wallcheck.defaults import usual
from wallcheck.evidence import Evidence
from wallcheck.guarding import Use, tried
from wallcheck.maps import View, rectify, views_of
from wallcheck.memory import handed_back, slices
from wallcheck.metrics import Attribution, Metric
from wallcheck.models import BlindNet, as_blind
from wallcheck.numerics import in_double, unit_scale
from wallcheck.registry import unique
from wallcheck.results import COLUMNS, Failure, sorted_rows, told, unresolved
from wallcheck.terminal import told_to


class Incomplete(UserWarning):
    """Some methods gave no map for some images; the rows of all others stand."""


AT_ONCE = 96 * 1024  # positions of maps, 0.8 MB of doubles
MEASURED = [name for name in COLUMNS if name not in ("net", "images")]


class Measured(NamedTuple):
    """The rows of one batch, and what could not be measured."""

    rows: pd.DataFrame
    failures: list[Failure]


@handed_back()
@usual()
def audit(
    net: BlindNet,
    images: Tensor,
    methods: Sequence[object] | object | None = None,
    *,
    metrics: Sequence[str] | str | None = None,
    targets: Tensor | Sequence[int] | int | None = None,
    certificate: Certificate | None = None,
    contrast: BlindNet | None = None,
    net_name: str = "net",
    image_set: str = "images",
    indices: Sequence[int] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    budget_mb: float | None = None,
    precision: str = "exact",
    progress: Callable[[int], None] | bool | None = None,
) -> pd.DataFrame:
    """Measure the leakage of methods on a blind net, and what they miss; one row per image x method x view x metric.

    images (B, 3, H, W), normalised as the net was trained. methods: names; Methods of your own made with `cam_method`; any
    function (model, images, targets) -> maps; classes and objects of other libraries, as they are (`wallcheck.adapters`), or
    "package.module:function"; None is all of ours. metrics: names of leakage and truth, None is all that can be had.
    targets: classes explained, one for each image or one for all, None the predicted ones. The net is proved anew, here,
    whatever was proved before; certificate: a record that it must agree with. contrast: the walled twin of a net without a
    wall; leakage is then counted in the
    twin's unseen region, where this net sees, to show what the same map looks like without a wall.
    budget_mb, precision: see `Evidence`. indices: numbers of the images in their set. progress: told after each batch how many
    images more are done; True shows a bar. Columns: net, images, image, method, view, on, metric, target, value; see
    `wallcheck.results.summary` for means with intervals and `split` there for where leakage comes from.

    A method that raises, gives NaN or no map, or changes evidence, images or weights has no rows for those images;
    all else stands, net and images are given back as they were. It is named in an `Incomplete` warning
    and in `attrs["failures"]` of the table, an empty list where nothing is missing.

    Raises BrokenWall if the net is not blind or not the one certified; ValueError, before any work, for arguments that do
    not fit, or if the net has no wall and no contrast was given; ValueError if no method gave any map.
    """
    net = as_blind(net)
    blind = require_wall(net, contrast)
    measured = chosen_metrics(metrics)
    checked_settings(seed, batch_size, budget_mb, precision)
    checked_extras(certificate, progress)
    targets, numbers = checked_targets(net, images, targets), checked_indices(indices, len(images))
    chosen = applicable(net, methods, images)
    refused(net, chosen)
    answered(net, measured)
    proved = prove(blind)
    if certificate is not None:
        certificate.raise_if_broken().raise_if_unlike(proved)
    graph, found = proved if blind is net else net.graph, []
    settings: dict[str, Any] = dict(seed=seed, budget_mb=budget_mb, graph=graph, precision=precision)
    with told_to(progress, len(images), f"{net_name} on {image_set}") as tell:
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            given = None if targets is None else targets[part]
            evidence = Evidence(net, images[part], given, **settings)
            found.append(measure(evidence, chosen, measured, blind, net_name, image_set, numbers[part]))
            tell(len(evidence.images))
    return _whole(found)


def _whole(found: Sequence[Measured]) -> pd.DataFrame:
    table = sorted_rows(batch.rows for batch in found)
    missing = unresolved([failure for batch in found for failure in batch.failures], table)
    if missing and table.empty:
        raise ValueError("; ".join(map(told, missing)))
    table.attrs["failures"] = missing
    warn_of(missing, stacklevel=6)
    return table


def warn_of(missing: Sequence[dict], stacklevel: int = 3) -> None:
    if missing:
        warnings.warn(f"{'; '.join(map(told, missing))}. All other rows stand", Incomplete, stacklevel=stacklevel)


@usual()
def measure(
    evidence: Evidence,
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    blind: BlindNet,
    net_name: str,
    image_set: str,
    indices: Sequence[int],
) -> Measured:
    """The rows of one batch; leakage is counted in the unseen region of `blind`."""
    targets, made = evidence.targets, []
    masks = blind.wall.unseen, blind.regions.unseen, blind.regions.halo
    cells, pixels, halo = (torch.from_numpy(mask.copy()).to(evidence.images.device) for mask in masks)
    regions = {"grid": (cells, torch.ones_like(cells)), "image": (pixels, ~halo)}
    for method in methods:
        where = questions(evidence.net, method, metrics)
        if where:
            made.append((method, where, tried(method, evidence, _answers(method, metrics, regions, evidence))))
    told = [
        torch.stack([*map(in_double, found.values), in_double(found.bad)])
        for *_, found in made
        if found.places and found.bad is not None
    ]
    (targets,), *read = _read([targets[None], *told])
    numbers, columns, failures = np.asarray(indices), [], []
    for method, where, found in made:
        answered_here: Any = read.pop(0) if found.places else [()]
        *values, bad = answered_here
        kept, wrong = found.read(method, [value > 0 for value in bad])
        if kept:
            places = np.array(found.places)[kept]
            columns.append(_columns(method, where, numbers[places], targets[places].astype(int), values, kept))
        names = tuple(dict.fromkeys(metric for _, _, metric in where))
        failures += [
            Failure(net_name, image_set, int(numbers[place]), method.name, names, error)
            for place, error in wrong.items()
        ]
    rows = pd.DataFrame({name: np.concatenate([one[name] for one in columns]) if columns else [] for name in MEASURED})
    return Measured(rows.assign(net=net_name, images=image_set)[COLUMNS], failures)


def _columns(
    method: Method,
    where: Sequence[tuple[str, str, str]],
    numbers: np.ndarray,
    targets: np.ndarray,
    values: Sequence[np.ndarray],
    kept: list[int],
) -> dict[str, np.ndarray]:
    """The rows of one method as columns: for each of `where` the images in turn."""
    told = np.array(where, dtype=object).repeat(len(kept), axis=0)
    return dict(
        image=np.tile(numbers, len(where)),
        method=np.full(len(told), method.name, dtype=object),
        view=told[:, 0],
        on=told[:, 1],
        metric=told[:, 2],
        target=np.tile(targets, len(where)),
        value=np.stack(values)[:, kept].ravel(),
    )


def _read(held: Sequence[Tensor]) -> list[np.ndarray]:
    """Each of (n, N) on the CPU, by one copy of them all: every copy waits until a GPU has done all that it was given."""
    flat = torch.cat([in_double(one).flatten() for one in held]).cpu()
    parts = flat.split([one.numel() for one in held])
    return [part.view(one.shape).numpy() for part, one in zip(parts, held, strict=True)]


def questions(net: BlindNet, method: Method, metrics: Sequence[Metric]) -> list[tuple[str, str, str]]:
    """(view, on, metric) of every value that a method's map has on this net: leakage of each view; truth of the raw map on cells,
    where the net tells it; how much is bright on the map as rectified, where it is."""
    views = [view for view in views_of(method.grid) for metric in metrics if metric.kind == "leakage"]
    leaks = [metric for metric in metrics if metric.kind == "leakage"] * len(views_of(method.grid))
    found = [(view.name, view.on, metric.name) for view, metric in zip(views, leaks, strict=True)]
    on_cells = method.grid == "cells"
    for metric in metrics:
        if metric.asks == "contributions" and on_cells and net.graph.adds_up:
            found.append(("raw", "grid", metric.name))
        elif metric.asks == "itself":
            found.append(("rectified", "grid" if on_cells else "image", metric.name))
    return found


def _answers(
    method: Method, metrics: Sequence[Metric], regions: dict[str, tuple[Tensor, Tensor]], evidence: Evidence
) -> Use:
    """The values (N,) of raw maps, in the order of `questions`. regions: what is unseen and what counts, on "grid" and "image"."""
    truths = [metric for metric in metrics if metric.kind == "truth"]
    leaks = [metric for metric in metrics if metric.kind == "leakage"]
    known = method.grid == "cells" and evidence.net.graph.adds_up

    def shares(views: list[View], pieces: list[Tensor], on: str, narrow: bool) -> list[Tensor]:
        """The values of the leakage metrics of each view in turn; all views of a piece are measured at once."""
        parts = []
        for raw in pieces:
            maps = torch.cat([view.alter(raw, regions["grid"][0], evidence.net.image_size) for view in views])
            there = Attribution(maps if narrow else unit_scale(maps)[0], *regions[on])
            parts.append([metric.of_attribution(there).unflatten(0, (len(views), -1)) for metric in leaks])
        each = [torch.cat(values, 1) for values in zip(*parts, strict=True)]
        return [values[number] for number in range(len(views)) for values in each]

    def values(raw: Tensor, places: list[int]) -> list[Tensor]:
        # What is not 0 in a map of single precision is at least 2^-277 of its peak: no square of a view's underflows, and no share
        # depends on its scale. Views of doubles are brought to unit scale too.
        narrow = raw.dtype != torch.float64 and all(metric.shared is not None for metric in leaks)
        raw, _ = unit_scale(raw)  # views and shares of 1e-40 as of 1
        found = []
        for on, views in groupby(views_of(method.grid) if leaks else (), key=lambda view: view.on):
            size = evidence.net.image_size if on == "image" else raw.shape[-2:]
            found += shares(list(views), [raw[part] for part in _pieces(raw, size)], on, narrow)
        for metric in truths:
            if metric.asks == "itself":
                found.append(metric.body(rectify(raw)))
            elif known and evidence.truth is not None:
                found.append(metric.body(raw, evidence.truth[places]))
        return found

    return values


def _pieces(maps: Tensor, size: Sequence[int]) -> list[slice]:
    """So many of the maps at once that a view of them, (B, *size) doubles, stays in a CPU's cache: what is allocated anew for each
    step is then taken from what the last one gave back. All of them on a GPU."""
    many = len(maps) if maps.device.type != "cpu" else max(2, AT_ONCE // math.prod(size))
    return list(slices(0, len(maps), many))


@usual()
def applicable(
    net: BlindNet, wanted: object | None, images: Tensor | Callable[[], Tensor] | None = None
) -> list[Method]:
    """The methods wanted; of all methods, those that are defined on this net. images: a few, or what gives them, on which it is
    found out what maps explainers from elsewhere give; None is noise. Raises ValueError for an empty list and for what is no
    method."""
    if wanted is None:
        return [method for method in METHODS.values() if not method.refuses(net)]
    alone = isinstance(wanted, (str, Method)) or callable(wanted)
    wanted = list(wanted) if isinstance(wanted, Iterable) and not alone else [wanted]
    if not wanted:
        raise ValueError(
            "no methods were asked for; give names (wallcheck methods lists them), Methods made with cam_method, or None for all"
        )
    some = images if images is not None else lambda: _noise(net)
    chosen = [_chosen(one, net, some) for one in wanted]
    unique(method.name for method in chosen)
    return chosen


def _chosen(one: object, net: BlindNet, images: Tensor | Callable[[], Tensor]) -> Method:
    if isinstance(one, Method):
        return one
    if isinstance(one, str) and (one in METHODS or not {":", "."} & set(one)):
        return METHODS[one]
    return foreign(one, net, images)


def _noise(net: BlindNet) -> Tensor:
    """Two images of noise, always the same."""
    return torch.randn(2, net.colours, *net.image_size, generator=torch.Generator().manual_seed(0))


def finite(method: Method, raw: Tensor) -> Tensor:
    """raw, or ValueError: a NaN in a map would make every mean that it enters NaN."""
    if not torch.isfinite(raw).all():
        image = int((~torch.isfinite(raw)).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"{method.name} gave NaN or infinity on image {image} of its batch; are the weights finite?")
    return raw

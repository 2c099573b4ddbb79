"""The audit: (net, images, methods, metrics) -> rows; one bad method costs itself alone. No Lightning, no files.

Beside leakage stands what a map misses, for a map that says nothing leaks nothing: where the head adds up over cells, so that
what each adds is known (`Evidence.truth`), and for every map how much of it is bright.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from operator import index
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wallcheck.adapters import foreign
from wallcheck.cams import METHODS, Method
from wallcheck.certificate import Certificate, prove
from wallcheck.defaults import usual
from wallcheck.evidence import Evidence
from wallcheck.graph import checked_precision
from wallcheck.guarding import Use, tried
from wallcheck.maps import rectify, views_of
from wallcheck.metrics import LEAKAGE, TRUTH, Metric
from wallcheck.models import BlindNet, unwrapped
from wallcheck.numerics import as_classes, in_double, unit_scale
from wallcheck.registry import Registry, unique
from wallcheck.results import COLUMNS, Failure, sorted_rows, told, unresolved
from wallcheck.terminal import told_to


class Incomplete(UserWarning):
    """Some methods gave no map for some images; the rows of all others stand."""


BYTES = 30  # normalised images reach 3, and some take 0 to 1


class Unscaled(UserWarning):
    """Images look like bytes that nobody normalised."""


class Measured(NamedTuple):
    """The rows of one batch, and what could not be measured."""

    rows: pd.DataFrame
    failures: list[Failure]


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
    net, contrast = unwrapped(net), unwrapped(contrast)
    blind = require_wall(net, contrast)
    measured = chosen_metrics(metrics)
    checked_settings(seed, batch_size, budget_mb, precision)
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
    warn_of(missing, stacklevel=5)
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
    numbers, targets, made = np.asarray(indices), evidence.targets, []
    masks = blind.wall.unseen, blind.regions.unseen, blind.regions.halo
    cells, pixels, halo = (torch.from_numpy(mask.copy()).to(evidence.images.device) for mask in masks)
    regions = {"grid": (cells, torch.ones_like(cells)), "image": (pixels, ~halo)}
    for method in methods:
        where = questions(evidence.net, method, metrics)
        if where:
            made.append((method, where, tried(method, evidence, _answers(method, metrics, regions, evidence))))
    tables, failures = [], []
    told = [
        torch.stack([*map(in_double, found.values), in_double(found.bad)])
        for *_, found in made
        if found.places and found.bad is not None
    ]
    (targets,), *read = _read([targets[None], *told])
    for method, where, found in made:
        answered_here: Any = read.pop(0) if found.places else [()]
        *values, bad = answered_here
        kept, wrong = found.read(method, [value > 0 for value in bad])
        if kept:
            places = np.array(found.places)[kept]
            table = pd.DataFrame(where, columns=["view", "on", "metric"])
            table = table.loc[table.index.repeat(len(kept))].reset_index(drop=True)
            table["method"], table["value"] = method.name, np.concatenate([value[kept] for value in values])
            table["image"], table["target"] = (
                np.tile(numbers[places], len(where)),
                np.tile(targets[places].astype(int), len(where)),
            )
            tables.append(table)
        names = tuple(dict.fromkeys(metric for _, _, metric in where))
        failures += [
            Failure(net_name, image_set, int(numbers[place]), method.name, names, error)
            for place, error in wrong.items()
        ]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    return Measured(rows.assign(net=net_name, images=image_set)[COLUMNS], failures)


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
    cells = regions["grid"][0]
    truths = [metric for metric in metrics if metric.kind == "truth"]
    known = method.grid == "cells" and evidence.net.graph.adds_up

    def values(raw: Tensor, places: list[int]) -> list[Tensor]:
        raw, _ = unit_scale(raw)  # views and shares of 1e-40 as of 1
        found = []
        for view in views_of(method.grid):
            maps = unit_scale(view.alter(raw, cells, evidence.net.image_size))[0]
            found += [metric.body(maps, *regions[view.on]) for metric in metrics if metric.kind == "leakage"]
        for metric in truths:
            if metric.asks == "itself":
                found.append(metric.body(rectify(raw)))
            elif known and evidence.truth is not None:
                found.append(metric.body(raw, evidence.truth[places]))
        return found

    return values


def require_wall(net: BlindNet, contrast: BlindNet | None) -> BlindNet:
    """The net whose unseen region leakage is counted in: net itself, or its walled twin."""
    if contrast is None:
        if net.wall.is_open:
            raise ValueError("this net has no wall, so nothing is unseen; pass its walled twin as `contrast`")
        return net
    if contrast.wall.is_open:
        raise ValueError("the contrast has no wall, so nothing is unseen; pass the walled twin")
    if not net.wall.is_open:
        raise ValueError("this net has a wall of its own; leakage is counted behind it, so leave out the contrast")
    if contrast.image_size != net.image_size or contrast.wall.seen.shape != net.wall.seen.shape:
        raise ValueError(
            f"the contrast has {contrast.image_size} px and {contrast.wall.seen.shape} cells, the net "
            f"{net.image_size} px and {net.wall.seen.shape}; pass twins that differ in the wall alone"
        )
    return contrast


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


def refused(net: BlindNet, methods: Sequence[Method]) -> None:
    """Raise ValueError for the first method that is not defined on net."""
    for method in methods:
        if reason := method.refuses(net):
            raise ValueError(f"{method.name} is not defined on this net: {reason}; leave it out")


def chosen_metrics(wanted: Sequence[str] | str | None) -> list[Metric]:
    """The metrics of leakage and truth wanted, all for None; raises ValueError for an empty list."""
    every: Registry[Metric] = Registry("metric of an audit")
    for registry in (LEAKAGE, TRUTH):
        every.update(registry)
    names = (
        every
        if wanted is None
        else [wanted]
        if isinstance(wanted, str) or not isinstance(wanted, Iterable)
        else list(wanted)
    )
    if not len(names):
        raise ValueError(f"no metrics were asked for; give some of {', '.join(every)}, or None for all")
    return [every[name] for name in unique(names)]


def answered(net: BlindNet, metrics: Sequence[Metric]) -> None:
    """Raise ValueError where nothing that was asked for can be had on net."""
    if all(metric.asks == "contributions" for metric in metrics) and not net.graph.adds_up:
        raise ValueError(
            f"{metrics[0].name} asks what each cell adds to the logit, which this net's head does not tell: it does not add up "
            f"over cells; audit a net whose head pools or flattens the map and ends in one linear layer, or ask for leakage"
        )


def checked_settings(seed: int, batch_size: int, budget_mb: float | None, precision: str = "exact") -> None:
    """Raise ValueError for settings that no audit can have."""
    if budget_mb is not None and (
        isinstance(budget_mb, bool) or not isinstance(budget_mb, (int, float, np.number)) or budget_mb == np.inf
    ):
        raise ValueError(f"budget_mb is {budget_mb!r}; give the memory of one chunk in MiB, above 0, or None")
    for name, value, least in (("seed", seed, 0), ("batch_size", batch_size, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} is {value!r}; give a whole number from {least} on")
    if budget_mb is not None and not budget_mb > 0:
        raise ValueError(f"budget_mb is {budget_mb!r}; give the memory of one chunk in MiB, above 0, or None")
    checked_precision(precision)


def checked_targets(net: BlindNet, images: Tensor, targets: Tensor | Sequence[int] | int | None) -> Tensor | None:
    """One class for each image, or None; raises ValueError for images or targets that do not fit the net."""
    if not isinstance(images, Tensor):
        raise ValueError(
            f"images are {type(images).__name__}, expected a Tensor (B, 3, H, W); use wallcheck.data.normalise"
        )
    if not len(images):
        raise ValueError("there are no images to audit; pass at least one, (B, 3, H, W)")
    net.check(images)
    for place, image in enumerate(images):
        if not torch.isfinite(image).all():
            raise ValueError(f"images hold NaN or infinity (image {place}); check how they were read and normalised")
    low, high = (float(end) for end in (images if images.element_size() > 1 else images.float()).aminmax())
    if low >= 0 and high > BYTES:
        warnings.warn(
            f"images run from {low:g} to {high:g}, as bytes do; if the net was trained on normalised images, hand those over "
            "(wallcheck.data.normalise)",
            Unscaled,
            stacklevel=4,
        )
    if targets is None:
        return None
    given = as_classes(targets)
    given = given.expand(len(images)) if given.ndim == 0 else given
    if given.shape != (len(images),):
        raise ValueError(
            f"there are {tuple(given.shape)} targets for {len(images)} images; give one class for each image, one for "
            f"all, or None for the predicted ones"
        )
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise ValueError(
            f"targets are {given.dtype}, expected class indices, whole numbers; or None for the predicted ones"
        )
    for end in (given.argmin(), given.argmax()):  # the ends of the range fit, so all do; Evidence knows the classes
        Evidence(net, images[:1], given[end : end + 1])
    return given


def checked_indices(indices: Sequence[int] | None, count: int) -> list[int]:
    """The numbers of the images in their set; raises ValueError unless there is one of its own for each."""
    given = range(count) if indices is None else indices
    try:
        numbers = [index(number) for number in given]
    except TypeError:
        raise ValueError(f"indices are {given!r}; give a whole number for each image") from None
    if len(numbers) != count or len(set(numbers)) < count:
        raise ValueError(
            f"there are {len(numbers)} indices, {len(set(numbers))} of them different, for {count} images; give each "
            f"image a number of its own"
        )
    return numbers


def finite(method: Method, raw: Tensor) -> Tensor:
    """raw, or ValueError: a NaN in a map would make every mean that it enters NaN."""
    if not torch.isfinite(raw).all():
        image = int((~torch.isfinite(raw)).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"{method.name} gave NaN or infinity on image {image} of its batch; are the weights finite?")
    return raw

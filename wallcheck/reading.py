"""The reading of one method: its leakage on some images, with all that a stranger needs to believe it.

import wallcheck as wc
reading = wc.leakage(explain)            # any function (model, images, targets) -> maps, or another library's object
assert reading <= 0.01, reading
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wallcheck.adapters import Door, LeftBehind
from wallcheck.auditing import applicable
from wallcheck.cams import Method
from wallcheck.certificate import prove
from wallcheck.checking import checked_settings, checked_targets, refused, require_wall
from wallcheck.evidence import Evidence
from wallcheck.guarding import each
from wallcheck.handed import Handed, seen
from wallcheck.metrics import LEAKAGE, TRUTH, Metric
from wallcheck.models import BlindNet, unwrapped
from wallcheck.regions import On, regions_on
from wallcheck.statistics import interval, percent, told
from wallcheck.terminal import told_to

EVERYWHERE = 0.9  # of a map: what is left cannot point at anything


class Unreadable(ValueError):
    """Some images have no map, so there is no reading of them all. `reading` is of the images that have one, None where none has;
    `failures` names the others, image -> what went wrong."""

    def __init__(self, message: str, reading: "Reading | None", failures: dict[int, str]):
        super().__init__(message)
        self.reading, self.failures = reading, failures


@dataclass(frozen=True, eq=False)
class Reading:
    """Leakage of one method on one net, compared by its `value`: reading <= 0.01. NaN, where every map is empty, is never clean.

    value: mean of `metric` over the images whose maps are not empty, of the method's own maps; interval: its 95 % ends, NaN below six
    images. images: how many. worst: the image that leaks most, and place: (row, column) of its brightest unseen cell or pixel; None
    where nothing leaks. constant: what a constant map scores. empty: share of empty maps.

    came: the same metric of the maps as they were handed over; artefact: what stretching a signed map to [0, 1] added; bleed: what
    enlarging alone shows on unseen pixels. None of the three is in `value`. view: what was found of the maps. left: what the method
    left behind. warnings: maps that are empty or bright everywhere, and so say nothing.

    values (images,): of each image, NaN for an empty map. worst_map, unseen (h, w): for a picture.
    """

    method: str
    net: str
    metric: str
    value: float
    interval: tuple[float, float]
    images: int
    worst: int | None
    place: tuple[int, int] | None
    unit: str
    constant: float
    empty: float
    came: float
    artefact: float
    bleed: float
    view: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    values: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False)
    worst_map: np.ndarray | None = field(default=None, repr=False)
    unseen: np.ndarray | None = field(default=None, repr=False)

    def __float__(self) -> float:
        return self.value

    def __eq__(self, other: object) -> bool:
        return self.value == float(other) if isinstance(other, (Reading, int, float)) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self.value < float(other) if isinstance(other, (Reading, int, float)) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self.value <= float(other) if isinstance(other, (Reading, int, float)) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self.value > float(other) if isinstance(other, (Reading, int, float)) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self.value >= float(other) if isinstance(other, (Reading, int, float)) else NotImplemented

    __hash__ = object.__hash__

    def __format__(self, style: str) -> str:
        return format(self.value, style) if style else str(self)

    def __str__(self) -> str:
        return self.describe()

    def describe(self) -> str:
        """All of it in a few lines."""
        lines = [f"{self.method} on {self.net}: {self.metric} {self._value}"]
        lines.append(f"  0 is clean; a constant map scores {self.constant:.3f}")
        if self.worst is not None and self.place is not None:
            at = f"{self.unit[:-1]} ({self.place[0]}, {self.place[1]})"
            lines.append(
                f"  worst: image {self.worst}, {self.values[self.worst]:.3f}; its brightest unseen place is {at}"
            )
        if self.view:
            lines.append(f"  maps: {'; '.join(self.view)}")
        apart = [
            f"{value:.3f} {what}"
            for value, what in (
                (self.artefact, "more by stretching a signed map, which lifts zero"),
                (self.bleed, "bleeds over unseen pixels by enlarging"),
            )
            if value
        ]
        if apart:
            lines.append(f"  not in it: {'; '.join(apart)} (as handed over: {self.came:.3f})")
        lines += [f"  left behind: {one}" for one in self.left]
        lines += [f"  warning: {one}" for one in self.warnings]
        return "\n".join(lines)

    @property
    def _value(self) -> str:
        if np.isnan(self.value):
            return f"has no value: all {self.images} maps are empty, and an empty map is not clean, it says nothing"
        low, high = self.interval
        found = dict(mean=self.value, low=low, high=high, count=self.images, empty=self.empty)
        return f"{told(found)} over {self.images} images"


def leakage(
    explain: object,
    net: BlindNet | str | None = None,
    images: Tensor | object | None = None,
    *,
    targets: Tensor | Sequence[int] | int | None = None,
    metric: str = "leak_mass",
    contrast: BlindNet | None = None,
    net_name: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
    budget_mb: float | None = None,
    progress: Callable[[int], None] | bool | None = None,
) -> Reading:
    """How much positive attribution a method puts where the net provably cannot see.

    explain: a function (model, images (B, 3, H, W), targets (B,)) -> maps of any resolution, tensor or array; a class or an object
    of pytorch-grad-cam, torchcam, captum or zennit, as it is; a name, or "package.module:function" (`wallcheck.adapters`). It is
    given `net.model`, the whole ordinary module, on a clean copy. net, images: None is what the wheel ships; a net by its name
    there; a tensor (B, 3, H, W), or an image set. targets: classes explained, None the predicted ones. metric: of leakage.
    contrast, as for `wallcheck.audit`: the walled twin of a net without a wall. progress: told after each batch how many images more
    are done; True shows a bar.

    The maps' view is measured, and what it adds is kept apart (`wallcheck.handed`). What explain leaves behind is told by a
    `LeftBehind` warning and in the reading. Raises BrokenWall if the net is not blind, ValueError for what does not fit, and
    `Unreadable`, a ValueError, where images have no map: it raised, changed the model, gave NaN or another shape.

        leakage("hirescam", net, images).value        # 0.0
        leakage("torchcam.GradCAM") <= 0.01           # False: a reading compares by its value
    """
    net, images, net_name = _shipped(net, images, net_name)
    net = unwrapped(net)
    blind, measured = require_wall(net, unwrapped(contrast)), LEAKAGE[metric]
    checked_settings(seed, batch_size, budget_mb)
    targets = checked_targets(net, images, targets)
    (method,) = applicable(net, [explain], images)
    refused(net, [method])
    proved = prove(blind)
    graph = proved if blind is net else net.graph
    taken = _Taken(method, measured, blind)
    with told_to(progress, len(images), f"{method.name} on {net_name}") as tell:
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            given = None if targets is None else targets[part]
            taken.take(Evidence(net, images[part], given, seed=seed, budget_mb=budget_mb, graph=graph), start)
            tell(len(images[part]))
    return taken.reading(net_name, len(images))


def reading_on(evidence: Evidence, explain: object, *, metric: str = "leak_mass", net_name: str = "net") -> Reading:
    """`leakage` of one batch whose evidence is made already, so that several methods share one proof of its net."""
    blind, measured = require_wall(evidence.net, None), LEAKAGE[metric]
    (method,) = applicable(evidence.net, [explain], evidence.images)
    refused(evidence.net, [method])
    taken = _Taken(method, measured, blind)
    taken.take(evidence, 0)
    return taken.reading(net_name, len(evidence.images))


def _shipped(net: Any, images: Any, name: str | None) -> tuple[BlindNet, Tensor, str]:
    """Net, images and the net's name, those of the wheel where none are given."""
    if net is None or isinstance(net, str) or images is None:
        from wallcheck import assets

        name = name or (net if isinstance(net, str) else "plain" if net is None else None)
        net = assets.net(name or "plain") if net is None or isinstance(net, str) else net
        images = assets.images("stack_mix") if images is None else images
    images = images.images() if not isinstance(images, Tensor) and hasattr(images, "images") else images
    return net, images, name or "net"


class _Taken:
    """What batches add up to."""

    def __init__(self, method: Method, metric: Metric, blind: BlindNet):
        self.door = method.body.telling() if isinstance(method.body, Door) else None
        self.method = method if self.door is None else replace(method, body=self.door)
        self.metric, self.blind = metric, blind
        self.parts: dict[str, dict[int, float]] = {name: {} for name in ("own", "came", "artefact", "bleed", "bright")}
        self.failures: dict[int, str] = {}
        self.facts: dict[str, None] = {}
        self.left: dict[str, None] = {}
        self.worst: tuple[float, int | None, np.ndarray | None] = (0.0, None, None)
        self.on: On | None = None

    def take(self, ev: Evidence, start: int) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _, _, wrong = each(self.method, ev, lambda raw, places: self._use(raw, places, ev, start))
        self.failures |= {start + place: error for place, error in wrong.items()}
        for found in self.parts.values():  # a map that is NaN is used as 0 before that is known
            for place in wrong:
                found.pop(start + place, None)
        for one in caught:
            if not issubclass(one.category, LeftBehind):
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
                continue
            if str(one.message) not in self.left:
                self.left[str(one.message)] = None
                warnings.warn(one.message, stacklevel=3)

    def _use(self, raw: Tensor, places: list[int], ev: Evidence, start: int) -> list[Tensor]:
        found = self._handed(raw, places, ev)
        size, pixels = ev.net.image_size, regions_on(self.blind, ev.net.image_size, raw.device)
        values = dict(own=found.leakage(self.metric), **found.parts(self.metric, size, pixels))
        values["bright"] = TRUTH["bright_area"](found.own.clamp(min=0)).cpu()
        self.facts |= dict.fromkeys(found.facts)
        self.on = found.grid
        for name, each_value in values.items():
            self.parts[name] |= {start + place: float(v) for place, v in zip(places, each_value, strict=True)}
        for row, place in enumerate(places):
            value = float(values["own"][row])
            if value > self.worst[0]:
                self.worst = (value, start + place, found.own[row].cpu().numpy())
        return [values["own"]]

    def _handed(self, raw: Tensor, places: list[int], ev: Evidence) -> Handed:
        """What came through the door, of these images; ours are handed over raw."""
        if self.door is None:
            return seen(raw, self.blind, self.method.grid, raw=True)
        told = self.door.told or []
        last = told[-1]
        told.clear()
        if self.blind is not ev.net:  # counted in the twin's region
            last = seen(last.came, self.blind, self.method.grid)
        return last if len(places) == len(last.own) else last.part(places)

    def reading(self, net_name: str, count: int) -> Reading:
        made = self._reading(net_name, count, self.on) if self.on is not None else None
        if self.failures:
            first = min(self.failures)
            raise Unreadable(
                f"{self.method.name} gave no map for {len(self.failures)} of {count} images; image {first}: {self.failures[first]}",
                made,
                self.failures,
            )
        if made is None:
            raise ValueError("there were no images to read; pass at least one, (B, 3, H, W)")
        return made

    def _reading(self, net_name: str, count: int, on: On) -> Reading:
        values = {name: np.array([of[n] for n in sorted(of)]) for name, of in self.parts.items()}
        found = interval(values["own"])
        _, worst, worst_map = self.worst
        unseen = on.unseen.cpu().numpy()
        whole = np.full(count, np.nan)
        whole[sorted(self.parts["own"])] = values["own"]
        constant = self.metric(torch.ones(1, *unseen.shape, device=on.unseen.device), on.unseen, on.counted)
        return Reading(
            method=self.method.name,
            net=net_name,
            metric=self.metric.name,
            value=float(found["mean"]),
            interval=(float(found["low"]), float(found["high"])),
            images=len(values["own"]),
            worst=worst,
            place=None if worst_map is None else _brightest(worst_map, unseen),
            unit=on.unit,
            constant=float(constant[0]),
            empty=float(found["empty"]),
            came=_mean(values["came"]),
            artefact=_mean(values["artefact"]),
            bleed=_mean(values["bleed"]),
            view=tuple(self.facts),
            left=tuple(one.partition("left behind: ")[2].partition(". All")[0] for one in self.left),
            warnings=tuple(nothing_said("", values["bright"])),
            values=whole,
            worst_map=worst_map,
            unseen=unseen,
        )


def _brightest(map_: np.ndarray, unseen: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(np.where(unseen, map_, -np.inf).argmax(), map_.shape)
    return int(row), int(column)


def _mean(values: np.ndarray) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else float("nan")


def nothing_said(name: str, bright: np.ndarray) -> list[str]:
    """A line for maps that are empty, and one for those that are bright everywhere: such maps pass one side of the test by saying
    nothing. bright (N,): `bright_area` of each, NaN for an empty one.

    >>> nothing_said("mine", np.array([np.nan, 0.2, 0.95]))[0]
    'mine: 1 of 3 maps are empty; they leak nothing, and miss all there is'
    """
    empty, everywhere = int(np.isnan(bright).sum()), int((bright >= EVERYWHERE).sum())
    lines, called = [], f"{name}: " if name else ""
    if empty:
        lines.append(f"{called}{empty} of {len(bright)} maps are empty; they leak nothing, and miss all there is")
    if everywhere:
        lines.append(
            f"{called}{everywhere} of {len(bright)} maps are bright everywhere, above half the maximum on {percent(EVERYWHERE)} of "
            f"their cells or more; they miss nothing, and tell nothing"
        )
    return lines

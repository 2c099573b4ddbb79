"""What batches add up to: each map measured as it comes, and the reading of them all."""

import warnings
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from wallcheck.adapters import Door, LeftBehind
from wallcheck.cams import Method
from wallcheck.evidence import Evidence
from wallcheck.guarding import each
from wallcheck.handed import Handed, seen
from wallcheck.keeping import alone
from wallcheck.metrics import TRUTH, Metric
from wallcheck.models import BlindNet
from wallcheck.reading._record import Reading, Unreadable, nothing_said
from wallcheck.regions import On, regions_on
from wallcheck.statistics import interval


class Taken:
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
        with alone(), warnings.catch_warnings(record=True) as caught:
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
                warnings.warn(one.message, stacklevel=5)

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
        last = last if len(places) == len(last.own) else last.part(places)
        return last.cleared(~torch.isfinite(last.came).flatten(1).all(1) | ~torch.isfinite(last.own).flatten(1).all(1))

    def reading(self, net_name: str, count: int) -> Reading:
        made = self._reading(net_name, count, self.on) if self.on is not None and self.parts["own"] else None
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

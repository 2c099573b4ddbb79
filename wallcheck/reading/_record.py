"""The record: what was read, compared by its value, and told in a few lines."""

from dataclasses import dataclass, field

import numpy as np

from wallcheck.statistics import percent, told

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
            if value and not np.isnan(value)
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
        shown = told(found, zero="exactly 0")
        return f"{shown} over {self.images} images"


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

"""What the rows say of each method, and of a net on an image set as a whole."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from wallcheck.cams import METHODS, called
from wallcheck.certificate import Certificate
from wallcheck.plots import family_of, in_order
from wallcheck.report._reading import Contents
from wallcheck.statistics import interval

# verdict -> what it says; in the order in which a reader looks for them
VERDICTS = {
    "dark": "every map is exactly 0 on the unseen region",
    "lit": "some map is positive there; the mean is less than what a constant map scores",
    "uniform": "positive there, and not shown to be less than what a constant map, the same everywhere, scores",
    "empty": "no map has anything positive: nothing leaks, and nothing is said",
    "no map": "gave no map at all",
}
SHORT = {name: name for name in VERDICTS} | {"uniform": "like a constant map"}


@dataclass(frozen=True)
class Standing:
    """A method on a net and an image set. Each of `cells`, `pixels`, `displayed`, `lit`, `missed` is an
    `interval` of its values over images, None where it was not measured. values: of the main measure, image by image, on
    cells, or on pixels for maps without cells. flat: what a constant map scores on the same. error: why maps are missing.
    """

    name: str
    values: np.ndarray
    flat: float | None
    missing: int = 0
    error: str = ""
    cells: dict | None = None
    pixels: dict | None = None
    displayed: dict | None = None
    lit: dict | None = None
    missed: dict | None = None

    @property
    def title(self) -> str:
        return called(self.name)

    @property
    def family(self) -> str:
        return family_of(self.name)

    @property
    def expected(self) -> str:
        return METHODS[self.name].verdict if self.name in METHODS else "not_stated"

    @property
    def main(self) -> dict | None:
        """Of the main measure: on cells, or on pixels where there are none."""
        return self.cells or self.pixels

    @cached_property
    def verdict(self) -> str:
        """A key of VERDICTS."""
        if self.main is None:
            return "no map"
        if np.isnan(self.main["mean"]):
            return "empty"
        if not np.nan_to_num(self.values).any():
            return "dark"
        if self.flat is None:
            return "lit"
        highest = self.main["mean"] if np.isnan(self.main["high"]) else self.main["high"]
        return "uniform" if highest >= self.flat else "lit"

    @property
    def surprise(self) -> bool:
        """Does it leak, though its formula is exactly zero where nothing is seen? Then the code or the wall is wrong."""
        return self.expected == "zero" and self.verdict in ("lit", "uniform")


@dataclass(frozen=True)
class Pair:
    """All methods on one net and image set, in the order of families. twin: of a net without a wall, the net in whose
    unseen region it is measured. count: images with rows; asked: images that the study began with, if it tells."""

    net: str
    images: str
    twin: str | None
    count: int
    asked: int | None
    standings: list[Standing] = field(repr=False)

    @property
    def methods(self) -> list[Standing]:
        """Without the controls."""
        return [one for one in self.standings if one.family != "control"]

    @cached_property
    def counts(self) -> dict[str, int]:
        """Verdict -> how many methods, controls aside."""
        found = Counter(one.verdict for one in self.methods)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}


def by_family(standings: Iterable[Standing]) -> dict[str, list[Standing]]:
    """In the order given."""
    found: dict[str, list[Standing]] = {}
    for one in standings:
        found.setdefault(one.family, []).append(one)
    return found


def pairs_of(contents: Contents) -> list[Pair]:
    return [_pair(contents, net, images) for net, images in contents.pairs]


def _pair(contents: Contents, net: str, images: str) -> Pair:
    rows = contents.rows.select(net=net, images=images)
    failed = {one["method"]: one for one in rows.failures if (one["net"], one["images"]) == (net, images)}
    asked = contents.manifest.config.get("methods", {}).get(net, [])
    names = in_order({*rows.unique("method"), *failed, *asked})
    found = rows.values(rows.measures)
    values = {(one.method, one.metric, one.view, one.on): of.to_numpy() for one, of in found.items()}
    flats = _flats(values, contents.measure, contents.certificates.get(net))
    standings = [_standing(name, values, contents.measure, flats, failed.get(name)) for name in names]
    begun = contents.manifest.image_sets.get(images, {}).get("count")
    seen = set().union(*(of.index for of in found.values()))
    return Pair(net, images, contents.twin(net), len(seen), begun, standings)


Values = dict[tuple[str, str, str, str], np.ndarray]  # (method, metric, view, on) -> values by image
NONE = np.empty(0)


def _standing(name: str, values: Values, measure: str, flats: dict[str, float], failed: dict | None) -> Standing:
    cells, pixels = (values.get((name, measure, "rectified", on), NONE) for on in ("grid", "image"))
    on = "grid" if len(cells) else "image"
    told = dict(
        cells=cells,
        pixels=pixels,
        displayed=values.get((name, "leak_l2", "displayed", "image"), NONE),
        lit=values.get((name, "leak_any", "rectified", on), NONE),
        missed=values.get((name, "missed", "raw", "grid"), NONE),
    )
    return Standing(
        name,
        cells if len(cells) else pixels,
        flats.get(on),
        failed["count"] if failed else 0,
        failed["error"] if failed else "",
        **{key: interval(found) for key, found in told.items() if len(found)},
    )


def _flats(values: Values, measure: str, certificate: Certificate | None) -> dict[str, float]:
    """What a constant map scores, on "grid" and "image": measured, or on the grid counted, the unseen share of the cells."""
    found = {}
    for on in ("grid", "image"):
        measured = values.get(("constant", measure, "rectified", on), NONE)
        if len(measured):
            found[on] = float(measured.mean())
    if "grid" not in found and certificate is not None:
        share = float(certificate.unseen_cells.mean())
        found["grid"] = {"leak_mass": share, "leak_l2": share**0.5}.get(measure, 1.0)
    return found

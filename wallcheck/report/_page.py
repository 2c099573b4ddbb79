"""From a run folder's contents to the page: the template's words, numbers and drawings."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from wallcheck.cams import FAMILIES, called
from wallcheck.cams import VERDICTS as EXPECTED
from wallcheck.maps import VIEWS
from wallcheck.metrics import KINDS, Metric
from wallcheck.plots import SETS, Examples, in_order, look
from wallcheck.report._pictures import how_many, marker, overlay, photograph, region
from wallcheck.report._reading import Contents
from wallcheck.report._verdicts import SHORT, VERDICTS, Pair, Standing, by_family, pairs_of
from wallcheck.results import versions
from wallcheck.statistics import percent
from wallcheck.wall_words import place

DOTS = 200  # of one method: more images than that are shown by as many quantiles
CHECKS = {
    "graph": "what runs can be written as one graph, for every input and batch",
    "proof": "by dependence alone, for all images and weights: does a path lead from an unseen pixel or cell to a logit?",
    "finite_weights": "no weight is NaN or infinite",
    "bits": "any values in unseen pixels, extreme ones included, leave the logits identical to the bit",
    "gradient": "the gradient of the logits by unseen pixels is exactly zero",
    "maximal": "every seen pixel at the border does change a logit: the region could not be larger (reported, not demanded)",
}
COLUMNS = {  # what is measured, and where
    "cells": ("{} on unseen", "cells"),
    "pixels": ("{} on unseen", "pixels"),
    "displayed": ("L2 share as displayed, unseen", "pixels"),
    "lit": ("maps with any leakage", ""),
    "missed": ("missed", "cells"),
}
MEASURES = {"leak_mass": "share of attribution", "leak_l2": "share of L2 norm", "leak_peak": "peak, relative",
            "leak_any": "any leakage"}  # fmt: skip


def page(contents: Contents) -> str:
    """The whole report as HTML."""
    pairs = pairs_of(contents)
    nets = dict.fromkeys(pair.net for pair in pairs)
    methods = in_order({one.name for pair in pairs for one in pair.standings})
    return (
        _templates()
        .get_template("page.html")
        .render(
            contents=contents,
            pairs=pairs,
            nets=list(nets),
            sets=list(dict.fromkeys(pair.images for pair in pairs)),
            families={name: FAMILIES.get(name, "a method of the user's own") for name in _families(pairs)},
            looks={name: look(name) for name in methods},
            columns=[key for key in COLUMNS if any(getattr(one, key) for pair in pairs for one in pair.standings)],
            gaps=[(pair, one) for pair in pairs for one in pair.standings if one.missing or one.verdict == "no map"],
            measure=MEASURES[contents.measure],
            galleries={
                (pair.net, pair.images): gallery for pair in pairs if (gallery := _gallery(contents, pair, len(pairs)))
            },
            certificates={net: contents.certificates[net] for net in nets if net in contents.certificates},
            metrics=_metrics(contents),
            theory=_theory(contents),
            version=versions()["wallcheck"],
        )
    )


def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("wallcheck.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= dict(
        by_family=by_family,
        called=called,
        dots=dots,
        number=number,
        percent=percent,
        place=place,
        region=region,
        span=span,
    )
    made.globals |= dict(CHECKS=CHECKS, COLUMNS=COLUMNS, EXPECTED=EXPECTED, SETS=SETS,
                         SHORT=SHORT, VERDICTS=VERDICTS, VIEWS=VIEWS, marker=marker)  # fmt: skip
    return made


def number(found: dict | None, in_percent: bool = False) -> str:
    """A mean as one reads it: exact zero told from little, an empty map from both; a dash where nothing was measured.

    >>> number(dict(mean=0.0)), number(dict(mean=0.0004)), number(dict(mean=0.5)), number(dict(mean=0.5), True), number(None)
    ('0', '<0.001', '0.500', '50%', '–')
    """
    if found is None:
        return "–"
    mean = found["mean"]
    if np.isnan(mean):
        return "empty"
    return percent(mean) if in_percent else "0" if mean == 0 else "<0.001" if mean < 0.0005 else f"{mean:.3f}"


def span(found: dict | None, in_percent: bool = False) -> str:
    """The interval beside it, and the share of empty maps; nothing where there is none."""
    if found is None or np.isnan(found["mean"]):
        return ""
    style = ".0%" if in_percent else ".3f"
    ends = "" if np.isnan(found["low"]) else f"[{found['low']:{style}}, {found['high']:{style}}]"
    return f"{ends} {percent(found['empty'])} empty".strip() if found["empty"] else ends


def dots(values: np.ndarray) -> str:
    """Values in [0, 1] as an SVG path of dots, x in thousandths, y spread over 4 to 16 by the golden ratio, not by chance."""
    kept = np.sort(values[~np.isnan(values)])
    if len(kept) > DOTS:
        kept = np.quantile(kept, np.linspace(0, 1, DOTS))
    heights = 4 + 12 * (np.arange(len(kept)) * 0.618034 % 1)
    return "".join(f"M{1000 * x:.0f} {y:.0f}h0" for x, y in zip(kept.clip(0, 1), heights, strict=True))


@dataclass(frozen=True)
class Tile:
    """A method's map on an image: its picture, and the share that is unseen, of cells (None where it has none) and of pixels."""

    standing: Standing
    picture: str
    cells: float | None
    pixels: float


@dataclass(frozen=True)
class Gallery:
    """Of a net and image set: the kept images that are shown, with regions (H, W), and by image the tiles of each family."""

    examples: Examples
    photographs: list[str]
    tiles: list[dict[str, list[Tile]]]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.examples.unseen_pixels.shape


def _gallery(contents: Contents, pair: Pair, pairs: int) -> Gallery | None:
    examples = contents.examples.get((pair.net, pair.images))
    if examples is None:
        return None
    shown = [one for one in pair.standings if one.name in examples.maps]
    images = range(how_many(len(shown), len(examples.pixels), pairs))
    return Gallery(
        examples,
        [photograph(examples.pixels[image]) for image in images],
        [
            {family: [_tile(examples, one, image) for one in ones] for family, ones in by_family(shown).items()}
            for image in images
        ],
    )


def _tile(examples: Examples, one: Standing, image: int) -> Tile:
    leaked = examples.leaked_cells(one.name, image), examples.leaked_pixels(one.name, image)
    return Tile(one, overlay(examples, one.name, image), *leaked)


def _families(pairs: list[Pair]) -> Iterator[str]:
    yield from dict.fromkeys(one.family for pair in pairs for one in pair.standings)


def _metrics(contents: Contents) -> list[Metric]:
    every = {name: metric for registry in KINDS.values() for name, metric in registry.items()}
    asked = contents.manifest.config.get("metrics") or list(every)
    return [every[name] for name in every if name in asked]


def _theory(contents: Contents) -> dict | None:
    """Steps of training, and line by line what was predicted and what each method measured, means over images."""
    if contents.predicted is None:
        return None
    table = contents.predicted[contents.predicted["metric"] == "leak_mass"]
    measured = table.pivot_table(index="method", columns="step", values="measured")
    lines = [(name, measured.loc[name].tolist()) for name in in_order(measured.index)]
    return dict(
        steps=measured.columns.tolist(),
        predicted=table.groupby("step")["predicted"].mean().tolist(),
        lines=lines,
        images=int(table["image"].nunique()),
    )

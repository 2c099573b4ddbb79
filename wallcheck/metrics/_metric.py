"""What a metric is: a pure function with one value per map, and what is known of it."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps

import torch
from torch import Tensor

from wallcheck.numerics import all_finite, unit_scale
from wallcheck.registry import Registry

SHARE = (0.0, 1.0)
SCALELESS = ("leakage", "localisation", "truth")


@dataclass(frozen=True)
class Metric:
    """A function of what its kind compares -> (B,); NaN means undefined on that map.

    leakage: (maps (B, h, w), unseen (h, w), counted (h, w)). localisation: (maps (B, H, W), inside (B, H, W)).
    faithfulness: (before (B,), after (B, ...)). consistency: (maps (B, ...), others (B, ...)), others as asked for.
    truth: (maps (B, h, w), what each cell adds (B, h, w)), or maps alone. combined: values (B,) of the metrics named in `of`.
    better: "low" or "high". bounds: the ends of the scale, and `ends` what they say. source: paper and variant.
    check: raises ValueError, with the metric's name, for what does not fit. asks: what is asked of the net or
    the method, a key of ASKED. shared: the same of an `Attribution`, where the metric was written so.
    """

    name: str
    body: Callable[..., Tensor]
    kind: str
    better: str
    bounds: tuple[float, float]
    ends: str
    source: str
    check: Callable[..., None]
    asks: str = ""
    of: tuple[str, ...] = ()
    shared: Callable[["Attribution"], Tensor] | None = None

    def __call__(self, first: Tensor, *others: Tensor) -> Tensor:
        """Values in double precision where maps are measured: they are brought to unit scale first, so that no value
        depends on a map's own scale."""
        self.check(self.name, first, *others)
        return self.body(unit_scale(first)[0] if self.kind in SCALELESS else first, *others)

    def of_attribution(self, on: "Attribution") -> Tensor:
        """The same as `body` of what it holds, without computing again what another metric asked of it."""
        return self.body(on.maps, on.unseen, on.counted) if self.shared is None else self.shared(on)

    @property
    def what(self) -> str:
        """The first sentence of the docstring."""
        text = " ".join((inspect.getdoc(self.body) or "").split("\n\n")[0].split())
        return re.split(r"(?<=\.)(?<!al\.) ", text)[0]

    @property
    def cost(self) -> str:
        """F full forwards, M the method itself, beside making the map."""
        return (
            " + ".join(cost for cost in (named(name).cost for name in self.of) if cost != "none")
            if self.of
            else COST.get(self.asks, "none")
        )


class Attribution:
    """Maps (B, h, w) over the unseen and the counted (h, w), and what metrics of leakage ask of them, each computed once."""

    def __init__(self, maps: Tensor, unseen: Tensor, counted: Tensor):
        self.maps, self.unseen, self.counted = maps, unseen, counted

    @cached_property
    def positive(self) -> tuple[Tensor, Tensor]:
        """The positive part on what is unseen and on what counts, (B, h, w) each, 0 elsewhere."""
        positive = self.maps.clamp(min=0)
        return positive * self.unseen, positive * self.counted

    @cached_property
    def peaks(self) -> tuple[Tensor, Tensor]:
        """(B,): the highest positive value unseen, and of all that counts; 0 if there is none."""
        unseen, counted = self.positive
        return unseen.flatten(1).amax(1), counted.flatten(1).amax(1)


ASKED = {
    "kept": "the image times the map",
    "removed": "the image times one minus the map",
    "deleted": "the image without its brightest 0, 1, ..., T T-ths",
    "inserted": "the brightest 0, 1, ..., T T-ths of the image alone",
    "brightest_imputed": "the image with its brightest 1, ..., 9 tenths filled in from around",
    "darkest_imputed": "the image with its darkest 1, ..., 9 tenths filled in from around",
    "squares": "the image without each of 64 random squares: what the map says of it, what the logit loses",
    "itself": "nothing but the map",
    "contributions": "what each cell adds to the logit, exactly: heads that add up over cells alone",
    "again": "the map of the image times the map",
    "nearby": "the maps of 10 images that differ by at most 0.02 per pixel",
}
COST = {
    "kept": "1F", "removed": "1F", "deleted": "25F", "inserted": "25F", "brightest_imputed": "9F and 9 sparse solves",
    "darkest_imputed": "9F and 9 sparse solves", "squares": "65F", "again": "1M", "nearby": "10M",
}  # fmt: skip

LEAKAGE: "Registry[Metric]" = Registry("leakage metric")
LOCALISATION: "Registry[Metric]" = Registry("localisation metric")
FAITHFULNESS: "Registry[Metric]" = Registry("faithfulness metric")
CONSISTENCY: "Registry[Metric]" = Registry("consistency metric")
TRUTH: "Registry[Metric]" = Registry("truth metric")
COMBINED: "Registry[Metric]" = Registry("combined metric")
KINDS = {
    "leakage": LEAKAGE, "localisation": LOCALISATION, "faithfulness": FAITHFULNESS, "consistency": CONSISTENCY,
    "truth": TRUTH, "combined": COMBINED,
}  # fmt: skip


def leakage_metric(better: str = "low", bounds: tuple[float, float] = SHARE, *, ends: str = "", source: str = ""):
    """Register a function of (maps, unseen, counted), or of one `Attribution`, under its own name; returns the Metric."""

    def register(function: Callable[..., Tensor]) -> Metric:
        @wraps(function)
        def body(maps: Tensor, unseen: Tensor, counted: Tensor) -> Tensor:
            return function(Attribution(maps, unseen, counted))

        alone = len(inspect.signature(function).parameters) == 1
        about = (better, bounds, ends, source, regions_fit)
        name, shared = function.__name__, function if alone else None
        LEAKAGE[name] = Metric(name, body if alone else function, "leakage", *about, shared=shared)
        return LEAKAGE[name]

    return register


def localisation_metric(better: str = "high", bounds: tuple[float, float] = SHARE, *, ends: str = "", source: str = ""):
    """Register a function of (maps, inside) under its own name; returns the Metric."""
    return _register("localisation", better, bounds, ends, source, object_fits)


def faithfulness_metric(
    asks: str, better: str, bounds: tuple[float, float] = SHARE, *, ends: str = "", source: str = ""
):
    """Register a function of (before, after) under its own name; returns the Metric."""
    known(asks)
    return _register("faithfulness", better, bounds, ends, source, answers_fit, asks)


def consistency_metric(
    asks: str, better: str, bounds: tuple[float, float] = SHARE, *, ends: str = "", source: str = ""
):
    """Register a function of (maps, others), or of maps alone if nothing is asked; returns the Metric."""
    known(asks)
    return _register("consistency", better, bounds, ends, source, maps_fit, asks)


def truth_metric(asks: str, better: str, bounds: tuple[float, float] = SHARE, *, ends: str = "", source: str = ""):
    """Register a function of (maps, contributions), or of maps alone if nothing is asked; returns the Metric."""
    known(asks)
    return _register("truth", better, bounds, ends, source, truth_fits, asks)


def combined_metric(
    *of: str, better: str = "high", bounds: tuple[float, float] = SHARE, ends: str = "", source: str = ""
):
    """Register a function of the values of the metrics named; returns the Metric."""
    return _register("combined", better, bounds, ends, source, values_fit, None, of)


def known(asks: str) -> None:
    if asks not in ASKED:
        raise ValueError(f"{asks!r} is none of {', '.join(ASKED)}")


def named(name: str) -> Metric:
    """The metric of this name, of whatever kind."""
    every: Registry[Metric] = Registry("metric")
    for registry in KINDS.values():
        every.update(registry)
    return every[name]


def _register(kind: str, *facts):
    def register(body: Callable[..., Tensor]) -> Metric:
        KINDS[kind][body.__name__] = Metric(body.__name__, body, kind, *facts)
        return KINDS[kind][body.__name__]

    return register


# -- what fits ------------------------------------------------------------------------------------


def regions_fit(name: str, maps: Tensor, *regions: Tensor) -> None:
    finite(name, maps)
    for region in regions:
        if region.shape != maps.shape[-2:]:
            raise ValueError(
                f"{name}: maps have {tuple(maps.shape[-2:])} positions, a region {tuple(region.shape)}; "
                f"use the regions of the grid the maps are on"
            )


def finite(name: str, maps: Tensor) -> None:
    if not all_finite(maps):
        raise ValueError(f"{name}: maps hold NaN or infinity, which would read as empty; find where they come from")


def object_fits(name: str, maps: Tensor, inside: Tensor) -> None:
    finite(name, maps)
    if inside.shape != maps.shape or inside.dtype != torch.bool:
        raise ValueError(
            f"{name}: maps are {tuple(maps.shape)}, object masks {inside.dtype} {tuple(inside.shape)}; "
            f"give one Boolean mask per map, and upsample the maps to the image first"
        )


SHAPES = {"kept": "(B,)", "removed": "(B,)", "squares": "(B, 2, N)"}  # curves else


def answers_fit(name: str, before: Tensor, after: Tensor) -> None:
    asks = FAITHFULNESS[name].asks
    wanted = SHAPES.get(asks, "(B, T + 1)")
    if before.ndim != 1 or after.ndim != 1 + wanted.count(", ") or len(after) != len(before):
        raise ValueError(
            f"{name}: probabilities are {tuple(before.shape)} before and {tuple(after.shape)} after, expected (B,) "
            f"and {wanted}; wallcheck.masking makes them"
        )
    for given in (before, after) if asks != "squares" else (before,):
        if (given < 0).any() or (given > 1).any():
            raise ValueError(
                f"{name}: probabilities run from {given.min():.3g} to {given.max():.3g}; "
                f"give what wallcheck.numerics.probabilities makes of logits"
            )


def maps_fit(name: str, maps: Tensor, *others: Tensor) -> None:
    asks = CONSISTENCY[name].asks
    stacked: list[tuple[int, ...]] = [(len(maps), *o.shape[1:2], *maps.shape[1:]) for o in others]
    wanted = {"itself": [], "again": [tuple(maps.shape)]}.get(asks, stacked)
    got = [tuple(other.shape) for other in others]
    if maps.ndim != 3 or got != [tuple(shape) for shape in wanted] or (asks != "itself" and len(others) != 1):
        raise ValueError(
            f"{name}: maps are {tuple(maps.shape)} and {got}; give (B, h, w) and {ASKED[asks]}, "
            f"as wallcheck.measuring makes them"
        )
    for given in (maps, *others):
        finite(name, given)


def truth_fits(name: str, maps: Tensor, *truth: Tensor) -> None:
    wanted = [maps.shape] if TRUTH[name].asks == "contributions" else []
    if maps.ndim != 3 or [given.shape for given in truth] != wanted:
        got = [tuple(given.shape) for given in truth]
        raise ValueError(
            f"{name}: maps are {tuple(maps.shape)} and {got}; give raw maps (B, h, w) on cells and {ASKED[TRUTH[name].asks]}, "
            f"Evidence.truth"
        )
    for given in (maps, *truth):
        finite(name, given)


def values_fit(name: str, *values: Tensor) -> None:
    of = COMBINED[name].of
    if len(values) != len(of) or {value.shape for value in values} != {values[0].shape}:
        raise ValueError(f"{name}: got {[tuple(v.shape) for v in values]}, expected one (B,) each of {', '.join(of)}")


def share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, NaN where there is no whole to have a share of.

    >>> share(torch.tensor([1., 1.]), torch.tensor([4., 0.]))
    tensor([0.2500,    nan])
    """
    if torch.is_grad_enabled() and (part.requires_grad or whole.requires_grad):  # so that no slope becomes 0 / 0
        return torch.where(whole > 0, part / whole.where(whole > 0, 1.0), torch.nan)
    return (part / whole).masked_fill_(whole <= 0, torch.nan)

"""What a metric is: a pure function with one value per map, and what is known of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wallcheck.numerics import unit_scale
from wallcheck.registry import Registry


@dataclass(frozen=True)
class Metric:
    """A function of what its kind compares -> (B,); NaN means undefined on that map.

    leakage: (maps (B, h, w), unseen (h, w), counted (h, w)). localisation: (maps (B, H, W), inside (B, H, W)).
    faithfulness: (before (B,), after (B,) or (B, T + 1)). better: "low" or "high". bounds: the ends of the scale.
    check: raises ValueError, with the metric's name, for what does not fit. asks: of a faithfulness
    metric, which masked images `after` belongs to, a key of ASKED.
    """

    name: str
    body: Callable[..., Tensor]
    better: str
    bounds: tuple[float, float]
    check: Callable[..., None]
    asks: str | None = None

    def __call__(self, first: Tensor, *others: Tensor) -> Tensor:
        """Values in double precision. Maps are brought to unit scale first: no value depends on a map's own scale."""
        self.check(self.name, first, *others)
        return self.body(first if self.asks else unit_scale(first)[0], *others)


ASKED = {
    "kept": "the image times the map",
    "removed": "the image times one minus the map",
    "deleted": "the image without its brightest 0, 1, ..., T T-ths",
    "inserted": "the brightest 0, 1, ..., T T-ths of the image alone",
}

LEAKAGE: "Registry[Metric]" = Registry("leakage metric")
LOCALISATION: "Registry[Metric]" = Registry("localisation metric")
FAITHFULNESS: "Registry[Metric]" = Registry("faithfulness metric")


def leakage_metric(better: str = "low", bounds: tuple[float, float] = (0.0, 1.0)):
    """Register a function of (maps, unseen, counted) under its own name; returns the Metric."""
    return _register(LEAKAGE, better, bounds, regions_fit)


def localisation_metric(better: str = "high", bounds: tuple[float, float] = (0.0, 1.0)):
    """Register a function of (maps, inside) under its own name; returns the Metric."""
    return _register(LOCALISATION, better, bounds, object_fits)


def faithfulness_metric(asks: str, better: str, bounds: tuple[float, float] = (0.0, 1.0)):
    """Register a function of (before, after) under its own name; returns the Metric."""
    if asks not in ASKED:
        raise ValueError(f"{asks!r} is none of {', '.join(ASKED)}")
    return _register(FAITHFULNESS, better, bounds, probabilities_fit, asks)


def _register(registry: "Registry[Metric]", *known):
    def register(body: Callable[..., Tensor]) -> Metric:
        better, bounds, check, *asks = known
        registry[body.__name__] = Metric(body.__name__, body, better, bounds, check, *asks)
        return registry[body.__name__]

    return register


def regions_fit(name: str, maps: Tensor, *regions: Tensor) -> None:
    finite(name, maps)
    for region in regions:
        if region.shape != maps.shape[-2:]:
            raise ValueError(
                f"{name}: maps have {tuple(maps.shape[-2:])} positions, a region {tuple(region.shape)}; "
                f"use the regions of the grid the maps are on"
            )


def finite(name: str, maps: Tensor) -> None:
    if not torch.isfinite(maps).all():
        raise ValueError(f"{name}: maps hold NaN or infinity, which would read as empty; find where they come from")


def object_fits(name: str, maps: Tensor, inside: Tensor) -> None:
    finite(name, maps)
    if inside.shape != maps.shape or inside.dtype != torch.bool:
        raise ValueError(
            f"{name}: maps are {tuple(maps.shape)}, object masks {inside.dtype} {tuple(inside.shape)}; "
            f"give one Boolean mask per map, and upsample the maps to the image first"
        )


def probabilities_fit(name: str, before: Tensor, after: Tensor) -> None:
    curve = FAITHFULNESS[name].asks in ("deleted", "inserted")
    if before.ndim != 1 or after.ndim != 1 + curve or len(after) != len(before):
        raise ValueError(
            f"{name}: probabilities are {tuple(before.shape)} before and {tuple(after.shape)} after, expected (B,) "
            f"and {'(B, T + 1)' if curve else '(B,)'}; wallcheck.masking makes them"
        )
    for given in (before, after):
        if (given < 0).any() or (given > 1).any():
            raise ValueError(
                f"{name}: probabilities run from {given.min():.3g} to {given.max():.3g}; "
                f"give what wallcheck.numerics.probabilities makes of logits"
            )


def share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, NaN where there is no whole to have a share of.

    >>> share(torch.tensor([1., 1.]), torch.tensor([4., 0.]))
    tensor([0.2500,    nan])
    """
    return torch.where(whole > 0, part / whole.where(whole > 0, 1.0), torch.nan)

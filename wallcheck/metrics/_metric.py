"""What a metric is: a pure function from maps to one number per map, and what is known of it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from wallcheck.registry import Registry


@dataclass(frozen=True)
class Metric:
    """(maps (B, h, w), unseen (h, w), counted (h, w)) -> (B,).

    better: "low" or "high". bounds: the ends of the scale. NaN means undefined on that map.
    """

    name: str
    body: Callable[[Tensor, Tensor, Tensor], Tensor]
    better: str
    bounds: tuple[float, float]

    def __call__(self, maps: Tensor, unseen: Tensor, counted: Tensor) -> Tensor:
        for mask in (unseen, counted):
            if mask.shape != maps.shape[-2:]:
                raise ValueError(
                    f"{self.name}: maps have {tuple(maps.shape[-2:])} positions, a region {tuple(mask.shape)}; "
                    f"use the regions of the grid the maps are on"
                )
        return self.body(maps, unseen, counted)


LEAKAGE: "Registry[Metric]" = Registry("leakage metric")


def leakage_metric(better: str = "low", bounds: tuple[float, float] = (0.0, 1.0)):
    """Register a function of (maps, unseen, counted) under its own name; returns the Metric."""

    def register(body: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Metric:
        LEAKAGE[body.__name__] = Metric(body.__name__, body, better, bounds)
        return LEAKAGE[body.__name__]

    return register

"""Leakage as a metric that counts along, in the manner of torchmetrics: update with maps, compute the mean."""

import torch
from torch import Tensor
from torchmetrics import Metric

from wallcheck.defaults import usual
from wallcheck.handed import one_value, seen
from wallcheck.metrics import LEAKAGE
from wallcheck.models import BlindNet, as_blind


class LeakageMetric(Metric):
    """Mean leakage of maps on a blind net, over batches and processes.

        metric = LeakageMetric(net)                  # metric="leak_mass"
        for images, targets in loader:
            metric.update(explain(net.model, images, targets))
        metric.compute()                             # 0 is clean; NaN where every map was empty
        metric.empty                                 # share of empty maps, which no mean holds

    Maps are (B, h, w), (B, 1, h, w) or (B, C, h, w), of any resolution, tensors or arrays; what a view added is kept out as
    `wallcheck.leakage` does (`wallcheck.handed`). Raises ValueError for maps that are not finite or of another shape, and for a net
    without a wall.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    total: Tensor
    counted: Tensor
    maps: Tensor

    def __init__(self, net: BlindNet, metric: str = "leak_mass", **kwargs):
        super().__init__(**kwargs)
        if as_blind(net).wall.is_open:
            raise ValueError("this net has no wall, so nothing is unseen and nothing can leak; pass its walled twin")
        self._told = (
            as_blind(net),
            LEAKAGE[metric].name,
        )  # in a tuple: the net is asked, and is no part of this module's state
        for name in ("total", "counted", "maps"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    @usual()
    def update(self, maps: Tensor) -> None:
        """maps of a batch of images."""
        net, metric = self._told
        count = len(maps) if hasattr(maps, "__len__") else 1  # what has no length is no map, which one_value tells
        values, _ = one_value(maps, count, net.image_size, net.wall.seen.shape)
        found = seen(values, net).leakage(LEAKAGE[metric]).to(self.total)
        empty = found.isnan()
        self.total += found[~empty].sum()
        self.counted += (~empty).sum()
        self.maps += len(found)

    def compute(self) -> Tensor:
        """Mean over the maps that are not empty, in double precision; NaN where there is none."""
        return self.total / self.counted if self.counted else torch.full_like(self.total, torch.nan)

    @property
    def empty(self) -> Tensor:
        """Share of the maps so far that are empty; NaN before the first."""
        return 1 - self.counted / self.maps

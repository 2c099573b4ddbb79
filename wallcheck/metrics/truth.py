"""Truth: does the map say what each cell adds to the logit, and what does it miss?

A map without leakage may say nothing at all. Where a head adds up over cells, logit = bias + sum_u c(u), what each cell adds is
known exactly, `Evidence.truth`, and a map can be held against it on both sides. Every metric takes raw, signed maps (B, h, w) on
cells and c (B, h, w); `bright_area` asks for the map alone. The map's own scale plays no part. An empty map (nothing positive)
misses all there is; where a metric is not defined on a map, or nothing is true, the value is NaN.
"""

import torch
from torch import Tensor

from wallcheck.metrics._metric import TRUTH, share, truth_metric
from wallcheck.numerics import correlation, ranks

NAN = torch.nan


@truth_metric(
    "contributions", "low", ends="0 none of it, 1 all of it", source="wallcheck; 1 - recall, weighed by c > 0"
)
def missed(maps: Tensor, truth: Tensor) -> Tensor:
    """Share of what speaks for the class that stands on cells where the map shows nothing: sum of c over c > 0 and S <= 0, over
    sum of c > 0. A map that is positive everywhere misses nothing, an empty one everything.

    >>> missed(torch.tensor([[[5., 0.], [-1., 2.]]]), torch.tensor([[[3., 1.], [-2., 0.]]]))
    tensor([0.2500], dtype=torch.float64)
    """
    speaks = truth.double().clamp(min=0)
    return share(_total(speaks * (maps <= 0)), _total(speaks))


@truth_metric(
    "contributions", "high", ends="0 none of it, 1 all of it", source="wallcheck; precision, weighed by S > 0"
)
def precision(maps: Tensor, truth: Tensor) -> Tensor:
    """Share of positive attribution on cells that do speak for the class: sum of S over S > 0 and c > 0, over sum of S > 0.

    >>> precision(torch.tensor([[[6., 0.], [-1., 2.]]]), torch.tensor([[[3., 1.], [-2., 0.]]]))
    tensor([0.7500], dtype=torch.float64)
    """
    shown = maps.double().clamp(min=0)
    return share(_total(shown * (truth > 0)), _total(shown))


@truth_metric(
    "contributions", "high", ends="0 all wrong, 1 all right", source="wallcheck; accuracy of signs, weighed by |c|"
)
def sign_agreement(maps: Tensor, truth: Tensor) -> Tensor:
    """Share of what is said for and against the class, sum of |c|, on cells where the map has the same sign. Cells without say
    have no weight; a map that is 0 there disagrees.

    >>> sign_agreement(torch.tensor([[[5., 0.], [-1., 2.]]]), torch.tensor([[[3., 1.], [-2., 0.]]])).round(decimals=4)
    tensor([0.8333], dtype=torch.float64)
    """
    weight = truth.double().abs()
    return share(_total(weight * (maps.sign() == truth.sign())), _total(weight))


@truth_metric(
    "contributions", "high", (-1.0, 1.0), ends="-1 upside down, 0 unrelated, 1 the same order", source="Spearman 1904"
)
def rank_agreement(maps: Tensor, truth: Tensor) -> Tensor:
    """Spearman's rank correlation over cells with c, equal values sharing the mean of their ranks; NaN for a map without
    contrast, 0 where nothing is true.

    >>> rank_agreement(torch.tensor([[[5., 0.], [-1., 2.]]]), torch.tensor([[[3., 1.], [-2., 0.]]])).round(decimals=9)
    tensor([0.8000], dtype=torch.float64)
    """
    return correlation(ranks(maps.flatten(1)), ranks(truth.flatten(1)))


@truth_metric("itself", "low", ends="0 a single point, 1 bright everywhere", source="threshold at half the maximum")
def bright_area(maps: Tensor) -> Tensor:
    """Share of all positions above half the highest value. A map that is bright everywhere misses nothing, and tells nothing.

    >>> bright_area(torch.tensor([[[5., 0.], [3., 2.]]]))
    tensor([0.5000], dtype=torch.float64)
    """
    top = maps.amax((-2, -1), keepdim=True)
    area = (maps > top / 2).double().mean((-2, -1))
    return area.where(top[:, 0, 0] > 0, NAN)


def _total(values: Tensor) -> Tensor:
    return values.sum((-2, -1))


__test__ = {name: metric.body for name, metric in TRUTH.items()}  # doctest looks into functions, not into Metrics

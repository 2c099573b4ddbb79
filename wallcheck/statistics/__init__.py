"""Statistics as a referee wants them: intervals over images and over nets, paired tests, ranks of methods. No torch.

Nothing here sees a net or a map: values come in, with NaN for empty maps, and every answer says how many were left out.
"""

from wallcheck.statistics.intervals import DIFFERENCE, FLOOR, SHARE, hall, interval, percent, told, wilson
from wallcheck.statistics.nets import over_nets, summary_over_nets
from wallcheck.statistics.pairs import compare, holm, paired
from wallcheck.statistics.ranking import Ranking, ranking

__all__ = [
    "DIFFERENCE",
    "FLOOR",
    "SHARE",
    "Ranking",
    "compare",
    "hall",
    "holm",
    "interval",
    "over_nets",
    "paired",
    "percent",
    "ranking",
    "summary_over_nets",
    "told",
    "wilson",
]

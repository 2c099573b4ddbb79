"""Metrics: pure functions from maps, or from what masked images score, to one number per image; with direction and bounds."""

from wallcheck.metrics import faithfulness, leakage, localisation
from wallcheck.metrics._metric import (
    ASKED,
    FAITHFULNESS,
    LEAKAGE,
    LOCALISATION,
    Metric,
    faithfulness_metric,
    leakage_metric,
    localisation_metric,
)

__all__ = [
    "ASKED",
    "FAITHFULNESS",
    "LEAKAGE",
    "LOCALISATION",
    "Metric",
    "faithfulness",
    "faithfulness_metric",
    "leakage",
    "leakage_metric",
    "localisation",
    "localisation_metric",
]

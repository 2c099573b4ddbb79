"""Metrics: pure functions from maps, or from what masked images score, to one number per image; with direction and bounds."""

from wallcheck.metrics import combined, consistency, faithfulness, leakage, localisation
from wallcheck.metrics._metric import (
    ASKED,
    COMBINED,
    CONSISTENCY,
    FAITHFULNESS,
    KINDS,
    LEAKAGE,
    LOCALISATION,
    Metric,
    combined_metric,
    consistency_metric,
    faithfulness_metric,
    leakage_metric,
    localisation_metric,
    named,
)

__all__ = [
    "ASKED",
    "COMBINED",
    "CONSISTENCY",
    "FAITHFULNESS",
    "KINDS",
    "LEAKAGE",
    "LOCALISATION",
    "Metric",
    "combined",
    "combined_metric",
    "consistency",
    "consistency_metric",
    "faithfulness",
    "faithfulness_metric",
    "leakage",
    "leakage_metric",
    "localisation",
    "localisation_metric",
    "named",
]

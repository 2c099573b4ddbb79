"""Metrics: pure functions from maps to one number per image, with their direction and bounds."""

from wallcheck.metrics import leakage
from wallcheck.metrics._metric import LEAKAGE, Metric, leakage_metric

__all__ = ["LEAKAGE", "Metric", "leakage", "leakage_metric"]

"""The methods, one family per file; importing a file registers what it defines."""

from wallcheck.cams import ablation, controls, local, pooled, rescoring, subspace
from wallcheck.cams._method import FAMILIES, METHODS, VERDICTS, Method, cam_method

__all__ = [
    "FAMILIES",
    "METHODS",
    "VERDICTS",
    "Method",
    "ablation",
    "cam_method",
    "controls",
    "local",
    "pooled",
    "rescoring",
    "subspace",
]

"""The methods, one family per file; importing a file registers what it defines."""

from wallcheck.cams import (
    ablation,
    controls,
    head,
    layered,
    local,
    local_layers,
    pooled,
    pooled_augmented,
    pooled_paths,
    rescoring,
    subspace,
    targets,
)
from wallcheck.cams._method import FAMILIES, METHODS, VERDICTS, Method, cam_method

__all__ = [
    "FAMILIES",
    "METHODS",
    "VERDICTS",
    "Method",
    "ablation",
    "cam_method",
    "controls",
    "head",
    "layered",
    "local",
    "local_layers",
    "pooled",
    "pooled_augmented",
    "pooled_paths",
    "rescoring",
    "subspace",
    "targets",
]

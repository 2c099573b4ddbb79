"""The methods, one family per file; importing a file registers what it defines."""

from wallcheck.cams import (
    ablation,
    attribution,
    conceptor,
    controls,
    factor,
    head,
    layered,
    local,
    local_layers,
    pixel_gradient,
    pixel_masks,
    pooled,
    pooled_augmented,
    pooled_paths,
    reciprocam,
    repairs,
    rescoring,
    rescoring_groups,
    rescoring_layers,
    rescoring_learnt,
    subspace,
    targets,
)
from wallcheck.cams._method import FAMILIES, METHODS, VERDICTS, Method, cam_method

# The eight methods of the paper's Table 1, in its order, and the controls that stand beside them.
PAPER = ("gradcam", "hirescam", "scorecam", "gradcampp", "ablationcam", "xgradcam", "eigencam", "layercam")
CONTROLS = tuple(name for name, method in METHODS.items() if method.family == "control")

__all__ = [
    "CONTROLS",
    "FAMILIES",
    "METHODS",
    "PAPER",
    "VERDICTS",
    "Method",
    "ablation",
    "attribution",
    "cam_method",
    "conceptor",
    "controls",
    "factor",
    "head",
    "layered",
    "local",
    "local_layers",
    "pixel_gradient",
    "pixel_masks",
    "pooled",
    "pooled_augmented",
    "pooled_paths",
    "reciprocam",
    "repairs",
    "rescoring",
    "rescoring_groups",
    "rescoring_layers",
    "rescoring_learnt",
    "subspace",
    "targets",
]

"""The methods, a room per family; importing a file registers what it defines."""

from wallcheck.cams import (
    ablation,
    attention,
    conceptor,
    controls,
    head,
    layered,
    local,
    pixel,
    pooled,
    repairs,
    rescoring,
    subspace,
    targets,
    windows,
)
from wallcheck.cams._method import FAMILIES, METHODS, VERDICTS, Method, cam_method
from wallcheck.cams._titles import called

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
    "attention",
    "called",
    "cam_method",
    "conceptor",
    "controls",
    "head",
    "layered",
    "local",
    "pixel",
    "pooled",
    "repairs",
    "rescoring",
    "subspace",
    "targets",
    "windows",
]

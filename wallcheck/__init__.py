"""wallcheck: does this saliency method light up what the model cannot see?

The door: names resolve on first use, so `import wallcheck` loads neither torch nor lightning.
"""

import random
from importlib import import_module
from types import ModuleType

from wallcheck.version import __version__ as __version__

_HOME = {
    "BlindNet": "models",
    "BrokenWall": "certificate",
    "Certificate": "certificate",
    "Evidence": "evidence",
    "LEAKAGE": "metrics",
    "LeakageMetric": "leakage_metric",
    "METHODS": "cams",
    "Reading": "reading",
    "Wall": "geometry",
    "audit": "auditing",
    "blind": "models",
    "cam_method": "cams",
    "certify": "certificate",
    "layers": "models",
    "leakage": "reading",
    "predict_leakage": "prediction",
}
_MODULES = {
    "adapters",
    "assets",
    "cams",
    "certificate",
    "data",
    "evidence",
    "geometry",
    "lit",
    "maps",
    "metrics",
    "models",
    "numerics",
    "photos",
    "plots",
    "registry",
    "report",
    "results",
    "testing",
}

__all__ = sorted(["__version__", *_HOME, *_MODULES])


def __getattr__(name: str):
    if name in _HOME:
        return getattr(_imported(_HOME[name]), name)
    if name in _MODULES:
        return _imported(name)
    raise AttributeError(f"module 'wallcheck' has no attribute {name!r}")


def _imported(name: str) -> ModuleType:
    """A module of the package. Its user's random numbers are as they were: rich draws one when it is imported."""
    state = random.getstate()
    try:
        return import_module(f"wallcheck.{name}")
    finally:
        random.setstate(state)


def __dir__() -> list[str]:
    return list(__all__)

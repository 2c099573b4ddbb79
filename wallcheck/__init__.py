"""wallcheck: does this saliency method light up what the model cannot see?

The door: names resolve on first use, so `import wallcheck` loads neither torch nor lightning.
"""

from importlib import import_module

__version__ = "0.1.0"

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
    "results",
}

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f"wallcheck.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"wallcheck.{name}")
    raise AttributeError(f"module 'wallcheck' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

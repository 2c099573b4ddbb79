"""The exact theory of CAMs at initialisation: statements, proofs, simulations. Imports nothing from wallcheck.

One module per claim, named by what the claim says; `python -m theory` proves and simulates them all.
`theory/README.md` is the guided text.

>>> import theory
>>> round(float(theory.chi.kappa(1)), 4)            # the mean of a half Gaussian, 1/sqrt(2 pi)
0.3989
"""

from importlib import import_module

_MODULES = (
    "any_backbone", "arithmetic", "attention", "attention_walls", "backbones", "before_relu", "beyond", "blind_metrics", "chi",
    "claims", "empty_head", "exact_expectation", "families", "geometries", "half_of_unseen", "maps", "networks", "orthants",
    "pooling_routes_gradient", "predicted_class", "proofs", "statistics",
)  # fmt: skip


def __getattr__(name: str):
    """Import a module of the theory when it is first named."""
    if name not in _MODULES:
        raise AttributeError(f"module 'theory' has no attribute {name!r}; it has {', '.join(_MODULES)}")
    return import_module(f"theory.{name}")

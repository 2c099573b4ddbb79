"""A slow twin of every method: float64, one image, plain loops, written from the formula.

A twin takes (net, image (3, H, W), target, seed) with a float64 net and gives the raw map as a
float64 tensor (h, w), or (H, W) for a pixel method. It shares no code with wallcheck.cams; what it
may use of the net is what any outsider could: net.activations, net.logits_from, net(...).
"""

from collections.abc import Callable

TWINS: dict[str, Callable] = {}


def twin_of(name: str):
    """Register the slow twin of a method; one twin each."""

    def register(twin: Callable) -> Callable:
        if name in TWINS:
            raise ValueError(f"{name} has a twin already")
        TWINS[name] = twin
        return twin

    return register


from tests.reference import (  # noqa: E402, F401  (fills TWINS)
    ablation,
    attention,
    attribution,
    basic,
    clusters,
    conceptor,
    factor,
    grids,
    layered,
    local,
    masks,
    paths,
    pixel,
    pooled,
    relevance,
    repairs,
    rescoring,
    segments,
    subspace,
    tokens,
    windows,
)

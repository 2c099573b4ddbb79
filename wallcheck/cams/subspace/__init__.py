"""Subspace: directions of the activations; the head is not asked, so it cannot tell where the wall is."""

from wallcheck.cams.subspace import eigen, entropy, factors

__all__ = ["eigen", "entropy", "factors"]

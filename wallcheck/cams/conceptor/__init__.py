"""Conceptor: a base method's evidence filtered by conceptors of its channels and of its cells."""

from wallcheck.cams.conceptor import methods

__all__ = ["methods"]

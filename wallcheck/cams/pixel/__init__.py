"""Pixel: attribution to pixels, not to cells, by gradients and backward rules or by what masks do to the score."""

from wallcheck.cams.pixel import gradients, masks

__all__ = ["gradients", "masks"]

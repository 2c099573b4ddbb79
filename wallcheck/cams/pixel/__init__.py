"""Pixel: attribution to pixels, not to cells, by gradients and backward rules or by what masks do to the score."""

from wallcheck.cams.pixel import gradients, grids, masks, redistributed, segments

__all__ = ["gradients", "grids", "masks", "redistributed", "segments"]

"""Local (element-wise): gradient and activation meet at each cell.

The gradient at an unseen cell is 0, and so is everything made of it there."""

from wallcheck.cams.local import layers, paths, products

__all__ = ["layers", "paths", "products"]

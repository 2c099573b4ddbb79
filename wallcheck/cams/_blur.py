"""Gaussian blur of any width on an image of any size, as one matrix per axis."""

import torch
from torch import Tensor


def blurred(images: Tensor, sigma: float = 10 / 224) -> Tensor:
    """(..., H, W) -> same: Gaussian blur, sigma in image sides; what lies outside takes no weight at the border."""
    rows, columns = (gaussian(size, sigma * size).to(images) for size in images.shape[-2:])
    return rows @ (images @ columns.T)


def gaussian(size: int, sigma: float) -> Tensor:
    """(size, size), float64: weights of a Gaussian of so many pixels, each row summing to 1."""
    offsets = torch.arange(size, dtype=torch.float64)
    weights = (-0.5 * ((offsets[:, None] - offsets) / sigma) ** 2).exp()
    return weights / weights.sum(1, keepdim=True)

"""Gaussian blur of any width on an image of any size, as one matrix per axis."""

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def blurred(images: Tensor, sigma: float = 10 / 224) -> Tensor:
    """(..., H, W) -> same: Gaussian blur, sigma in image sides; what lies outside takes no weight at the border."""
    rows, columns = (gaussian(size, sigma * size).to(images) for size in images.shape[-2:])
    return rows @ (images @ columns.T)


def gaussian(size: int, sigma: float) -> Tensor:
    """(size, size), float64: weights of a Gaussian of so many pixels, each row summing to 1."""
    offsets = torch.arange(size, dtype=torch.float64)
    weights = (-0.5 * ((offsets[:, None] - offsets) / sigma) ** 2).exp()
    return weights / weights.sum(1, keepdim=True)


@cache
def reflected(size: int, reach: int, sigma: float) -> Tensor:
    """(size, size), float64: weights of a Gaussian cut at `reach` pixels and reflected at the border without repeating it."""
    offsets = torch.arange(-reach, reach + 1)
    weights = (-0.5 * (offsets.double() / sigma) ** 2).exp()
    period = max(1, 2 * (size - 1))  # there and back
    read = (torch.arange(size)[:, None] + offsets) % period
    read = torch.minimum(read, period - read) % size  # of one pixel, itself
    return (one_hot(read, size).double() * (weights / weights.sum())[:, None]).sum(1)

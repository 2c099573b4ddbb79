"""Random geometries: images, convolutions, poolings, walls, depths and widths, so that no claim is checked on one case.

Depth, pooling, filters and wall kind are cycled (each value occurs), the rest is drawn from a generator.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from theory.networks import Head, Stem

FILTERS = (1, 2, 3, 5, 8, 1, 4)  # V; 1 twice, because it is where the wide-limit formulas fail
POOLS = (1, 2, 3)
DEPTHS = (1, 2, 3, 4)


@dataclass(frozen=True, eq=False)
class Geometry:
    """A stem and the head above it."""

    stem: Stem
    head: Head

    @property
    def covered(self) -> Tensor:
        """(h, w) bool: cells that the head sees, through the pooling."""
        return self.head.covered(self.stem.grid)

    def describe(self) -> str:
        """One line for tables and error messages."""
        h, w = self.stem.grid
        return (
            f"V={self.stem.filters} {h}x{w} cells, conv {self.stem.kernel}/{self.stem.stride}/{self.stem.padding}, "
            f"pool {self.head.pool}, n={self.head.n_seen}, L={self.head.depth}, widths {self.head.widths}"
        )


def _integer(low: int, high: int, generator: Generator) -> int:
    """A whole number in low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def random_image(channels: int, height: int, width: int, generator: Generator) -> Tensor:
    """Noise (C, H, W) whose contrast changes over the image, so that the patch norms differ."""
    noise = torch.randn(channels, height, width, generator=generator)
    contrast = 0.3 + torch.rand(height, 1, generator=generator)
    return noise * contrast


def random_wall(kind: int, rows: int, columns: int, generator: Generator) -> Tensor:
    """Seen pooled cells (rows, columns): a border at any height (0), at any column (1), or irregular (2)."""
    seen = torch.zeros(rows, columns, dtype=torch.bool)
    if kind == 0:
        seen[: _integer(1, rows, generator)] = True
    elif kind == 1:
        seen[:, : _integer(1, columns, generator)] = True
    else:
        seen |= torch.rand(rows, columns, generator=generator) < 0.4
        seen[_integer(0, rows - 1, generator), _integer(0, columns - 1, generator)] = True
    return seen


def random_head(index: int, grid: tuple[int, int], generator: Generator, depth: int | None = None) -> Head:
    """A head on `grid`; depth, pooling and wall kind cycle with `index`."""
    depth = depth or DEPTHS[index % len(DEPTHS)]
    pool = POOLS[index % len(POOLS)]
    widths = tuple(_integer(2, 9, generator) for _ in range(depth - 1))
    taus = tuple(_uniform(0.4, 1.6, generator) for _ in range(depth))
    seen = random_wall(index // 2 % 3, grid[0] // pool, grid[1] // pool, generator)
    return Head(seen, taus, widths, pool)


def random_stem(index: int, generator: Generator) -> Stem:
    """A convolution whose grid has 4 to 7 cells a side; pools of 2 and 3 often drop a border."""
    kernel, stride, padding = (_integer(*span, generator) for span in ((2, 3), (1, 2), (0, 1)))
    sides = [(_integer(4, 7, generator) - 1) * stride + kernel - 2 * padding for _ in range(2)]
    image = random_image(_integer(1, 3, generator), *sides, generator)
    filters = FILTERS[index % len(FILTERS)]
    return Stem(image, filters, _uniform(0.4, 1.6, generator), kernel, stride, padding)


def random_geometry(index: int, generator: Generator, depth: int | None = None) -> Geometry:
    """The index-th geometry of a family; equal generators give equal geometries."""
    stem = random_stem(index, generator)
    return Geometry(stem, random_head(index, stem.grid, generator, depth))


def nearly_blind_geometry(index: int, generator: Generator) -> Geometry:
    """One to three seen cells under one or two filters: an empty head is likely, so T2's correction is large."""
    image = random_image(1, 4, 5, generator)
    stem = Stem(image, filters=1 + index % 2, tau=_uniform(0.4, 1.6, generator), kernel=2)
    seen = torch.zeros(3, 4, dtype=torch.bool)
    seen.view(-1)[torch.randperm(12, generator=generator)[: 1 + index % 3]] = True
    widths = tuple(_integer(2, 6, generator) for _ in range(1 + index % 2))
    return Geometry(stem, Head(seen, tuple(_uniform(0.4, 1.6, generator) for _ in range(len(widths) + 1)), widths))


def pick_cells(covered: Tensor, usable: Tensor, count: int, generator: Generator) -> list[tuple[int, int]]:
    """`count` different cells (row, column), seen and unseen in turn as far as there are both; `usable` (h, w) bool."""
    sides = [torch.nonzero(usable.cpu() & side) for side in (covered, ~covered)]
    shuffled = [side[torch.randperm(len(side), generator=generator)] for side in sides]
    longest = max(len(side) for side in shuffled)
    turns = [side[i] for i in range(longest) for side in shuffled if i < len(side)]
    return [(int(row), int(column)) for row, column in turns[:count]]

"""The random networks of the theory, drawn in batches: a Stem (one convolution) below a walled Head.

Nothing here knows a claim: forward passes, and torch.autograd for the gradients. One draw is one network; all
tensors start with the draw dimension M.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


@dataclass(frozen=True, eq=False)
class Stem:
    """One convolution without bias: B_v(u) = F_v . xi_u with V filters of i.i.d. N(0, tau^2) entries."""

    image: Tensor  # (C, H, W)
    filters: int
    tau: float
    kernel: int
    stride: int = 1
    padding: int = 0

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w), the cells of the target layer."""
        h, w = ((side + 2 * self.padding - self.kernel) // self.stride + 1 for side in self.image.shape[1:])
        return h, w

    @cached_property
    def patches(self) -> Tensor:
        """xi_u for every cell u: (h*w, C*kernel*kernel), zero where padding is read."""
        columns = F.unfold(self.image[None], self.kernel, padding=self.padding, stride=self.stride)
        return columns[0].T.contiguous()

    @cached_property
    def patch_norms(self) -> Tensor:
        """|xi_u|, (h, w): the local contrast that Grad-CAM draws at initialisation."""
        return self.patches.norm(dim=1).reshape(self.grid)

    def draw(self, draws: int, generator: Generator) -> Tensor:
        """Pre-activations B of `draws` random stems: (M, V, h, w)."""
        shape = draws, self.filters, *self.image.shape[:1], self.kernel, self.kernel
        weights = self.tau * torch.randn(shape, generator=generator, dtype=self.image.dtype, device=generator.device)
        maps = F.conv2d(self.image[None], weights.flatten(0, 1), stride=self.stride, padding=self.padding)
        return maps.reshape(draws, self.filters, *self.grid)


@dataclass(frozen=True, eq=False)
class Head:
    """Max-pooling, the wall, then fully connected layers without bias, ReLU between them, N(0, tau_l^2) weights."""

    seen: Tensor  # (h // pool, w // pool) bool: the pooled cells that are handed over
    taus: tuple[float, ...]  # one per layer, so depth L = len(taus)
    widths: tuple[int, ...] = ()  # d_1..d_{L-1}
    pool: int = 1

    def __post_init__(self):
        if len(self.taus) != len(self.widths) + 1:
            raise ValueError(f"{len(self.widths)} hidden widths need {len(self.widths) + 1} taus, got {self.taus}")
        if not self.seen.any():
            raise ValueError("the wall hides every cell; leave at least one pooled cell seen")

    @property
    def depth(self) -> int:
        return len(self.taus)

    @property
    def n_seen(self) -> int:
        """n: pooled cells per channel that the head reads."""
        return int(self.seen.sum())

    def covered(self, grid: tuple[int, int]) -> Tensor:
        """(h, w) bool: cells under a seen pooled cell. The others, dropped borders included, are unseen."""
        full = torch.zeros(grid, dtype=torch.bool)
        blown_up = self.seen.repeat_interleave(self.pool, 0).repeat_interleave(self.pool, 1)
        full[: blown_up.shape[0], : blown_up.shape[1]] = blown_up
        return full

    def read(self, activations: Tensor) -> Tensor:
        """What the wall lets through: (M, V, h, w) -> (M, V*n)."""
        pooled = F.max_pool2d(activations, self.pool) if self.pool > 1 else activations
        return pooled[..., self.seen.to(activations.device)].flatten(1)

    def draw(self, channels: int, classes: int, draws: int, generator: Generator, dtype=torch.float32) -> list[Tensor]:
        """Weights of `draws` random heads: [(M, d_1, V*n), ..., (M, classes, d_{L-1})]."""
        sizes = (channels * self.n_seen, *self.widths, classes)
        return [
            tau * torch.randn(draws, rows, columns, generator=generator, dtype=dtype, device=generator.device)
            for tau, columns, rows in zip(self.taus, sizes, sizes[1:], strict=False)
        ]


def apply(weights: Tensor, vectors: Tensor) -> Tensor:
    """One matrix per draw times one vector per draw: (M, a, b), (M, b) -> (M, a)."""
    return torch.bmm(weights, vectors[:, :, None])[:, :, 0]


def finish(weights: list[Tensor], pre: Tensor) -> Tensor:
    """Logits (M, D) from the first pre-activations (M, d_1); `weights` are the layers above the first."""
    for layer in weights:
        pre = apply(layer, pre.relu())
    return pre


@dataclass(frozen=True, eq=False)
class Sample:
    """M random networks on one image, the class explained, and the gradient at the target layer."""

    target: Tensor  # (M, V, h, w): the layer that is explained
    gradient: Tensor  # (M, V, h, w): d y_c / d target
    read: Tensor  # (M, V*n): what the head was handed
    score: Tensor  # (M,): y_c
    first_gradient: Tensor  # (M, d_1): d y_c / d first pre-activations
    weights: list[Tensor]


def explain(
    target: Tensor, head: Head, weights: list[Tensor], before_relu: bool = False, predicted: bool = False
) -> Sample:
    """Run the heads on `target` (M, V, h, w) and differentiate one class: class 0, or the arg-max if `predicted`."""
    leaf = target.detach().requires_grad_()
    read = head.read(leaf.relu() if before_relu else leaf)
    first = apply(weights[0], read)
    logits = finish(weights[1:], first)
    chosen = logits.argmax(1, keepdim=True) if predicted else torch.zeros_like(logits[:, :1], dtype=torch.long)
    score = logits.gather(1, chosen)[:, 0]
    gradient, first_gradient = torch.autograd.grad(score.sum(), (leaf, first))
    return Sample(leaf.detach(), gradient, read.detach(), score.detach(), first_gradient, weights)


def chunks(draws: int, numbers_per_draw: int, budget: int = 2_000_000) -> Iterator[int]:
    """Split `draws` so that a chunk holds about `budget` random numbers."""
    size = max(1, min(draws, budget // max(1, numbers_per_draw)))
    for start in range(0, draws, size):
        yield min(size, draws - start)


def head_numbers(head: Head, channels: int, classes: int = 1) -> int:
    """Random numbers in one head: what `chunks` divides by."""
    sizes = (channels * head.n_seen, *head.widths, classes)
    return sum(prod(pair) for pair in pairwise(sizes))


def sample_stems(stem: Stem, head: Head, draws: int, generator: Generator, classes: int = 1, **how) -> Iterator[Sample]:
    """Random stems under random heads, in chunks. `how` goes to `explain`."""
    for m in chunks(draws, head_numbers(head, stem.filters, classes) + stem.filters * stem.patches.shape[0]):
        below = stem.draw(m, generator)
        weights = head.draw(stem.filters, classes, m, generator, below.dtype)
        yield explain(below if how.get("before_relu") else below.relu(), head, weights, **how)


def sample_heads(activations: Tensor, head: Head, draws: int, generator: Generator, classes: int = 1, **how):
    """Random heads on fixed activations (V, h, w), in chunks of Samples."""
    channels = activations.shape[0]
    for m in chunks(draws, head_numbers(head, channels, classes) + activations.numel()):
        weights = head.draw(channels, classes, m, generator, activations.dtype)
        yield explain(activations.expand(m, *activations.shape), head, weights, **how)

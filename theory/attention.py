"""Random attention blocks behind a wall, drawn in batches: tokens, probabilities that do not cross, values, and a readout.

Nothing here knows a claim: forward passes, and torch.autograd for the slopes. All tensors of a draw start with the draw
dimension M. T tokens, the class token first; H heads of d channels each; tokens as the values are made of them have C channels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from theory.networks import apply, finish

Readout = Callable[[Tensor], Tensor]  # (M, T, C), what the block hands on, -> scores (M,)


@dataclass(frozen=True, eq=False)
class Block:
    """One attention on fixed tokens: o_q = sum_k A[q, k] v_k,  v_k = W n_k,  and x_q + sum_h W_O o_q is handed on."""

    tokens: Tensor  # n, (T, C): what the values are made of, so after a LayerNorm if there is one
    stream: Tensor  # x, (T, C): what the attention's answer is added to
    probabilities: Tensor  # A, (H, T, T): rows are queries; 0 from seen queries to unseen keys
    seen: Tensor  # (T,) bool
    read: Tensor  # (T,): what share of the readout each token has; 1 for a class token, 1/n for n pooled ones
    width: int  # d

    @property
    def averages(self) -> Tensor:
        """m_q = sum_k A[q, k] n_k of the queries that are read: (H, n, C). Unseen tokens do not enter."""
        return (self.probabilities @ self.tokens)[:, self.read > 0]

    def values(self, tau: float, draws: int, generator: Generator) -> Tensor:
        """Random value weights: (M, H, d, C), i.i.d. N(0, tau^2)."""
        shape = draws, len(self.probabilities), self.width, self.tokens.shape[1]
        return tau * torch.randn(shape, generator=generator, dtype=self.tokens.dtype, device=generator.device)


@dataclass(frozen=True, eq=False)
class Slopes:
    """M random networks: a block's outputs and d y / d what is in it."""

    outputs: Tensor  # o, (M, H, T, d)
    at_outputs: Tensor  # g, (M, H, T, d)
    at_probabilities: Tensor  # G, (M, H, T, T)
    at_values: Tensor  # (M, H, T, d)
    at_tokens: Tensor  # (M, T, C)


def explain(block: Block, values: Tensor, projection: Tensor, readout: Readout) -> Slopes:
    """Run and differentiate. values (M, H, d, C); projection W_O (M, H, C, d)."""
    tokens = block.tokens.expand(len(values), *block.tokens.shape).clone().requires_grad_()
    weighed = block.probabilities.expand(len(values), *block.probabilities.shape).clone().requires_grad_()
    made = torch.einsum("mhdc,mtc->mhtd", values, tokens)
    outputs = weighed @ made
    stream = block.stream + torch.einsum("mhcd,mhtd->mtc", projection, outputs)
    wanted = outputs, weighed, made, tokens
    return Slopes(outputs.detach(), *torch.autograd.grad(readout(stream).sum(), wanted))


def gaussian_readout(block: Block, taus: tuple, widths: tuple, draws: int, generator: Generator) -> Readout:
    """The tokens that are read, averaged, under fully connected layers without bias, ReLU between them, N(0, tau_l^2)."""
    sizes = (block.stream.shape[1], *widths, 1)
    layers = [
        tau * torch.randn(draws, rows, columns, generator=generator, dtype=block.tokens.dtype, device=generator.device)
        for tau, columns, rows in zip(taus, sizes, sizes[1:], strict=False)
    ]

    def scores(stream: Tensor) -> Tensor:
        return finish(layers[1:], apply(layers[0], (block.read[:, None] * stream).sum(1)))[:, 0]

    return scores


def usual_readout(block: Block, generator: Generator) -> Readout:
    """What transformers have, one for all draws: an MLP with GELU and biases, added, a LayerNorm, and one class's weights."""
    channels = block.stream.shape[1]

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=block.tokens.dtype, device=generator.device)

    wider, biases, narrower, last = (
        drawn(3 * channels, channels),
        drawn(3 * channels),
        drawn(channels, 3 * channels),
        drawn(channels),
    )

    def scores(stream: Tensor) -> Tensor:
        hidden = F.gelu(F.layer_norm(stream, (channels,)) @ wider.T + biases)
        tokens = F.layer_norm(stream + hidden @ narrower.T, (channels,))
        return torch.tanh((block.read[:, None] * tokens).sum(1)) @ last

    return scores


def behind_wall(scores: Tensor, seen: Tensor) -> Tensor:
    """softmax over keys (..., T, T), where no query attends across the wall."""
    return scores.masked_fill(seen[:, None] != seen, -torch.inf).softmax(-1)


def random_block(index: int, generator: Generator, pooled: bool | None = None, room: int = 1) -> Block:
    """The index-th block of a family: class token and mean in turn, 1 to 3 heads, 1 to 5 patches on each side of the wall.

    room: channels beyond the number of tokens that are read, at least.
    """

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    pooled = index % 2 == 1 if pooled is None else pooled
    patches = torch.arange(integer(1, 5)) < 0, torch.arange(integer(1, 5)) >= 0
    seen = ~torch.cat([torch.zeros(1, dtype=torch.bool), *patches])
    count, heads = len(seen), 1 + index % 3
    reads = seen & (torch.arange(count) > 0) if pooled else torch.arange(count) == 0
    channels = int(reads.sum()) + room + integer(0, 2) if room else max(1, int(reads.sum()) - integer(0, 1))
    lengths = 0.3 + torch.rand(count, 1, generator=generator)
    tokens, stream = (torch.randn(count, channels, generator=generator) for _ in range(2))
    scores = 1.5 * torch.randn(heads, count, count, generator=generator)
    weighed = behind_wall(scores.double(), seen)
    return Block((lengths * tokens).double(), stream.double(), weighed, seen, reads / reads.sum(), integer(2, 4))

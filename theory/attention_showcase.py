"""What the figure of T9 shows: LeGrad's maps of fresh vision transformers behind a wall, beside the lengths of their tokens.

A ViT of our own, as they are built: patches, positions, a class token, blocks of attention and an MLP with GELU, a LayerNorm, a
class's weights. Outside the exact case of T9 (c) by its LayerNorm and GELU above the attention.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from theory.attention import behind_wall
from theory.runs import Run
from theory.showcase import two_shapes

PATCH, CHANNELS, HEADS, BLOCKS = 4, 24, 3, 3
BATCH = 25  # networks at a time: attention is the largest, 25 x 3 x 101 x 101 numbers


class Last(NamedTuple):
    """The last block of M fresh networks, class token first."""

    lengths: Tensor  # |n_u|, (M, T)
    gradient: Tensor  # relu G, mean over heads, class token's row: (M, T)
    gated: Tensor  # relu (A G) likewise


def _fresh(draws: int, rows: int, columns: int, generator: Generator) -> Tensor:
    """Weights (M, rows, columns) of variance 1 / columns."""
    return torch.randn(draws, rows, columns, generator=generator, device=generator.device) / columns**0.5


def _linear(tokens: Tensor, rows: int, generator: Generator) -> Tensor:
    """A fresh layer for each network: (M, T, columns) -> (M, T, rows)."""
    return tokens @ _fresh(len(tokens), rows, tokens.shape[-1], generator).mT


def _attention(tokens: Tensor, seen: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """(answer (M, T, C), probabilities (M, H, T, T)), the latter as a value that the former depends on."""
    queries, keys, values = (
        _linear(tokens, CHANNELS, generator).unflatten(2, (HEADS, -1)).transpose(1, 2) for _ in range(3)
    )
    weighed = behind_wall(queries @ keys.mT / queries.shape[-1] ** 0.5, seen)
    return _linear((weighed @ values).transpose(1, 2).flatten(2), CHANNELS, generator), weighed


def last_block(image: Tensor, normed: bool, draws: int, generator: Generator) -> Last:
    """Fresh networks on one image (1, H, W), its lower half unseen. normed: with LayerNorms before attention and MLP."""
    patches = F.unfold(image[None], PATCH, stride=PATCH)[0].T  # (cells, 16)
    seen = torch.arange(len(patches) + 1, device=image.device) <= len(patches) // 2

    def norm(tokens: Tensor) -> Tensor:
        return F.layer_norm(tokens, (CHANNELS,)) if normed else tokens

    tokens = _linear(patches.expand(draws, -1, -1), CHANNELS, generator)
    own = 0.02 * torch.randn(draws, 1, CHANNELS, generator=generator, device=generator.device)
    places = 0.02 * torch.randn(draws, len(seen), CHANNELS, generator=generator, device=generator.device)
    tokens = (torch.cat([own, tokens], 1) + places).requires_grad_()
    for _ in range(BLOCKS):
        entered = norm(tokens)
        answer, weighed = _attention(entered, seen, generator)
        tokens = tokens + answer
        tokens = tokens + _linear(F.gelu(_linear(norm(tokens), 4 * CHANNELS, generator)), CHANNELS, generator)
    logit = _linear(F.layer_norm(tokens[:, :1], (CHANNELS,)), 1, generator)
    (slope,) = torch.autograd.grad(logit.sum(), weighed)
    row, own_row = slope[:, :, 0].relu(), (weighed * slope)[:, :, 0].relu()
    return Last(entered.detach().norm(dim=2), row.mean(1), own_row.mean(1).detach())


def fresh_maps(run: Run) -> dict:
    """Mean maps over fresh networks as shares of their sums, theory's |n_u| likewise, and the leakage of each."""
    image, data = two_shapes().to(run.device), {"image": two_shapes()[0].tolist()}
    side = image.shape[-1] // PATCH
    networks = max(2, run.draws // 100 // BATCH) * BATCH
    for name, normed in (("LayerNorm", True), ("no LayerNorm", False)):
        generator = run.generator("T9", "figure", name)
        parts = [last_block(image, normed, BATCH, generator) for _ in range(networks // BATCH)]
        lengths, gradient, gated = (torch.cat([part[i][:, 1:] for part in parts]).double() for i in range(3))
        # each network's slope has a size of its own, which theory says nothing of here: a map is a share of its sum
        shares = gradient / gradient.sum(1, keepdim=True)
        expected = lengths / lengths.sum(1, keepdim=True)
        rows = shares.reshape(networks, side, side).mean(2)
        data[name] = {
            "map": shares.mean(0).reshape(side, side).tolist(),
            "rows": rows.mean(0).tolist(),
            "error": (rows.std(0) / networks**0.5).tolist(),
            "theory": expected.mean(0).reshape(side, side).mean(1).tolist(),
            "leaks": float(shares[:, shares.shape[1] // 2 :].sum(1).mean()),
            "gated leaks": float(gated[:, gated.shape[1] // 2 :].sum()),
        }
    return data

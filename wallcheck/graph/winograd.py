"""3 x 3 convolutions with 16 products where the plain way takes 36: Winograd's F(2 x 2, 3 x 3).

    Y = A^T ((G g G^T) * (B^T d B)) A    for each 4 x 4 tile d of the input and its 2 x 2 tile Y of the output

Lavin and Gray 2016, sec. 4.1. Additions spread over tiles cost memory traffic, so it pays for many channels only; the
result is that of the plain way to float32 rounding (2e-6 of the peak), not to the bit.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

WIDE = 256  # channels in and out; measured on two cores: 0.65 to 0.8 of the plain time from here on, more below
G = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]])


def pays(
    weight: Tensor, stride: tuple, padding: tuple, dilation: tuple, groups: int, bias: Tensor | None = None
) -> bool:
    """Is it a wide 3 x 3 convolution of float32 on a CPU, padded by 1? (GPU libraries choose for themselves.)"""
    shape = (tuple(weight.shape[2:]), stride, padding, dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
    plain = groups == 1 and weight.dtype == torch.float32 and weight.device.type == "cpu"
    return shape and plain and min(weight.shape[:2]) >= WIDE


def transformed(weight: Tensor) -> Tensor:
    """G g G^T of weights g (O, I, 3, 3): (16, I, O)."""
    return torch.einsum("ab,oibc,dc->adio", G, weight.detach(), G).flatten(0, 1).contiguous()


def convolved(maps: Tensor, weights: Tensor, bias: Tensor | None, rows: int, columns: int) -> Tensor:
    """The first rows and columns of the convolution of maps (N, I, H, W), channels last, with `transformed` weights;
    beyond the maps lies 0, as padding by 1 has it."""
    down, across = (rows + 1) // 2, (columns + 1) // 2
    read = maps[:, :, : 2 * down + 1, : 2 * across + 1]
    missing = [2 * across + 1 - read.shape[3], 2 * down + 1 - read.shape[2]]
    tiles = pad(read, (1, missing[0], 1, missing[1])).permute(0, 2, 3, 1)
    products = torch.bmm(_spread(tiles, down, across).view(16, -1, maps.shape[1]), weights)
    out = _gathered(products.view(4, 4, len(maps), down, across, -1), bias)
    return out.permute(0, 3, 1, 2)[:, :, :rows, :columns]


def _spread(padded: Tensor, down: int, across: int) -> Tensor:
    """B^T d B of every tile of (N, 2 down + 2, 2 across + 2, I): (16, N, down, across, I)."""
    spread = padded.new_empty(16, len(padded), down, across, padded.shape[3])
    every = [padded[:, i : i + 2 * down - 1 : 2] for i in range(4)]
    for i, line in enumerate((every[0] - every[2], every[1] + every[2], every[2] - every[1], every[1] - every[3])):
        d = [line[:, :, j : j + 2 * across - 1 : 2] for j in range(4)]
        torch.sub(d[0], d[2], out=spread[4 * i])
        torch.add(d[1], d[2], out=spread[4 * i + 1])
        torch.sub(d[2], d[1], out=spread[4 * i + 2])
        torch.sub(d[1], d[3], out=spread[4 * i + 3])
    return spread


def _gathered(m: Tensor, bias: Tensor | None) -> Tensor:
    """A^T m A of products (4, 4, N, down, across, O), and the bias: (N, 2 down, 2 across, O)."""
    _, _, count, down, across, channels = m.shape
    out = m.new_empty(count, down, 2, across, 2, channels)
    for row, line in enumerate((m[0] + m[1] + m[2], m[1] - m[2] - m[3])):
        out[:, :, row, :, 0] = line[0] + line[1] + line[2]
        out[:, :, row, :, 1] = line[1] - line[2] - line[3]
    return (out if bias is None else out.add_(bias)).view(count, 2 * down, 2 * across, channels)

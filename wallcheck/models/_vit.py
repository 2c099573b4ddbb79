"""A small vision transformer of our own, which torchvision has with a class token only: patches, blocks of attention and MLP, a class token or the mean of tokens.

tokens = patches W + positions,  x <- x + Attention(LN(x)),  x <- x + MLP(LN(x)),  logits = W LN(x)[class token, or mean]
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from wallcheck.keeping import seeded


class Block(nn.Module):
    """Attention and MLP, each after a LayerNorm and added to the tokens (B, T, C)."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm, self.norm_mlp = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.projection = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.wider, self.narrower = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        heard = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens + self.projection(heard)
        return tokens + self.narrower(gelu(self.wider(self.norm_mlp(tokens))))


class ViT(nn.Module):
    """Images (B, 3, H, W) -> logits. pooled: the head reads the mean of the tokens, and there is no class token."""

    def __init__(self, image_size: int, patch: int, channels: int, depth: int, heads: int, classes: int, pooled: bool):
        super().__init__()
        count = (image_size // patch) ** 2
        self.patches = nn.Conv2d(3, channels, patch, patch)
        self.class_token = None if pooled else nn.Parameter(0.02 * torch.randn(1, 1, channels))
        self.positions = nn.Parameter(0.02 * torch.randn(1, count + (not pooled), channels))
        self.blocks = nn.Sequential(*(Block(channels, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(channels), nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], 1)
        tokens = self.norm(self.blocks(tokens + self.positions))
        return self.head(tokens.mean(1) if self.class_token is None else tokens[:, 0])


def vit_small(
    num_classes: int = 10,
    seed: int = 0,
    image_size: int = 96,
    pooled: bool = False,
    channels: int = 64,
    depth: int = 3,
    patch: int = 8,
    heads: int = 4,
) -> nn.Module:
    """Patches of 8 px (12 x 12 cells at 96 px), `depth` blocks of 4 heads; weights drawn from the seed alone."""
    with seeded(seed):
        return ViT(image_size, patch, channels, depth, heads, num_classes, pooled).eval()

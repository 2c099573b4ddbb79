"""A small residual network of our own, narrower than torchvision's and without the halvings that 224 px are for: one basic block a stage."""

from torch import Tensor, nn

from wallcheck.keeping import seeded


class ResNet(nn.Module):
    """Images (B, 3, H, W) -> logits: a convolution of stride 2, basic blocks of stride 1, 2, 2, ..., the mean over cells, one
    linear layer. The last block's map is (B, channels[-1], H / 2^n, W / 2^n) of n blocks."""

    def __init__(self, channels: tuple[int, ...], classes: int):
        super().__init__()
        before = (channels[0], *channels[:-1])
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels[0], 3, 2, 1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential(
            *(_block(a, b, 2 if n else 1) for n, (a, b) in enumerate(zip(before, channels, strict=True)))
        )
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(channels[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.blocks(self.stem(images))).flatten(1))


def _block(before: int, after: int, stride: int) -> nn.Module:
    """torchvision's, whose short way is a 1 x 1 convolution where the shape changes."""
    from torchvision.models.resnet import BasicBlock

    if before == after and stride == 1:
        return BasicBlock(before, after)
    short = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
    return BasicBlock(before, after, stride, short)


def resnet_small(num_classes: int = 10, seed: int = 0, channels: tuple[int, ...] = (16, 32, 48)) -> nn.Module:
    """Three basic blocks of 16, 32 and 48 channels (8 x 8 cells at 64 px, 12 x 12 at 96); weights drawn from the seed alone."""
    with seeded(seed):
        return ResNet(tuple(channels), num_classes).eval()

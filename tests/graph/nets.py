"""Small networks of the families that people have, and networks that see what they ought not to."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 3


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in eval mode, all its parameters from a seed, norms with statistics that are not the identity."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
        for each in module.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm) and each.running_mean is not None:
                each.running_mean.copy_(torch.randn(each.running_mean.shape, generator=draw))
                each.running_var.copy_(torch.rand(each.running_var.shape, generator=draw) + 0.5)
    return module.eval()


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, **options) -> nn.Module:
    around = options.pop("padding", options.get("dilation", 1) * (kernel - 1) // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, around, bias=False, **options), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Classifier(nn.Module):
    """Features, a mean over positions, a linear layer."""

    def __init__(self, *features: nn.Module, channels: int = 6):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.features(x)).flatten(1))


class Residual(nn.Module):
    def __init__(self, channels: int, stride: int = 1, inner: nn.Module | None = None):
        super().__init__()
        self.inner = inner or nn.Sequential(conv(channels, channels, stride=stride), conv(channels, channels))
        self.short = conv(channels, channels, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.inner(x) + self.short(x))


class Dense(nn.Module):
    def __init__(self, channels: int, growth: int):
        super().__init__()
        self.new = conv(channels, growth)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.new(x)], 1)


class Branches(nn.Module):
    """As an inception block: 1 x 1, 3 x 3, 5 x 1 after 1 x 5, a pool."""

    def __init__(self, channels: int):
        super().__init__()
        self.one, self.three = conv(channels, 2, 1), conv(channels, 1)
        self.long = nn.Sequential(
            nn.Conv2d(channels, 1, (1, 5), padding=(0, 2)), nn.Conv2d(1, 1, (5, 1), padding=(2, 0))
        )
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(channels, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.long(x), self.pooled(x)], 1)


class Shuffled(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.branch = conv(channels // 2, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        one, two = x.chunk(2, 1)
        return F.channel_shuffle(torch.cat([one, self.branch(two)], 1), 2)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(self.avgpool(x)).sigmoid()


class ChannelsLast(nn.Module):
    """A ConvNeXt block: its norm and linear layers have channels last."""

    def __init__(self, channels: int):
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.norm, self.fc = nn.LayerNorm(channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc(F.gelu(self.norm(self.wide(x).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """A ViT: 4 px patches, a class token that alone is read."""

    def __init__(self, size: int = 16, width: int = 8, depth: int = 2, tokens: str = "class"):
        super().__init__()
        self.patches, self.cls = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.Sequential(*[Block(width) for _ in range(depth)])
        self.norm, self.fc, self.tokens = nn.LayerNorm(width), nn.Linear(width, CLASSES), tokens

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.tokens == "mean":
            return self.fc(self.norm(self.blocks(x)).mean(1))
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1)
        return self.fc(self.norm(self.blocks(x))[:, 0])


FAMILIES = {
    "vgg": lambda: Classifier(conv(3, 4), nn.MaxPool2d(2), conv(4, 6), nn.MaxPool2d(2)),
    "alexnet": lambda: Classifier(conv(3, 4, 5, 2, padding=2), nn.MaxPool2d(3, 2), conv(4, 6)),
    "resnet": lambda: Classifier(conv(3, 6, 3, 2), Residual(6), Residual(6, 2)),
    "resnext": lambda: Classifier(conv(3, 6, 3, 2), Residual(6, 2, conv(6, 6, 3, 2, groups=3))),
    "densenet": lambda: Classifier(conv(3, 2), Dense(2, 2), nn.AvgPool2d(2), Dense(4, 2)),
    "squeezenet": lambda: Classifier(nn.Conv2d(3, 4, 3, 2), nn.MaxPool2d(3, 2, ceil_mode=True), conv(4, 6, 1)),
    "mobilenet": lambda: Classifier(conv(3, 6, 3, 2), conv(6, 6, groups=6), conv(6, 6, 1), conv(6, 6, 3, 2, groups=6)),
    "shufflenet": lambda: Classifier(conv(3, 6, 3, 2), Shuffled(6), nn.MaxPool2d(2), Shuffled(6)),
    "inception": lambda: Classifier(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), Branches(4)),
    "convnext": lambda: Classifier(nn.Conv2d(3, 6, 2, 2), ChannelsLast(6), nn.Conv2d(6, 6, 2, 2)),
    "dilated": lambda: Classifier(conv(3, 4, dilation=2), conv(4, 6, stride=2, dilation=3)),
    "vit": lambda: Transformer(),
    "vit, mean of tokens": lambda: Transformer(tokens="mean"),
}


SIZE = (12, 16)


def model() -> nn.Module:
    return drawn(Classifier(conv(3, 6, stride=2), nn.Dropout(0.5), conv(6, 6)))


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(count))

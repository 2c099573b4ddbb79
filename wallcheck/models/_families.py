"""Small members of other families: torchvision's own classes, narrow and shallow, for images of 96 px that two cores can train on.

Each has some 100,000 parameters and a last map of 6 x 6 cells or more: where the published member starts with two halvings,
one of them is left out, since 96 px are not 224.
"""

from collections.abc import Callable

from torch import nn
from torchvision import models
from torchvision.models import convnext, efficientnet, mobilenetv3, regnet, resnet, squeezenet
from torchvision.ops import Conv2dNormActivation

from wallcheck.keeping import seeded
from wallcheck.registry import Registry

SIZE = 96  # pixels that all of them take; all but vit and vgg_bn take others too

SMALL: "Registry[Callable[..., nn.Module]]" = Registry("family")


def member(name: str) -> Callable[[Callable[[int], nn.Module]], Callable[..., nn.Module]]:
    """Register a family's small member, classes -> module, as (num_classes, seed) -> module drawn from the seed alone."""

    def register(build: Callable[[int], nn.Module]) -> Callable[..., nn.Module]:
        SMALL[name] = lambda num_classes=10, seed=0: _drawn(build, num_classes, seed)
        return build

    return register


def _drawn(build: Callable[[int], nn.Module], classes: int, seed: int) -> nn.Module:
    with seeded(seed):
        return build(classes).eval()


class _Narrow(models.ResNet):
    """A ResNet of a share of the channels, without the pool of its stem."""

    share = 4

    def __init__(self, block: type, classes: int, **options):
        super().__init__(block, [1, 1, 1, 1], num_classes=classes, **options)
        self.maxpool = nn.Identity()
        self.fc = nn.Linear(512 // self.share * block.expansion, classes)

    def _make_layer(self, block: type, planes: int, *rest, **options) -> nn.Sequential:
        return super()._make_layer(block, planes // self.share, *rest, **options)


class _Narrower(_Narrow):
    share = 8  # a bottleneck's output has four times its planes


@member("resnet")
def _resnet(classes: int) -> nn.Module:
    """Four basic blocks of 16 to 128 channels."""
    return _Narrow(resnet.BasicBlock, classes)


@member("resnext")
def _resnext(classes: int) -> nn.Module:
    """Four bottlenecks of eight groups, 32 to 256 channels."""
    return _Narrower(resnet.Bottleneck, classes, groups=8, width_per_group=16)


@member("densenet")
def _densenet(classes: int) -> nn.Module:
    """Four dense blocks of three layers, twelve channels each."""
    net = models.DenseNet(growth_rate=12, block_config=(3, 3, 3, 3), num_init_features=24, num_classes=classes)
    net.features.pool0 = nn.Identity()
    return net


@member("squeezenet")
def _squeezenet(classes: int) -> nn.Module:
    """Six Fire modules, 64 to 192 channels."""
    fire, net = squeezenet.Fire, models.SqueezeNet("1_1", classes, dropout=0.0)
    pool = [nn.MaxPool2d(3, 2, ceil_mode=True) for _ in range(3)]
    net.features = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(True), pool[0], fire(32, 8, 32, 32), fire(64, 8, 32, 32), pool[1],
        fire(64, 16, 64, 64), fire(128, 16, 64, 64), pool[2], fire(128, 24, 96, 96), fire(192, 24, 96, 96),
    )  # fmt: skip
    net.classifier[1] = nn.Conv2d(192, classes, 1)
    for (
        module
    ) in net.modules():  # as SqueezeNet.__init__ does; its last layer's deviation of 0.01 with ReLU trains too slowly
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return net


@member("mobilenet_v2")
def _mobilenet_v2(classes: int) -> nn.Module:
    """Five inverted residuals, no squeeze-and-excite."""
    setting = [[1, 16, 1, 1], [4, 24, 1, 2], [4, 32, 1, 2], [4, 64, 2, 2]]
    net = models.MobileNetV2(classes, inverted_residual_setting=setting, dropout=0.0)
    net.features[-1] = Conv2dNormActivation(64, 128, 1, activation_layer=nn.ReLU6)
    net.classifier[1] = nn.Linear(128, classes)
    return net


@member("mobilenet_v3")
def _mobilenet_v3(classes: int) -> nn.Module:
    """Five inverted residuals, three with squeeze-and-excite, Hardswish."""
    block = mobilenetv3.InvertedResidualConfig
    setting = [
        block(16, 3, 16, 16, False, "RE", 1, 1, 1.0), block(16, 3, 48, 24, False, "RE", 2, 1, 1.0),
        block(24, 5, 72, 32, True, "HS", 2, 1, 1.0), block(32, 5, 96, 32, True, "HS", 1, 1, 1.0),
        block(32, 5, 96, 24, True, "HS", 2, 1, 1.0),
    ]  # fmt: skip
    return models.MobileNetV3(setting, last_channel=128, num_classes=classes, dropout=0.0)


@member("efficientnet")
def _efficientnet(classes: int) -> nn.Module:
    """Five MBConv blocks, all with squeeze-and-excite, SiLU."""
    block, one = efficientnet.MBConvConfig, (1.0, 1.0)
    setting = [
        block(1, 3, 1, 16, 16, 1, *one),
        block(4, 3, 2, 16, 24, 1, *one),
        block(4, 5, 2, 24, 32, 1, *one),
        block(4, 3, 2, 32, 48, 2, *one),
    ]
    return models.EfficientNet(setting, dropout=0.0, stochastic_depth_prob=0.0, num_classes=classes, last_channel=128)


@member("convnext")
def _convnext(classes: int) -> nn.Module:
    """Four ConvNeXt blocks after patches of 4 px, 32 to 96 channels."""
    stage = convnext.CNBlockConfig
    setting = [stage(32, 64, 1), stage(64, 96, 1), stage(96, None, 2)]
    return models.ConvNeXt(setting, stochastic_depth_prob=0.0, layer_scale=1.0, num_classes=classes)


@member("regnet")
def _regnet(classes: int) -> nn.Module:
    """Five RegNet-X blocks, 24 to 96 channels in groups of eight."""
    stages = regnet.BlockParams([1, 2, 2], [24, 48, 96], [8, 8, 8], [1.0, 1.0, 1.0], [2, 2, 2])
    return models.RegNet(stages, num_classes=classes, stem_width=16)


@member("shufflenet")
def _shufflenet(classes: int) -> nn.Module:
    """Six units, 48 to 128 channels."""
    net = models.ShuffleNetV2([2, 2, 2], [24, 48, 96, 128, 128], num_classes=classes)
    net.maxpool = nn.Identity()
    return net


@member("vgg_bn")
def _vgg_bn(classes: int) -> nn.Module:
    """Five convolutions with batch norm; its head reads places, not means."""
    features, channels = [], 3
    for width in (16, 32, 48, 64):
        features += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(True), nn.MaxPool2d(2)]
        channels = width
    net = models.VGG(nn.Sequential(*features), classes, init_weights=False)
    net.avgpool = nn.Identity()
    net.classifier = nn.Sequential(nn.Linear(64 * 6 * 6, 64), nn.ReLU(True), nn.Linear(64, classes))
    return net


@member("vit")
def _vit(classes: int) -> nn.Module:
    """Three blocks over 8 x 8 patches of 12 px and a class token, 96 channels."""
    net = models.VisionTransformer(SIZE, 12, 3, 4, 96, 192, num_classes=classes)
    nn.init.trunc_normal_(
        net.heads.head.weight, std=0.02
    )  # torchvision starts at 0: no gradient, no map, before training
    return net


@member("swin")
def _swin(classes: int) -> nn.Module:
    """Two stages of two blocks, windows of 6 x 6 tokens, every other block's shifted; 32 and 64 channels."""
    return models.SwinTransformer(
        [4, 4], 32, [2, 2], [2, 4], [6, 6], 2.0, stochastic_depth_prob=0.0, num_classes=classes
    )

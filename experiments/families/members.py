"""The smallest member of each family: where its head wall stands, and how it is built from a seed."""

from dataclasses import dataclass

import torchvision
from torch import nn

from wallcheck.keeping import seeded

CLASSES = 10
QUICK = dict(init_weights=False)  # drawn by torch's own rule: theirs takes half a minute


@dataclass(frozen=True)
class Member:
    """size: of the image's sides. head: where the head wall stands, with how many rows of cells hidden; None where it hides
    no pixel at any layer."""

    family: str
    size: int
    head: str | None
    wall: str = "bottom:1/2"


MEMBERS = {
    "vgg11": Member("VGG", 64, "features.15"),
    "vgg11_bn": Member("VGG with norms", 64, "features.14"),
    "alexnet": Member("AlexNet", 160, "features.5"),
    "resnet18": Member("ResNet", 96, "layer2"),
    "resnext50_32x4d": Member("ResNeXt", 96, "layer1"),
    "densenet121": Member("DenseNet", 96, "features.transition1"),
    "squeezenet1_1": Member("SqueezeNet", 96, "features.8"),
    "mobilenet_v2": Member("MobileNet v2", 96, "features.8"),
    "mobilenet_v3_small": Member("MobileNet v3", 96, "features.1.block.0"),
    "efficientnet_b0": Member("EfficientNet", 96, "features.1.0.block.0"),
    "convnext_tiny": Member("ConvNeXt", 96, "features.2"),
    "regnet_y_400mf": Member("RegNet", 96, "stem"),
    "shufflenet_v2_x0_5": Member("ShuffleNet", 96, "stage3.1"),
    "mnasnet0_5": Member("MNASNet", 96, "layers.9.1"),
    "googlenet": Member("GoogLeNet", 96, "maxpool3"),
    "inception_v3": Member("Inception v3", 160, "Mixed_6a"),
    "vit_b_16": Member("ViT", 64, "conv_proj"),
    "swin_t": Member("Swin", 96, "features.3.0"),
    "swin_v2_t": Member("Swin v2", 96, "features.2"),
    "maxvit_t": Member("MaxViT", 224, "stem"),
    "timm:resnet10t": Member("ResNet-T of timm", 96, "layer3"),
    "timm:vit_tiny_patch16_224": Member("ViT of timm", 64, "patch_embed"),
    "timm:mixer_s32_224": Member("MLP-Mixer of timm", 224, "stem"),
    "timm:mobilenetv4_conv_small": Member("MobileNet v4 of timm", 96, "blocks.0"),
}


def built(name: str, seed: int) -> nn.Module:
    """The untrained member, drawn from the seed; logits of CLASSES classes."""
    with seeded(seed):
        if name.startswith("timm:"):
            import timm

            told = dict(img_size=MEMBERS[name].size) if "vit" in name else {}
            return awake(timm.create_model(name.removeprefix("timm:"), num_classes=CLASSES, **told).eval())
        told = {"googlenet": QUICK, "inception_v3": QUICK, "vit_b_16": dict(image_size=MEMBERS[name].size)}.get(
            name, {}
        )
        return awake(torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **told).eval())


def awake(model: nn.Module) -> nn.Module:
    """A last layer that starts at 0, as some transformers' do, is drawn: else no method has a gradient to show."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.trunc_normal_(module.weight, std=0.02)
    return model

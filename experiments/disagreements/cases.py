"""What the pairs are seen on: one net and its images, and changes of them that bring a difference to light."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from wallcheck.cams.pooled.gradients import gradcam
from wallcheck.evidence import Evidence
from wallcheck.models import BlindNet, vgg


def cases(net: BlindNet, images: Tensor) -> dict[str, Evidence]:
    """The same images on the net, and on changes of it that bring a fault to light."""
    pooled = drawn(vgg(**{k: v for k, v in net.description.items() if k != "builder"} | dict(hidden=(), pooled=True)))
    bare = BlindNet(copy.deepcopy(net.features)[:-1], copy.deepcopy(net.head), net.wall, net.image_size).eval()
    plain = Evidence(net, images)
    return {
        "plain": plain,
        "trained": trained(net, len(images)),
        "small gradients": Evidence(scaled(net, 1e-4 / float(plain.gradient.abs().max())), images),
        "faint": Evidence(scaled(net, 1e-8 / float(gradcam(plain).amax())), images),
        "negative score": Evidence(net, images, plain.logits.argmin(1)),
        "layer without ReLU": Evidence(bare, images),
        "pooled head": Evidence(pooled, images),
    }


def drawn(net: BlindNet, seed: int = 2, size: float = 0.15) -> BlindNet:
    """The net with every bias and the whole head drawn anew, so that scores are of size 1 and no bias is 0."""
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in net.named_parameters():
        if "head" in name or "bias" in name:
            parameter.data.copy_(size * torch.randn(parameter.shape, generator=draw))
    return net.eval()


def trained(net: BlindNet, count: int, steps: int = 120, sure: float = 20.0) -> Evidence:
    """The net after so many steps on marked images, and `count` images more. Its scores are scaled until the runner-up is
    `sure` logits behind on half of the images: what it leaves to other classes is then near e^-20 = 2e-9."""
    net, draw = copy.deepcopy(net).train(), torch.Generator().manual_seed(3)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(steps):
        images, labels = marked(net, 32, draw)
        optimiser.zero_grad()
        cross_entropy(net(images), labels).backward()
        optimiser.step()
    optimiser.zero_grad()
    shown, _ = marked(net, count, draw)
    first, second = net.eval()(shown).detach().topk(2, 1).values.unbind(1)
    return Evidence(scaled(net, sure / float((first - second).median())), shown)


def marked(net: BlindNet, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise images with a bright patch whose place and colour are the class's above the wall, and another's below; labels."""
    (height, width), classes = net.image_size, logits_of(net)
    images, side = 0.5 * torch.randn(count, 3, height, width, generator=draw), width // classes
    labels, others = (torch.randint(classes, (count,), generator=draw) for _ in range(2))
    for image, label, other in zip(images, labels.tolist(), others.tolist(), strict=True):
        for top, which in ((height // 12, label), (height - height // 4, other)):
            image[which % 3, top : top + side, side * which : side * (which + 1)] += 2
    return images, labels


def logits_of(net: BlindNet) -> int:
    """How many classes the net tells apart."""
    with torch.no_grad():
        return net(torch.zeros(1, 3, *net.image_size)).shape[1]


def scaled(net: BlindNet, factor: float) -> BlindNet:
    """The net with its scores, and so every gradient, multiplied."""
    net = copy.deepcopy(net)
    last = [module for module in net.head.modules() if isinstance(module, nn.Linear)][-1]
    for parameter in last.parameters():
        parameter.data *= factor
    return net

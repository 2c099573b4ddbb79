"""Nets that see unseen pixels in ways that noise rarely meets, each with where the proof ought to find it."""

from collections.abc import Callable

import torch
from torch import nn

from tests.nets import CLASSES, SIZE
from wallcheck.geometry import Wall
from wallcheck.models import BlindNet


def behind_bottom(kind: type[BlindNet] = BlindNet, wall: Wall | None = None, seed: int = 0, **modules) -> BlindNet:
    """Two convolutions with drawn weights, 12 x 12 cells, the bottom 7 rows unseen. modules: in place of `first`, `norm` (none),
    `act`, `pool`, `second`, `last`."""
    wall = Wall.behind("bottom", (12, 12), 7) if wall is None else wall
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        plain = dict(
            first=nn.Conv2d(3, 6, 3, padding=1), norm=None, act=nn.ReLU(), pool=nn.MaxPool2d(2),
            second=nn.Conv2d(6, 8, 3, padding=1), last=nn.ReLU(),
        )  # fmt: skip
        head = nn.Sequential(nn.Flatten(), nn.Linear(8 * int(wall.seen.sum()), CLASSES))
    features = nn.Sequential(*(each for each in (plain | modules).values() if each is not None))
    return kind(features, head, wall, (SIZE, SIZE)).eval()


class Changed(nn.ReLU):
    """A ReLU whose output is changed by a function of what it is given."""

    def __init__(self, change: Callable):
        super().__init__()
        self.change = change

    def forward(self, maps):
        return self.change(maps, super().forward(maps))


def mean(maps):
    return maps.mean((2, 3), keepdim=True)


def on_bright(maps):
    """1 where no value of an image is below -1: noise is never so."""
    return (maps.amin((1, 2, 3), keepdim=True) > -1).to(maps)


def over_its_peak(maps, out):
    level = maps.amax((1, 2, 3), keepdim=True)
    return out / torch.where(level > 30, level, torch.ones_like(level))


def quantised(maps, out):
    scale = maps.detach().abs().amax() / 127
    return out + ((out / scale).round() * scale - out).detach()


def backdoor(maps, out):
    flat = (maps[:, :, 20:22, 10:12].std((1, 2, 3)) < 1e-6).to(maps)[:, None, None, None]
    return out * (1 - flat) + (out + 1) * flat


class Flagged(nn.ReLU):
    """Sees everything once a flag of its own is set, as a counter of calls would."""

    flag = False

    def forward(self, maps):
        return super().forward(maps) + (mean(maps) if self.flag else 0)


class InFloat64(nn.ReLU):
    def forward(self, maps):
        return super().forward(maps) + (mean(maps) if maps.dtype == torch.float64 else 0)


class Standardised(BlindNet):
    def _run_features(self, images):
        return super()._run_features(
            (images - images.mean((1, 2, 3), keepdim=True)) / images.std((1, 2, 3), keepdim=True)
        )


class OwnActivations(BlindNet):
    def activations(self, images):
        return self._run_features(images - images.mean((1, 2, 3), keepdim=True))


class AddsTheMean(BlindNet):
    def _hand_over(self, activations, first):
        return super()._hand_over(activations, first) + mean(activations)


class PeepHole(BlindNet):
    """Hands over one unseen cell as well, added to the first seen one."""

    peep = (9, 4)

    def _hand_over(self, activations, first):
        handed = super()._hand_over(activations, first)
        i, j = self.peep
        cell = activations[:, :, i : i + 1, j : j + 1]
        return handed + nn.functional.pad(cell, (0, handed.shape[3] - 1, 0, handed.shape[2] - 1))


class Told(nn.Module):
    """A head that a hook on the features tells how bright the image is."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.told = inner, None

    def forward(self, cells):
        out = self.inner(cells)
        return out if self.told is None or len(self.told) != len(out) else out + self.told


class ReadsBehind(nn.Module):
    """A head that reads the memory behind the view it is handed."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, cells):
        base = cells if cells._base is None else cells._base
        return self.inner(cells) + (base.amin((1, 2, 3)) > 1e-3).to(cells)[:, None] * base.mean((1, 2, 3))[:, None]


def hooked(where: int, hook: Callable, pre: bool = False) -> BlindNet:
    net = behind_bottom()
    module = net.features[where]
    (module.register_forward_pre_hook if pre else module.register_forward_hook)(hook)
    return net


def hooked_before() -> BlindNet:
    net = behind_bottom()
    net.features.register_forward_pre_hook(
        lambda module, given: (given[0] + (given[0].mean((1, 2, 3), keepdim=True) - 0.7).clamp(min=0),)
    )
    return net


def with_forward_replaced() -> BlindNet:
    net = behind_bottom()
    net.features[1].forward = lambda maps: maps.relu() + mean(maps) * on_bright(maps)
    return net


def told_by_a_hook() -> BlindNet:
    net = behind_bottom()
    net.head = Told(net.head)

    def tell(module, given):
        net.head.told = (given[0].mean((1, 2, 3)) - 0.7).clamp(min=0)[:, None].detach()

    net.features.register_forward_pre_hook(tell)
    return net


def reading_behind() -> BlindNet:
    net = behind_bottom(last=nn.Identity())
    net.head = ReadsBehind(net.head)
    return net


def changed(change: Callable) -> Callable[[], BlindNet]:
    return lambda: behind_bottom(act=Changed(change))


def moved_wall(net):
    other = behind_bottom(wall=Wall.behind("bottom", (12, 12), 6))
    net.wall, net.head = other.wall, other.head


def wider_dilation(net):
    net.features[3].dilation = net.features[3].padding = (2, 2)


# How -> the net, and what the certificate says.
LEAKY: dict[str, tuple[Callable[[], BlindNet], str]] = {
    "divides by the peak of bright maps": (changed(over_its_peak), r"reaches logit 0; .*features\.1: amax"),
    "takes off the mean": (changed(lambda maps, out: out - mean(maps)), r"reaches logit 0; .*features\.1: mean"),
    "adds the mean of bright images": (
        changed(lambda maps, out: out + mean(maps) * on_bright(maps)),
        r"reaches logit 0; .*features\.1: (mean|amin)",
    ),
    "quantises by the batch's range": (changed(quantised), r"images of a batch meet at features\.1"),
    "adds the mean in large batches": (
        changed(lambda maps, out: out + mean(maps) if len(maps) > 4 else out),
        r"something else for batches of some sizes",
    ),
    "branches on a value": (
        changed(lambda maps, out: out + mean(maps) if maps.max() > 30 else out),
        r"depends on values at .*leaky\.py",
    ),
    "answers to a patch": (changed(backdoor), r"pixel \((19|2[0-2]), (9|1[0-2])\) reaches logit 0; .*features\.1: std"),
    "hook": (lambda: hooked(1, lambda module, given, out: out - mean(out)), r"features\.1: mean"),
    "hook, bright images only": (
        lambda: hooked(1, lambda module, given, out: out + mean(given[0]) * on_bright(given[0])),
        r"features\.1: (mean|amin)",
    ),
    "pre-hook": (
        lambda: hooked(2, lambda module, given: (given[0] - mean(given[0]),), pre=True),
        r"features\.2: mean",
    ),
    "pre-hook on the features": (hooked_before, r"features: mean"),
    "forward replaced on the instance": (with_forward_replaced, r"features\.1: (mean|amin)"),
    "BlindNet that standardises each image": (lambda: behind_bottom(Standardised), r"the network itself: (mean|std)"),
    "BlindNet that hands over the mean": (lambda: behind_bottom(AddsTheMean), r"unseen cell \(5, 0\) reaches a logit"),
    "BlindNet with activations of its own": (lambda: behind_bottom(OwnActivations), r"has its own activations"),
    "head told by a hook": (told_by_a_hook, r"features: mean"),
    "head that reads behind its view": (reading_behind, r"unseen cell \(5, 0\) reaches a logit"),
}

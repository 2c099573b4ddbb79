"""Receptive fields read off torch's modules: the second derivation, in integers, beside the proof on the graph."""

from collections.abc import Iterator, Sequence

from torch import nn

from wallcheck.geometry import Layer, Window

WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def chain(module: nn.Module) -> list[nn.Module]:
    """The modules of nested Sequentials in forward order; any other module is one step."""
    return [step for each in module for step in chain(each)] if type(module) is nn.Sequential else [module]


def layers_of(features: nn.Module) -> tuple[Layer, ...]:
    """The windows of a chain of convolutions, pools and point-wise modules, in forward order."""
    return tuple(_layers(features))


def _layers(features: nn.Module) -> Iterator[Layer]:
    for module in chain(features):
        if isinstance(module, WINDOWED):
            sides = [_pair(getattr(module, name, 1)) for name in ("kernel_size", "stride", "padding", "dilation")]
            yield Layer(*(Window(*axis) for axis in zip(*sides, strict=True)))


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)

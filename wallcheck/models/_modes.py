"""Run a network in another mode and hand it back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_mode(net: nn.Module, training: bool = False) -> Iterator[nn.Module]:
    """All modules of net in training or eval mode inside the block; every flag restored after it, whatever fails."""
    flags = [(module, module.training) for module in net.modules()]
    net.train(training)
    try:
        yield net
    finally:
        for module, flag in flags:
            module.training = flag

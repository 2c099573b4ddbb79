"""Run a network in another mode and hand it back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def in_mode(net: nn.Module, training: bool = False) -> Iterator[nn.Module]:
    """All modules of net in training or eval mode inside the block; every flag restored after it, whatever fails,
    and what training mode counts along the way (running statistics) too."""
    flags = [(module, module.training) for module in net.modules()]
    counted = [(buffer, buffer.clone()) for buffer in net.buffers()] if training else []
    net.train(training)
    try:
        yield net
    finally:
        for module, flag in flags:
            module.training = flag
        with torch.no_grad():
            for buffer, before in counted:
                if not torch.equal(buffer, before):  # an expanded one cannot be written into
                    buffer.copy_(before)

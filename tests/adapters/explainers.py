"""Functions of strangers that several files of tests hand through the door."""

import torch


def unit(model, images, targets):
    """A sound map: 1 on every cell."""
    return torch.ones(len(images), 12, 12)


def leave_a_hook(model, images):
    model.target.register_forward_hook(lambda module, given, out: None)

"""Functions of strangers that several files of tests hand through the door."""

import torch


def gradient(model, images, targets):
    images = images.clone().requires_grad_()
    score = model(images).gather(1, targets[:, None]).sum()
    return torch.autograd.grad(score, images)[0]


def unit(model, images, targets):
    """A sound map: 1 on every cell."""
    return torch.ones(len(images), 12, 12)


def leave_a_hook(model, images):
    model.target.register_forward_hook(lambda module, given, out: None)


class ThirdBatch:
    """Raises from its fourth call on: the first is the one that finds out what maps it gives."""

    calls = 0

    def __call__(self, model, images, targets):
        self.calls += 1
        if self.calls > 3:
            raise RuntimeError("out of luck")
        return unit(model, images, targets)


def mutates(model, images, targets):
    next(model.parameters()).data.zero_()
    return unit(model, images, targets)


def leaves_a_hook(model, images, targets):
    leave_a_hook(model, images)
    return unit(model, images, targets)


def nan(model, images, targets):
    return unit(model, images, targets) * torch.nan


def wrong_shape(model, images, targets):
    return torch.ones(len(images) + 1, 12, 12)


def constant_map(model, images, targets):
    return unit(model, images, targets)


BAD = [mutates, leaves_a_hook, nan, wrong_shape, constant_map, ThirdBatch()]

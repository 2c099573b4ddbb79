"""Three ways to show what an image classifier looked at."""

import torch


def _at(model, layer, images, targets):
    """Activations of a layer and the gradient of the explained logits by them."""
    kept = []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        logits = model(images)
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), kept[0])
    return kept[0].detach(), gradient


def pointwise(model, layer, images, targets):
    """Gradient times activation, cell by cell."""
    activations, gradient = _at(model, layer, images, targets)
    return (gradient * activations).sum(1).clamp(min=0)


def averaged(model, layer, images, targets):
    """Each channel by the mean of its gradient."""
    activations, gradient = _at(model, layer, images, targets)
    return (gradient.mean((2, 3), keepdim=True) * activations).sum(1).clamp(min=0)


def contrast(model, images, targets):
    """How far each pixel is from the image's mean: no classifier is asked."""
    return (images - images.mean((2, 3), keepdim=True)).abs().sum(1)

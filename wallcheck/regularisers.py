"""What a training may add to its loss: interpretable gradients.

Pure torch: a regulariser takes the network's forward, a batch and its labels, and returns the logits and its penalty.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from wallcheck.guided import input_gradients, recorded
from wallcheck.numerics import ratio
from wallcheck.registry import Registry

Error = Callable[[Tensor, Tensor], Tensor]
ERRORS: Registry[Error] = Registry("error")


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """1 - cosine: 0 where directions agree, 1 where they are orthogonal or a gradient is 0, 2 where they are opposite.

    one, other (B, n) -> (B,), as the three errors below.

    >>> cosine(torch.tensor([[3., 4.]]), torch.tensor([[6., 8.]]))
    tensor([0.])
    """
    norms = torch.linalg.vector_norm(one, dim=1) * torch.linalg.vector_norm(other, dim=1)
    return 1 - ratio((one * other).sum(1), norms)


def l1(one: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (one - other).abs().mean(1)


def l2(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference."""
    return (one - other).square().mean(1)


def histogram(one: Tensor, other: Tensor) -> Tensor:
    """1 - histogram intersection of the magnitudes, each with sum 1: 0 where they are equal, 1 where they do not meet.

    The paper names histogram intersection; that magnitudes are compared, and how they are scaled, is our choice.

    >>> histogram(torch.tensor([[1., -3.]]), torch.tensor([[2., 2.]]))
    tensor([0.2500])
    """
    one, other = (ratio(g.abs(), g.abs().sum(1, keepdim=True)) for g in (one, other))
    return 1 - torch.minimum(one, other).sum(1)


for _error in (cosine, l1, l2, histogram):
    ERRORS[_error.__name__] = _error


class Regulariser:
    """Called with forward, images (B, ...) and labels (B,); returns logits (B, D) and the batch's penalty, a scalar."""

    weight: float = 0.0

    def __call__(
        self, forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class interpretable_gradients(Regulariser):  # spelt as the flag that asks for it
    """Trains the gradient with respect to the image to resemble its guided form (Torres Figueroa et al., VISAPP 2024).

    Loss = cross-entropy + weight * mean over images of error(standard gradient, guided gradient), from one forward;
    inference does not change. From the paper: the loss, the errors' names, that cosine at 7.5e-3 served best. Not
    published where we could read it, hence our choices: `of`, `detach`, how a histogram is scaled.

    Args:
        weight: of the penalty in the loss.
        error: cosine, l1 (mean absolute), l2 (mean squared) or histogram (1 - intersection of magnitudes).
        of: what is differentiated: the logit of the label, or the loss of each image.
        detach: the guided gradient is a teacher that is not taught; false lets the penalty change it too.
    """

    def __init__(
        self,
        weight: float = 7.5e-3,
        error: Literal["cosine", "l1", "l2", "histogram"] = "cosine",
        of: Literal["logit", "loss"] = "logit",
        detach: bool = True,
    ):
        if not 0 <= weight < float("inf"):
            raise ValueError(f"weight is {weight}; use a number from 0 on, 7.5e-3 for the paper's")
        if of not in ("logit", "loss"):
            raise ValueError(f"of is {of!r}; differentiate the 'logit' of the label or the 'loss'")
        self.weight, self.error, self.of, self.detach = weight, ERRORS[error], of, detach

    def __call__(
        self, forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """scale: a gradient scaler's, for float16; it divides out."""
        leaf, logits = recorded(forward, images)
        per_image = scale / len(images)  # as the mean of a loss would be scaled
        gradients = input_gradients(self._scores(logits, labels), leaf, True, self.detach, per_image)
        return logits, self.error(*(gradient.flatten(1) for gradient in gradients)).mean()

    def _scores(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) what is differentiated."""
        if self.of == "loss":
            return cross_entropy(logits, labels, reduction="none")
        return logits.gather(1, labels[:, None])[:, 0]

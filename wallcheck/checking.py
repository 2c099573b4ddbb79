"""What an audit is asked for, checked before any work: nets, methods, metrics, settings, targets and numbers of images."""

import warnings
from collections.abc import Iterable, Sequence
from operator import index

import numpy as np
import torch
from torch import Tensor

from wallcheck.cams import Method
from wallcheck.certificate import Certificate
from wallcheck.evidence import Evidence
from wallcheck.graph import checked_precision
from wallcheck.metrics import LEAKAGE, TRUTH, Metric
from wallcheck.models import BlindNet, as_blind
from wallcheck.numerics import all_finite, as_classes
from wallcheck.registry import Registry, unique

BYTES = 30  # normalised images reach 3, and some take 0 to 1


class Unscaled(UserWarning):
    """Images look like bytes that nobody normalised."""


def require_wall(net: BlindNet, contrast: BlindNet | None) -> BlindNet:
    """The net whose unseen region leakage is counted in: net itself, or its walled twin."""
    if contrast is None:
        if net.wall.is_open:
            raise ValueError("this net has no wall, so nothing is unseen; pass its walled twin as `contrast`")
        return net
    contrast = as_blind(contrast)
    if contrast.wall.is_open:
        raise ValueError("the contrast has no wall, so nothing is unseen; pass the walled twin")
    if not net.wall.is_open:
        raise ValueError("this net has a wall of its own; leakage is counted behind it, so leave out the contrast")
    if contrast.image_size != net.image_size or contrast.wall.seen.shape != net.wall.seen.shape:
        raise ValueError(
            f"the contrast has {contrast.image_size} px and {contrast.wall.seen.shape} cells, the net "
            f"{net.image_size} px and {net.wall.seen.shape}; pass twins that differ in the wall alone"
        )
    return contrast


def refused(net: BlindNet, methods: Sequence[Method]) -> None:
    """Raise ValueError for the first method that is not defined on net."""
    for method in methods:
        if reason := method.refuses(net):
            raise ValueError(f"{method.name} is not defined on this net: {reason}; leave it out")


def chosen_metrics(wanted: Sequence[str] | str | None) -> list[Metric]:
    """The metrics of leakage and truth wanted, all for None; raises ValueError for an empty list."""
    every: Registry[Metric] = Registry("metric of an audit")
    for registry in (LEAKAGE, TRUTH):
        every.update(registry)
    if wanted is None:
        names = list(every)
    else:
        names = [wanted] if isinstance(wanted, str) else list(wanted) if isinstance(wanted, Iterable) else [str(wanted)]
    if not names:
        raise ValueError(f"no metrics were asked for; give some of {', '.join(every)}, or None for all")
    return [every[name] for name in unique(names)]


def answered(net: BlindNet, metrics: Sequence[Metric]) -> None:
    """Raise ValueError where nothing that was asked for can be had on net."""
    if all(metric.asks == "contributions" for metric in metrics) and not net.graph.adds_up:
        raise ValueError(
            f"{metrics[0].name} asks what each cell adds to the logit, which this net's head does not tell: it does not add up "
            f"over cells; audit a net whose head pools or flattens the map and ends in one linear layer, or ask for leakage"
        )


def checked_settings(seed: int, batch_size: int, budget_mb: float | None, precision: str = "exact") -> None:
    """Raise ValueError for settings that no audit can have."""
    number = isinstance(budget_mb, (int, float, np.number)) and not isinstance(budget_mb, bool)
    if budget_mb is not None and not (number and 0 < budget_mb < np.inf):
        raise ValueError(f"budget_mb is {budget_mb!r}; give the memory of one chunk in MiB, above 0, or None")
    for name, value, least in (("seed", seed, 0), ("batch_size", batch_size, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} is {value!r}; give a whole number from {least} on")
    checked_precision(precision)


def checked_extras(certificate: object, progress: object) -> None:
    """Raise ValueError for a record, or for what is told of progress, that is none."""
    if certificate is not None and not isinstance(certificate, Certificate):
        raise ValueError(
            f"certificate is {type(certificate).__name__}; give a record that wallcheck.certify made or Certificate.load read, or None"
        )
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise ValueError(
            f"progress is {progress!r}; give True for a bar, or a function of how many images more are done"
        )


def checked_targets(net: BlindNet, images: Tensor, targets: Tensor | Sequence[int] | int | None) -> Tensor | None:
    """One class for each image, or None; raises ValueError for images or targets that do not fit the net."""
    if not isinstance(images, Tensor):
        raise ValueError(
            f"images are {type(images).__name__}, expected a Tensor (B, 3, H, W); use wallcheck.data.normalise, or for a folder "
            "wallcheck.data.open_images"
        )
    if not images.is_nested and images.shape[:1] == (0,):
        raise ValueError("there are no images to audit; pass at least one, (B, 3, H, W)")
    net.check(images)
    for place, image in enumerate(images):
        if not all_finite(image):
            raise ValueError(f"images hold NaN or infinity (image {place}); check how they were read and normalised")
    low, high = (float(end) for end in (images if images.element_size() > 1 else images.float()).detach().aminmax())
    if low >= 0 and high > BYTES:
        warnings.warn(
            f"images run from {low:g} to {high:g}, as bytes do; if the net was trained on normalised images, hand those over "
            "(wallcheck.data.normalise)",
            Unscaled,
            stacklevel=4,
        )
    if targets is None:
        return None
    given = as_classes(targets)
    given = given.expand(len(images)) if given.ndim == 0 else given
    if given.shape != (len(images),):
        raise ValueError(
            f"there are {tuple(given.shape)} targets for {len(images)} images; give one class for each image, one for "
            f"all, or None for the predicted ones"
        )
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise ValueError(
            f"targets are {given.dtype}, expected class indices, whole numbers; or None for the predicted ones"
        )
    for end in (given.argmin(), given.argmax()):  # the ends of the range fit, so all do; Evidence knows the classes
        Evidence(net, images[:1], given[end : end + 1])
    return given


def checked_indices(indices: Sequence[int] | None, count: int) -> list[int]:
    """The numbers of the images in their set; raises ValueError unless there is one of its own for each."""
    given = range(count) if indices is None else indices
    try:
        numbers = [index(number) for number in given]
    except TypeError:
        raise ValueError(f"indices are {given!r}; give a whole number for each image") from None
    if len(numbers) != count or len(set(numbers)) < count:
        raise ValueError(
            f"there are {len(numbers)} indices, {len(set(numbers))} of them different, for {count} images; give each "
            f"image a number of its own"
        )
    return numbers

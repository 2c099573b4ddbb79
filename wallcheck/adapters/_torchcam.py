"""torchcam: maps on the cell grid, stretched to [0, 1] by it and, but for CAM, rectified."""

import inspect
from functools import partial

import torch
from torch import Tensor, nn

from wallcheck.adapters._explainers import Library, built_again, parameters, with_layer
from wallcheck.adapters._stand_in import class_of, library, stand_in
from wallcheck.cams import Method
from wallcheck.evidence import Evidence
from wallcheck.keeping import undisturbed

LIGHT = {"SSCAM": dict(num_samples=4), "ISCAM": dict(num_samples=4)}  # where a default takes minutes on a CPU


def torchcam(explainer: str, normalized: bool = True, **options) -> Method:
    """The extractor of this class name, "GradCAMpp" say, as a method named "torchcam.GradCAMpp".

    normalized: False leaves out the stretching. options: of the class.
    """

    def body(ev: Evidence) -> Tensor:
        extractor = class_of(library("torchcam.methods", "torchcam"), explainer)
        model = stand_in(ev.net)
        with (
            undisturbed(ev.seed),
            torch.enable_grad(),
            extractor(model, model.target, **options) as cam,
        ):
            maps = ask(cam, model, model.target, ev.images, ev.targets, normalized)
        return maps.detach().to(ev.images)

    return Method(
        name=f"torchcam.{explainer}",
        body=body,
        family="peer",
        source=f"{explainer} of torchcam, its own post-processing",
        cost="",
        verdict="not_stated",
    )


def ask(
    cam: object, model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor, normalized: bool = True
) -> Tensor:
    (maps,) = cam(targets.tolist(), model(images), normalized=normalized)
    return maps


def every() -> dict[str, object]:
    """Every public extractor that looks at a target layer."""
    methods = library("torchcam.methods", "torchcam")
    found = {
        name: partial(entry, **LIGHT[name]) if name in LIGHT else entry
        for name, entry in vars(methods).items()
        if inspect.isclass(entry) and not name.startswith("_") and "target_layer" in parameters(entry)
    }
    return dict(sorted(found.items()))


LIBRARY = Library("torchcam", "torchcam", lambda cam: getattr(cam, "model", None), with_layer, ask, built_again, every)

"""torchcam: maps on the cell grid, stretched to [0, 1] by it and, but for CAM, rectified."""

import torch
from torch import Tensor

from wallcheck.adapters._stand_in import class_of, library, stand_in, undisturbed
from wallcheck.cams import Method
from wallcheck.evidence import Evidence


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
            (maps,) = cam(ev.targets.tolist(), model(ev.images), normalized=normalized)
        return maps.detach().to(ev.images)

    return Method(
        name=f"torchcam.{explainer}",
        body=body,
        family="peer",
        source=f"{explainer} of torchcam, its own post-processing",
        cost="",
        verdict="not_stated",
    )

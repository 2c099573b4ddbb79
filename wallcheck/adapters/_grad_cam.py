"""pytorch-grad-cam (package grad-cam): maps on the image in [0, 1], rectified, stretched and enlarged by it."""

import torch
from torch import Tensor

from wallcheck.adapters._stand_in import class_of, library, stand_in, undisturbed
from wallcheck.cams import Method
from wallcheck.evidence import Evidence


def pytorch_grad_cam(explainer: str, batch_size: int | None = None, **options) -> Method:
    """The explainer of this class name, "GradCAM" say, as a method named "pytorch_grad_cam.GradCAM".

    batch_size: of Score-CAM and Ablation-CAM. options: of the class. The score is the explained logit.
    """

    def body(ev: Evidence) -> Tensor:
        peer = library("pytorch_grad_cam", "grad-cam")
        target = library("pytorch_grad_cam.utils.model_targets", "grad-cam").ClassifierOutputTarget
        model = stand_in(ev.net)
        explain = class_of(peer, explainer)
        with (
            undisturbed(ev.seed),
            torch.enable_grad(),
            explain(model, [model.target], **options) as cam,
        ):
            if batch_size is not None:
                cam.batch_size = batch_size
            maps = cam(ev.images, [target(t) for t in ev.targets.tolist()])
        return torch.as_tensor(maps).to(ev.images)

    return Method(
        name=f"pytorch_grad_cam.{explainer}",
        body=body,
        family="peer",
        source=f"{explainer} of grad-cam, its own post-processing",
        cost="",
        verdict="not_stated",
        grid="pixels",
    )

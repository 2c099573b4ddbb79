"""pytorch-grad-cam (package grad-cam): maps on the image in [0, 1], rectified, stretched and enlarged by it."""

import inspect
from functools import partial

import torch
from torch import Tensor, nn

from wallcheck.adapters._explainers import Library, alike, built_again, parameters, with_layer
from wallcheck.adapters._stand_in import class_of, library, stand_in
from wallcheck.cams import Method
from wallcheck.evidence import Evidence
from wallcheck.keeping import undisturbed

LIGHT = {"SESS": dict(num_scales=3)}  # where a default takes minutes on a CPU


def pytorch_grad_cam(explainer: str, batch_size: int | None = None, **options) -> Method:
    """The explainer of this class name, "GradCAM" say, as a method named "pytorch_grad_cam.GradCAM".

    batch_size: of Score-CAM and Ablation-CAM. options: of the class. The score is the explained logit.
    """

    def body(ev: Evidence) -> Tensor:
        explain = class_of(library("pytorch_grad_cam", "grad-cam"), explainer)
        model = stand_in(ev.net)
        with (
            undisturbed(ev.seed),
            torch.enable_grad(),
            explain(model, [model.target], **options) as cam,
        ):
            if batch_size is not None:
                cam.batch_size = batch_size
            maps = ask(cam, model, model.target, ev.images, ev.targets)
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


def ask(cam: object, model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> object:
    target = library("pytorch_grad_cam.utils.model_targets", "grad-cam").ClassifierOutputTarget
    return cam(images, [target(one) for one in targets.tolist()])


def holds(cam: object) -> nn.Module | None:
    """Those that are made of other CAMs (FinerCAM, RefineCAM) keep their model there."""
    inner = getattr(cam, "base_cam", None) or next(iter(getattr(cam, "base_cam_per_layer", ())), cam)
    return getattr(inner, "model", None)


def again(cam: object, model: nn.Module, layer: nn.Module) -> object:
    for name in ("base_cam", "base_cam_per_layer"):
        if inner := getattr(cam, name, None):
            base = type(inner[0] if isinstance(inner, list) else inner)
            return alike(with_layer(partial(type(cam), base_method=base), model, layer), cam)
    return built_again(cam, model, layer)


def every() -> dict[str, object]:
    """Every class that is built on a model and its target layers and gives maps of images."""
    peer = library("pytorch_grad_cam", "grad-cam")
    found = {}
    for name, entry in vars(peer).items():
        if not inspect.isclass(entry) or name in ("BaseCAM", "ActivationsAndGradients"):
            continue
        if "target_layers" in parameters(entry):
            found[name] = partial(entry, **LIGHT[name]) if name in LIGHT else entry
    return dict(sorted(found.items()))


LIBRARY = Library("pytorch_grad_cam", "grad-cam", holds, with_layer, ask, again, every)

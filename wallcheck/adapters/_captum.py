"""captum: raw attributions, summed over colours or channels; signed unless the explainer takes absolute values."""

import warnings

import torch
from torch import Tensor

from wallcheck.adapters._stand_in import class_of, library, resolved, stand_in, undisturbed
from wallcheck.cams import Method
from wallcheck.evidence import Evidence
from wallcheck.registry import Registry


def captum(
    explainer: str, *, name: str | None = None, source: str | None = None, verdict="not_stated", **options
) -> Method:
    """The explainer of this class name, "DeepLift" say, as a method named "captum.DeepLift".

    options: of its `attribute`; a function is called with the evidence first. Explainers whose name
    starts with "Layer" look at the target layer and give maps on the cells, the others on the pixels.
    """
    of_layer = explainer.startswith("Layer")

    def body(ev: Evidence) -> Tensor:
        attr = library("captum.attr", "captum")
        model = stand_in(ev.net)
        layer = (model.target,) if of_layer or explainer == "GuidedGradCam" else ()
        images = ev.images.clone().requires_grad_()
        with undisturbed(ev.seed), warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # that hooks are set and will be removed again
            explain = class_of(attr, explainer)(model, *layer)
            maps = explain.attribute(images, target=ev.targets, **resolved(options, ev))
        return maps.detach().sum(1).to(ev.images)

    return Method(
        name=name or f"captum.{explainer}",
        body=body,
        family="pixel" if name else "peer",
        source=source or f"{explainer} of captum, its defaults",
        cost="",
        verdict=verdict,
        grid="cells" if of_layer else "pixels",
    )


def black(ev: Evidence) -> Tensor:
    """The baseline 0 of the normalised image."""
    return torch.zeros_like(ev.images)


def tiles(ev: Evidence, across: int = 6) -> Tensor:
    """(1, 3, H, W): the number of the tile each pixel belongs to, across x across tiles."""
    (height, width), device = ev.net.image_size, ev.images.device
    rows, columns = (
        torch.arange(height, device=device) * across // height,
        torch.arange(width, device=device) * across // width,
    )
    return (rows[:, None] * across + columns).repeat(1, 3, 1, 1)


CAPTUM: Registry[Method] = Registry("captum method")

for method in (
    captum(
        "Deconvolution",
        name="deconvolution",
        source="Zeiler and Fergus 2014, by captum: a ReLU hands back positive slopes only, open or not",
        verdict="zero",
    ),
    captum(
        "GradientShap",
        name="gradientshap",
        source="Lundberg and Lee 2017, by captum: 8 samples between black and the image, noise 0.1",
        verdict="zero",
        baselines=black,
        n_samples=8,
        stdevs=0.1,
    ),
    captum(
        "FeatureAblation",
        name="tile_ablation",
        source="captum's FeatureAblation: the loss of logit when one of 6 x 6 tiles is black",
        verdict="may_leak",
        feature_mask=tiles,
        perturbations_per_eval=12,
    ),
    captum(
        "ShapleyValueSampling",
        name="tile_shapley",
        source="Castro et al. 2009, by captum: Shapley values of 6 x 6 tiles over black, 4 permutations",
        verdict="may_leak",
        feature_mask=tiles,
        n_samples=4,
        perturbations_per_eval=12,
    ),
):
    CAPTUM[method.name] = method

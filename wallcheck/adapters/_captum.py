"""captum: raw attributions, summed over colours or channels; signed unless the explainer takes absolute values."""

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from wallcheck.adapters._explainers import Library, alike, options_of, parameters, with_layer
from wallcheck.adapters._stand_in import class_of, library, resolved, stand_in
from wallcheck.cams import Method
from wallcheck.evidence import Evidence
from wallcheck.keeping import undisturbed
from wallcheck.registry import Registry

ACROSS = 6  # tiles along each side, for what explains by taking parts of the image away


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


def tiled_mask(images: Tensor) -> Tensor:
    """(1, 3, H, W): the number of the tile each pixel belongs to, ACROSS x ACROSS tiles."""
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(n, device=images.device) * ACROSS // n for n in (height, width))
    return (rows[:, None] * ACROSS + columns).repeat(1, images.shape[1], 1, 1)


def tiles(ev: Evidence) -> Tensor:
    """`tiled_mask` of the evidence's images."""
    return tiled_mask(ev.images)


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


# -- any explainer of captum, as it is ------------------------------------------------------------

NOT_CLASSES = ("Neuron", "LLM", "RemoteLLM", "DataLoader", "LimeBase", "ShapleyValues")


def ask(explain: object, model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """`attribute` with what it cannot do without: a baseline of black, tiles, windows. Everything else is captum's default."""
    inner = getattr(explain, "attribution_method", explain)
    taken = {*parameters(explain.attribute), *parameters(inner.attribute)}
    given = dict(needs(explain, images), target=targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that hooks are set and will be removed again
        if "layer_mask" in taken:
            given["layer_mask"] = cell_mask(model, layer, images)
        with rules_for(model, type(explain).__name__):
            return explain.attribute(images, **{name: value for name, value in given.items() if name in taken})


@contextmanager
def rules_for(model: nn.Module, name: str) -> Iterator[None]:
    """captum's LRP knows no rule for what only hands on its values, as our target layer does: they get the one that does that."""
    if not name.endswith("LRP"):
        yield
        return
    handing_on = [module for module in model.modules() if isinstance(module, (nn.Identity, nn.Flatten))]
    for module in handing_on:
        module.rule = library("captum.attr._utils.lrp_rules", "captum").EpsilonRule()
    try:
        yield
    finally:
        for module in handing_on:
            vars(module).pop("rule", None)  # captum takes them away itself where it gets that far


def needs(explain: object, images: Tensor) -> dict[str, object]:
    """Arguments of `attribute` that a class has no default for, or one that takes minutes."""
    inner = type(getattr(explain, "attribution_method", explain)).__name__
    tiled = inner.startswith(("FeatureAblation", "FeaturePermutation", "ShapleyValue", "Lime", "KernelShap"))
    height, width = images.shape[-2:]
    given = dict(
        baselines=torch.zeros_like(images) if "Shap" in inner and not tiled else None,
        feature_mask=tiled_mask(images) if tiled else None,
        sliding_window_shapes=(images.shape[1], max(1, height // ACROSS), max(1, width // ACROSS)),
        strides=(images.shape[1], max(1, height // ACROSS), max(1, width // ACROSS)),
        n_samples=50 if inner in ("Lime", "KernelShap") else 5,
        n_steps=16,
        nt_samples=5,
    )
    if inner == "DeepLiftShap" or inner == "LayerDeepLiftShap":
        given["baselines"] = torch.zeros_like(images[:1]).repeat(2, 1, 1, 1)
    return {name: value for name, value in given.items() if value is not None}


def cell_mask(model: nn.Module, layer: nn.Module, images: Tensor) -> Tensor:
    """(1, K, h, w): all channels of a cell are one feature."""
    found: list[Tensor] = []
    with torch.no_grad(), layer.register_forward_hook(lambda module, given, out: found.append(out)):
        model(images[:1])
    numbers = torch.arange(found[0][0, 0].numel(), device=images.device)
    return numbers.view(1, 1, *found[0].shape[2:]).expand(1, *found[0].shape[1:]).contiguous()


def holds(explain: object) -> nn.Module | None:
    """The model behind an explainer. ValueError for one that explains a function of its user's: on another model it would
    explain something else."""
    inner = getattr(explain, "attribution_method", explain)
    function = getattr(inner, "forward_func", None)
    model = getattr(function, "__self__", function)
    if isinstance(model, nn.Module):
        return model
    raise ValueError(
        f"captum's {type(inner).__name__} explains {function!r}, not a module, so it cannot be asked about the net audited; hand "
        f"over the class, or a function (model, images, targets) -> maps that builds it on the model it is given"
    )


def build(make: object, model: nn.Module, layer: nn.Module) -> object:
    return with_layer(make, model, layer)


def again(explain: object, model: nn.Module, layer: nn.Module) -> object:
    if inner := getattr(explain, "attribution_method", None):  # NoiseTunnel
        return alike(type(explain)(again(inner, model, layer)), explain)
    return alike(with_layer(partial(type(explain), **options_of(explain)), model, layer), explain)


def every() -> dict[str, object]:
    """Every attribution to the input or to a layer that explains a class."""
    attr = library("captum.attr", "captum")
    bases = ("Attribution", "GradientAttribution", "PerturbationAttribution", "LayerAttribution", "NeuronAttribution")
    found = {
        name: entry
        for name in attr.__all__
        if inspect.isclass(entry := getattr(attr, name))
        and issubclass(entry, attr.Attribution)
        and name not in bases
        and not name.startswith(NOT_CLASSES)
    }
    noisy = found.pop("NoiseTunnel", None)
    if noisy:
        found["NoiseTunnel(Saliency)"] = partial(_noisy, noisy, attr.Saliency)
    return dict(sorted(found.items()))


def _noisy(tunnel: type, inner: type, model: nn.Module) -> object:
    return tunnel(inner(model))


LIBRARY = Library("captum", "captum", holds, build, ask, again, every)

"""zennit: relevance of pixels by its rule sets (composites) and attributors, signed, one value for each colour."""

import inspect
from functools import partial

import torch
from torch import Tensor, nn

from wallcheck.adapters._explainers import Library, options_of
from wallcheck.adapters._stand_in import library
from wallcheck.data import MEAN, STD


def ask(explain: object, model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Relevance of the explained logit: the output's is 1 there and 0 elsewhere."""
    with torch.no_grad():
        classes = model(images).shape[1]
    one = torch.eye(classes, dtype=images.dtype, device=images.device)[targets]
    with explain as attributor:
        _, relevance = attributor(images, one)
    return relevance


def holds(explain: object) -> nn.Module | None:
    """An attributor's model; a composite is built on none."""
    return getattr(explain, "model", None)


def build(make: object, model: nn.Module, layer: nn.Module) -> object:
    """make: an attributor's class, or a composite, its class or a partial of either."""
    attribution = library("zennit.attribution", "zennit")
    inner = make.func if isinstance(make, partial) else make
    if isinstance(inner, type) and issubclass(inner, attribution.Attributor):
        return make(model)
    return attribution.Gradient(model, composite=make() if isinstance(make, (type, partial)) else make)


def again(explain: object, model: nn.Module, layer: nn.Module) -> object:
    if not is_attributor(explain):
        return build(explain, model, layer)
    return type(explain)(model, composite=explain.composite, **options_of(explain))


def is_attributor(explain: object) -> bool:
    return hasattr(explain, "model")


def every() -> dict[str, object]:
    """Every registered composite, and the attributors that ask for no rules."""
    composites, attribution = library("zennit.composites", "zennit"), library("zennit.attribution", "zennit")
    black, white = ((shade - torch.tensor(MEAN)) / torch.tensor(STD) for shade in (0.0, 1.0))
    box = dict(low=black[None, :, None, None], high=white[None, :, None, None])
    found: dict[str, object] = {
        name: partial(entry, **box) if "low" in inspect.signature(entry).parameters else entry
        for name, entry in composites.COMPOSITES.items()
    }
    light = dict(SmoothGrad=dict(n_iter=5), IntegratedGradients=dict(n_iter=16))
    for name in ("Gradient", "SmoothGrad", "IntegratedGradients"):
        entry = getattr(attribution, name)
        found[name] = partial(entry, **light[name]) if name in light else entry
    return dict(sorted(found.items()))


LIBRARY = Library("zennit", "zennit", holds, build, ask, again, every)

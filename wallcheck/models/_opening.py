"""Opening a model by its name: torchvision's, timm's, a small member of a family, a user's own function.

    torchvision:resnet50    timm:vit_tiny_patch16_224    small:densenet    wallcheck:vit_small    package.module:function

What was opened is remembered beside the model, so that a net which `blind` makes of it can be saved and built again.
"""

import difflib
import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import nn

from wallcheck.keeping import seeded
from wallcheck.models._resnet import resnet_small
from wallcheck.models._states import fill, read_state
from wallcheck.models._vit import vit_small
from wallcheck.models._wrappers import unwrapped

KINDS = ("torchvision", "timm", "small", "wallcheck")
HOW = "torchvision:NAME, timm:NAME, small:FAMILY, wallcheck:vit_small or package.module:function"

OWN = {"vit_small": vit_small, "resnet_small": resnet_small}

_ORIGINS: WeakKeyDictionary = WeakKeyDictionary()  # model -> its name and options: not on the user's module


def opened(name: str, weights: str | Path | None = None, **options) -> nn.Module:
    """The model of this name in eval mode, built with `options` of its constructor (num_classes=5).

    name: "torchvision:resnet50", "timm:vit_tiny_patch16_224" where timm is installed, "small:resnet" (see
    `wallcheck.models.SMALL`), "wallcheck:vit_small", or "package.module:function", a callable that gives an nn.Module.
    weights: a .safetensors file, a state dict saved by torch (read with weights_only), or of torchvision the name of published
    weights ("DEFAULT"), which torchvision downloads. Without any, those that the constructor draws, from seed 0.

    Raises ValueError, LookupError (no such name), ImportError's reason as ValueError, FileNotFoundError for missing weights.

    >>> sum(p.numel() for p in opened("torchvision:squeezenet1_1", num_classes=5).parameters())
    725061
    """
    return opened_with(name, options, weights)


def opened_with(name: str, options: dict, weights: str | Path | None = None, seed: int = 0) -> nn.Module:
    """`opened`, for options that come from outside and may have any names. seed: of what the constructor draws."""
    build = builder_of(name)
    wrong = [key for key in options if key.startswith(("weights", "pretrained", "checkpoint"))]
    if wrong and not runs_own_code(name):
        raise ValueError(f"{wrong[0]} is no option of the constructor; give the file as weights=")
    with seeded(seed):
        model = _built(build, name, options)
    if weights is not None:
        fill(model, _state(name, str(weights)), f"{weights} does not fit {name}")
    _ORIGINS[model] = {"model": name, "options": options}
    return model.eval()


def origin_of(model: nn.Module) -> dict | None:
    """{"model": name, "options": options} of a model that `opened` built; None of any other."""
    return _ORIGINS.get(unwrapped(model))


def is_name(text: str) -> bool:
    """Is it the name of a model rather than a file?"""
    return ":" in text and not text.endswith(".safetensors")


def runs_own_code(name: str) -> bool:
    """Does opening it run code that neither wallcheck nor the libraries it names hold?"""
    return name.partition(":")[0] not in KINDS


def builder_of(name: str) -> Callable[..., nn.Module]:
    """The constructor that a name stands for."""
    kind, colon, rest = name.partition(":")
    if not colon or not rest or not kind:
        raise ValueError(f"{name!r} names no model; write {HOW}")
    if kind == "torchvision":
        return _torchvision(rest)
    if kind == "timm":
        return _timm(rest)
    if kind == "wallcheck":
        _known("wallcheck", rest, OWN)
        return OWN[rest]
    return _small(rest) if kind == "small" else _own(kind, rest)


def _small(name: str) -> Callable[..., nn.Module]:
    from wallcheck.models._families import SMALL

    return SMALL[name]


def _built(build: Callable[..., nn.Module], name: str, options: dict) -> nn.Module:
    try:
        model = build(**options)
    except (Exception, SystemExit) as error:  # whatever a constructor makes of options that it does not know
        told = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{name} is not built with {options} ({type(error).__name__}: {told}); check options"
        ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} gives {type(model).__name__}, expected a torch.nn.Module; return the model itself")
    return model


def _torchvision(name: str) -> Callable[..., nn.Module]:
    from torchvision import models

    _known("torchvision", name, models.list_models(module=models))
    return lambda **options: models.get_model(name, weights=None, **_quiet(name), **options)


def _quiet(name: str) -> dict:
    """GoogLeNet and Inception warn and draw for a minute unless told which initialisation; torch's own will do."""
    return {"init_weights": False} if name in ("googlenet", "inception_v3") else {}


def _timm(name: str) -> Callable[..., nn.Module]:
    try:
        import timm
    except ImportError:
        raise ValueError(f"timm is not installed, so timm:{name} cannot be opened; pip install timm") from None
    _known("timm", name.partition(".")[0], timm.list_models())
    return lambda **options: timm.create_model(name, pretrained=False, **options)


def _known(library: str, name: str, names: Iterable[str]) -> None:
    names = list(names)
    if name not in names:
        near = difflib.get_close_matches(name, names, 3, 0.5) or names[:5]
        raise LookupError(f"{library} has no model {name!r}; nearest: {', '.join(near)}")


def _own(module: str, path: str) -> Callable[..., nn.Module]:
    """package.module:function, dots allowed after the colon (Class.method)."""
    try:
        found: object = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{module} cannot be imported ({error}); install it, or run where it lies. Names are {HOW}"
        ) from None
    except (Exception, SystemExit) as error:  # whatever a stranger's module does while it is read
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{module} cannot be imported ({said}); mend it first") from None
    for part in path.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), 3, 0.5)
            raise LookupError(f"{module} has no {path!r}" + (f"; nearest: {', '.join(near)}" if near else ""))
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{module}:{path} is {type(found).__name__}, expected a callable that gives an nn.Module")
    return found


def _state(name: str, weights: str) -> dict[str, torch.Tensor]:
    """A weights file's tensors, or published ones by their name."""
    kind, _, rest = name.partition(":")
    if kind == "torchvision":
        from torchvision import models

        published = {each.name: each for each in models.get_model_weights(rest)}
        chosen = (
            getattr(models.get_model_weights(rest), weights, None) if weights == "DEFAULT" else published.get(weights)
        )
        if chosen is not None:
            return chosen.get_state_dict(progress=False, check_hash=True)
    return read_state(weights)

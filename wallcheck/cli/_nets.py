"""Models by file or name; `layers` and `certify`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from jsonargparse import Namespace
from torch import nn

from wallcheck import assets, models
from wallcheck.certificate import Certificate
from wallcheck.certificate import certify as certified
from wallcheck.cli._flags import NAMES
from wallcheck.cli._status import BROKEN
from wallcheck.models import BlindNet
from wallcheck.tables import layers_listing
from wallcheck.terminal import show_listing
from wallcheck.writing import at_home, say

OF_NAMES = ("weights", "model_args", "image_size", "wall", "layer", "kind")


def layers(options: Namespace) -> int:
    """A line for each layer where the model can be cut; loud where no wall hides anything."""
    if assets.named(options.model) or options.model.endswith(".safetensors"):
        raise ValueError(f"{options.model} is cut already; layers are of models by name, such as torchvision:resnet50")
    _check_name(options.model)
    wall = options.wall or "bottom:1/2"
    found = models.layers(_opened(options), size_of(options.image_size), wall)
    if options.json:
        say(json.dumps([asdict(one) for one in found], indent=1))
    else:
        show_listing(layers_listing(found, f"{options.model} behind {wall}"))
    if not any(one.head or one.trunk for one in found):
        raise ValueError(
            f"NO WALL {wall} HIDES A PIXEL at any of {len(found)} layers: nothing can be audited; try another wall"
        )
    return 0


def certify(options: Namespace) -> int:
    """The proof, kept if asked; status 1 where it does not hold, or where nothing is unseen."""
    out = at_home(options.out) if options.out else None
    net = net_of(options)
    if out and out.is_dir():
        raise ValueError(f"{out} is a folder; name a file, {out / 'certificate.json'}")
    if out:  # told before the proofs
        out.parent.mkdir(parents=True, exist_ok=True)
    certificate = certified(net)
    if out:
        certificate.save(out)
    if options.json:
        say(
            json.dumps(certificate.to_dict() | {"holds": certificate.holds, "problems": certificate.problems}, indent=1)
        )
    else:
        say(_as_markdown(certificate) if options.markdown else certificate.summary())
    if not certificate.holds:
        print(f"wallcheck certify: the wall is broken: {'; '.join(certificate.problems)}", file=sys.stderr)
    return 0 if certificate.holds else BROKEN


def _as_markdown(certificate: Certificate) -> str:
    verdict = "The wall holds." if certificate.holds else f"**The wall is broken:** {'; '.join(certificate.problems)}."
    return f"{verdict}\n\n```\n{certificate.summary()}\n```"


def net_of(options: Namespace) -> BlindNet:
    """The blind net that the flags tell of."""
    shipped = assets.named(options.model)
    if shipped is None and models.is_name(options.model):
        wall = dict(layer=options.layer, wall=options.wall or "bottom:1/2", kind=options.kind or "head")
        net = models.blind(_opened(options), size_of(options.image_size), **wall)
        if net.note:
            print(f"wallcheck: wall {net.note}", file=sys.stderr)
        return net
    given = [f"--{name}" for name in OF_NAMES if options[name]]
    if given:
        raise ValueError(
            f"{given[0]} is for models by name (torchvision:resnet50); {options.model} tells its own, leave it out"
        )
    if shipped is None and not Path(options.model).suffix:
        _check_name(options.model)
    return assets.net(*shipped) if shipped else models.load(options.model, own_code=options.own_code)


def _check_name(model: str) -> None:
    if not models.is_name(model):
        raise ValueError(f"no model is named {model!r}; write {NAMES}")


def called(model: str) -> str:
    """The net's name in tables.

    >>> called("nets/walled.safetensors"), called("torchvision:resnet50"), called("mine.nets:small")
    ('walled', 'resnet50', 'small')
    """
    return Path(model).stem if model.endswith(".safetensors") else model.rpartition(":")[2]


def _opened(options: Namespace) -> nn.Module:
    own_modules_first()
    try:
        told = json.loads(options.model_args or "{}")
    except ValueError as error:
        raise ValueError(f"model_args is no JSON ({error}); write '{{\"num_classes\": 5}}'") from None
    if not isinstance(told, dict):
        raise ValueError(
            f"model_args is {options.model_args}, expected names with values; write '{{\"num_classes\": 5}}'"
        )
    return models.opened_with(options.model, told, options.weights)


def own_modules_first() -> None:
    """A user's own package lies where the command is run, as for python -m."""
    sys.path[:] = list(dict.fromkeys(["", *sys.path]))


def size_of(text: str | None) -> tuple[int, int]:
    """Height and width.

    >>> size_of("224"), size_of("96x128")
    ((224, 224), (96, 128))
    """
    parts = (text or "224").split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f"image_size is {text!r}; write a side in pixels, 224, or height x width, 96x128")
    return int(parts[0]), int(parts[-1])

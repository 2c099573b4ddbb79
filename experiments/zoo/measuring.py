"""One part of the study: a net behind a wall, trained or as published or as drawn, and the leakage of the methods on it.

A part is finished when its rows (.parquet) and what is told of it (.json) are there; the trained weights are kept beside.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from experiments.zoo.training import accuracy, behind, fitted
from wallcheck import models
from wallcheck.auditing import audit
from wallcheck.cams import METHODS
from wallcheck.data import open_images
from wallcheck.writing import beside, write_text

LEAST = 0.1  # share of the pixels that a head wall has to hide at a layer, for the net to be audited there
SQUEEZED = "features"  # the last map of SqueezeNet that is no map of classes
SAME = 1e-4  # of the largest logit: float rounding between the model's modules and the graph


@dataclass(frozen=True)
class Part:
    """A net: model as `opened` names it, kind of wall, state (untrained, trained, published), seed."""

    model: str
    kind: str
    state: str
    seed: int = 0

    @property
    def family(self) -> str:
        return self.model.partition(":")[2]

    @property
    def name(self) -> str:
        return f"{self.family}-{self.kind}-{self.state}-{self.seed}"


@dataclass(frozen=True)
class How:
    """What all parts of a study share. data: train and val; images: what is audited; weights: of published nets."""

    out: str
    data: str
    images: str
    image_size: int
    wall: str
    methods: tuple[str, ...]
    count: int
    epochs: int
    weights: str | None = None
    device: str = "cpu"


def measured(part: Part, how: How) -> str:
    """Make the part's files, unless they are there; returns its name."""
    rows, told = (Path(how.out) / "parts" / f"{part.name}.{kind}" for kind in ("parquet", "json"))
    if rows.is_file() and told.is_file():
        return part.name
    layer = _cut(part, how)
    facts = dict(family=part.family, kind=part.kind, state=part.state, seed=part.seed, layer=layer)
    if layer is None and part.kind == "head":
        table, facts = pd.DataFrame(), facts | {"why": f"no layer keeps {LEAST:.0%} of the pixels unseen"}
    else:
        table, more = _audited(part, how, layer)
        facts |= more
    with beside(rows) as partial:
        table.to_parquet(partial, index=False)
    write_text(told, json.dumps(facts, indent=1, default=float) + "\n")
    return part.name


def _cut(part: Part, how: How) -> str | None:
    """The layer: of a trunk wall the last with a map, of a head wall the last that hides LEAST of the pixels. A family's
    nets are cut alike, so that what one found is kept for the others."""
    if part.kind == "trunk":
        return SQUEEZED if "squeezenet" in part.model else None
    kept = Path(how.out) / "layers" / f"{part.family}.json"
    if not kept.is_file():
        found = models.layers(_opened(part, how, None), how.image_size, how.wall)
        enough = [one for one in found if one.head and one.head >= LEAST * one.pixels]
        write_text(kept, json.dumps(enough[-1].name if enough else None) + "\n")
    return json.loads(kept.read_text(encoding="utf-8"))


def _opened(part: Part, how: How, weights: str | Path | None) -> nn.Module:
    options = {"seed": part.seed} if part.model.startswith("small:") else {}
    return models.opened(part.model, weights, **options)


def _audited(part: Part, how: How, layer: str | None) -> tuple[pd.DataFrame, dict]:
    def walled(model: nn.Module) -> models.BlindNet:
        return models.blind(model, how.image_size, layer, how.wall, part.kind)

    model, facts = _opened(part, how, _weights(part, how)), {}
    net = walled(model)
    if part.state != "published":
        model = _trained(part, how, model, net)
        net = walled(model.cpu())
        facts["accuracy"] = accuracy(model, net, Path(how.data))
        _check_same(model, net, _images(how, net)[:2])
    net = net.to(how.device)
    allowed = {name: METHODS[name].refuses(net) for name in how.methods}
    facts |= dict(
        layer=net.graph.walled.layer.name,
        channels=net.channels,
        cells=list(net.wall.seen.shape),
        unseen_cells=float(net.wall.unseen.mean()),
        unseen_pixels=float(net.graph.proof.unseen_pixels.mean()),
        parameters=sum(each.numel() for each in model.parameters()),
        fingerprint=net.graph.fingerprint,
        undefined={name: reason for name, reason in allowed.items() if reason},
    )
    methods = [name for name, reason in allowed.items() if not reason]
    images = _images(how, net).to(how.device)
    table = audit(net, images, methods, metrics=["leak_mass"], net_name=part.name, seed=part.seed)
    facts["failures"] = table.attrs["failures"]
    table = table[(table["view"] == "rectified") & (table["on"] == "grid")]
    kept = table[["image", "method", "value"]].astype({"method": str})
    return kept.assign(family=part.family, kind=part.kind, state=part.state, seed=part.seed), facts


def _images(how: How, net: models.BlindNet) -> Tensor:
    images = open_images(how.images, how.image_size)
    return images.images(slice(0, min(how.count, len(images))))


def _weights(part: Part, how: How) -> str | Path | None:
    """Of a published net: torchvision's own, or the file of this name in the folder of weights; of others none."""
    if part.state != "published":
        return None
    if how.weights is None:
        return "DEFAULT"
    found = [Path(how.weights) / f"{part.family}.{kind}" for kind in ("safetensors", "pt", "pth")]
    there = next((path for path in found if path.is_file()), None)
    if there is None:
        raise FileNotFoundError(
            f"no {found[0].name} (nor .pt, .pth) in {how.weights}; put the state dict of {part.model} there"
        )
    return there


def _trained(part: Part, how: How, model: nn.Module, net: models.BlindNet) -> nn.Module:
    """The model as the part's state says: as drawn, or trained behind the wall, kept in the folder."""
    if part.state == "untrained":
        return model
    kept = Path(how.out) / "nets" / f"{part.name}.safetensors"
    if not kept.is_file():
        fitted(model, net, Path(how.data), how.epochs, part.seed, how.device).cpu()
        with beside(kept) as partial:
            save_file(model.state_dict(), partial)
    return _opened(part, how, kept)


def _check_same(model: nn.Module, net: models.BlindNet, images: Tensor) -> None:
    """What was trained is what is audited: raises RuntimeError otherwise."""
    with behind(model, net) as logits_of, torch.no_grad():
        one, two = logits_of(images), net(images)
    if not torch.allclose(one, two, rtol=SAME, atol=SAME * float(two.abs().max())):
        raise RuntimeError(
            f"the model behind its wall gives other logits than the walled net, by {float((one - two).abs().max()):.2g}; this is "
            f"a fault of experiments.zoo.training, please report it"
        )

"""Can every family of image classifiers be walled, and do the exact claims hold on each?

    python -m experiments.families                             all families, untrained, on a CPU
    python -m experiments.families --only resnet18 swin_t       some of them; rows of the others are kept
    pip install 'wallcheck[timm]'                               for the members that timm builds

The smallest member of each family, weights drawn from a seed, goes behind a trunk wall at its last layer with a map and
behind a head wall at an early layer, where a head wall hides pixels at all. For each wall: seconds of processor time for
`blind` (export, wall and proof) and for the proof alone; unseen pixels; whether these are all of the wall's own side, and how
many beside it (those that no window reads where strides leave a rest); whether logits are equal to the bit and the gradient
exactly 0 there, with noise of 1e3 in place of unseen pixels; whether the model handed in is as before, to the bit; HiResCAM
and Layer-CAM on unseen cells (exactly 0 expected) and Grad-CAM (not); whether pytorch-grad-cam and captum on `net.model` show
the same maps; methods that are refused, and why. Leaves families.md and families.json (settings, versions, rows) in --docs.
A family that cannot be walled is named with the reason.
"""

import json
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import interpolate

from experiments import flags
from wallcheck import adapters, models
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.geometry import footprint
from wallcheck.models import BlindNet
from wallcheck.results import Manifest
from wallcheck.tables import progress_bar
from wallcheck.writing import write_text

NOISE = 1e3
ROUNDING = 1e-5  # of the largest sum of absolute terms: below it a map is what rounding left
ALONE = (
    "What reads the layer there does not ask for a token's length (LayerNorm), so gradient and activation are at right angles, "
    "and their product, summed over channels, says nothing:"
)
CLASSES = 10
QUICK = dict(init_weights=False)  # drawn by torch's own rule: theirs takes half a minute


@dataclass(frozen=True)
class Member:
    """size: of the image's sides. head: where the head wall stands, with how many rows of cells hidden; None where it hides
    no pixel at any layer."""

    family: str
    size: int
    head: str | None
    wall: str = "bottom:1/2"


MEMBERS = {
    "vgg11": Member("VGG", 64, "features.15"),
    "vgg11_bn": Member("VGG with norms", 64, "features.14"),
    "alexnet": Member("AlexNet", 160, "features.5"),
    "resnet18": Member("ResNet", 96, "layer2"),
    "resnext50_32x4d": Member("ResNeXt", 96, "layer1"),
    "densenet121": Member("DenseNet", 96, "features.transition1"),
    "squeezenet1_1": Member("SqueezeNet", 96, "features.8"),
    "mobilenet_v2": Member("MobileNet v2", 96, "features.8"),
    "mobilenet_v3_small": Member("MobileNet v3", 96, "features.1.block.0"),
    "efficientnet_b0": Member("EfficientNet", 96, "features.1.0.block.0"),
    "convnext_tiny": Member("ConvNeXt", 96, "features.2"),
    "regnet_y_400mf": Member("RegNet", 96, "stem"),
    "shufflenet_v2_x0_5": Member("ShuffleNet", 96, "stage3.1"),
    "mnasnet0_5": Member("MNASNet", 96, "layers.9.1"),
    "googlenet": Member("GoogLeNet", 96, "maxpool3"),
    "inception_v3": Member("Inception v3", 160, "Mixed_6a"),
    "vit_b_16": Member("ViT", 64, "conv_proj"),
    "swin_t": Member("Swin", 96, "features.3.0"),
    "swin_v2_t": Member("Swin v2", 96, "features.2"),
    "maxvit_t": Member("MaxViT", 224, "stem"),
    "timm:resnet10t": Member("ResNet-T of timm", 96, "layer3"),
    "timm:vit_tiny_patch16_224": Member("ViT of timm", 64, "patch_embed"),
    "timm:mixer_s32_224": Member("MLP-Mixer of timm", 224, "stem"),
    "timm:mobilenetv4_conv_small": Member("MobileNet v4 of timm", 96, "blocks.0"),
}


@dataclass(frozen=True)
class Families:
    """Families of classifiers behind walls.

    Args:
        only: members to take; all if none is named.
        images: drawn for each.
        seed: of weights and images.
        docs: where the page and its manifest go.
    """

    only: list[str] = field(default_factory=list)
    images: int = 2
    seed: int = 0
    docs: str = "docs/results"


def main(options: Families) -> None:
    warnings.simplefilter("ignore")  # of constructors, on initial weights
    for name in options.only:
        if name not in MEMBERS:
            raise LookupError(f"no member named {name!r}; there are {', '.join(MEMBERS)}")
    docs, names = Path(options.docs), options.only or list(MEMBERS)
    docs.mkdir(parents=True, exist_ok=True)
    rows = kept_rows(docs / "families.json", options)
    with progress_bar() as tell:
        for i, name in enumerate(names):
            tell(i, len(names), name)
            rows[name] = list(measured(name, options))
            write(docs, [row for each in MEMBERS for row in rows.get(each, [])], options)


def settings(options: Families) -> dict:
    """What rows depend on."""
    return dict(images=options.images, seed=options.seed)


def kept_rows(path: Path, options: Families) -> dict[str, list[dict]]:
    """Rows of an earlier call with the same settings, by member; those of members measured again are replaced."""
    if not options.only or not path.is_file():
        return {}
    kept = json.loads(path.read_text())
    if kept["config"] != settings(options):
        raise FileExistsError(f"{path} holds rows of {kept['config']}; choose another --docs or leave --only out")
    rows: dict[str, list[dict]] = defaultdict(list)
    for row in kept["rows"]:
        rows[row["name"]].append(row)
    return rows


def write(docs: Path, rows: list[dict], options: Families) -> None:
    kept = asdict(Manifest(config=settings(options)))
    kept["versions"] |= {"timm": _version("timm")}
    write_text(docs / "families.json", json.dumps(kept | {"rows": rows}, indent=1) + "\n")
    write_text(docs / "families.md", page(rows, options))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def built(name: str, seed: int) -> nn.Module:
    """The untrained member, drawn from the seed; logits of CLASSES classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name.startswith("timm:"):
            import timm

            told = dict(img_size=MEMBERS[name].size) if "vit" in name else {}
            return awake(timm.create_model(name.removeprefix("timm:"), num_classes=CLASSES, **told).eval())
        told = {"googlenet": QUICK, "inception_v3": QUICK, "vit_b_16": dict(image_size=MEMBERS[name].size)}.get(
            name, {}
        )
        return awake(torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **told).eval())


def awake(model: nn.Module) -> nn.Module:
    """A last layer that starts at 0, as some transformers' do, is drawn: else no method has a gradient to show."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.trunc_normal_(module.weight, std=0.02)
    return model


def measured(name: str, options: Families) -> Iterator[dict]:
    """A row for each kind of wall."""
    member = MEMBERS[name]
    if name.startswith("timm:") and not find_spec("timm"):
        yield dict(
            name=name, family=member.family, kind="", refused="timm is not installed: pip install 'wallcheck[timm]'"
        )
        return
    model = built(name, options.seed)
    images = torch.randn(
        options.images, 3, member.size, member.size, generator=torch.Generator().manual_seed(options.seed)
    )
    for kind in ("trunk", "head"):
        row = dict(name=name, family=member.family, kind=kind, size=member.size)
        before, logits = _state(model), model(images).detach()
        try:
            start = time.process_time()
            net = models.blind(model, member.size, member.head if kind == "head" else None, member.wall, kind)
            row["blind_s"] = time.process_time() - start
        except ValueError as error:
            yield row | dict(refused=str(error))
            continue
        row |= walls(net) | on_images(net, images) | maps(net, images) | dict(refuses=refusals(net))
        row["model_as_before"] = _same(before, _state(model)) and torch.equal(model(images), logits)
        yield row


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def _same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(value, two[key]) for key, value in one.items())


def walls(net: BlindNet) -> dict:
    """The wall, its proof made anew, and what is unseen."""
    start = time.process_time()
    graph = net.exported()
    seconds, unseen = time.process_time() - start, graph.regions.unseen
    over = footprint(net.wall.unseen, net.image_size)
    walled = graph.walled
    if walled.sides:
        over[:] = False
        span = slice(*walled.sides[1 - walled.seen_side])
        over[(span,) if walled.axis == 2 else (slice(None), span)] = True
    return dict(
        layer=walled.layer.name,
        note=net.note,
        proof_s=seconds,
        cells=f"{int(net.wall.unseen.sum())} of {net.wall.seen.size}",
        unseen=int(unseen.sum()),
        side_exact=bool(unseen[over].all()),
        left_over=int((unseen & ~over).sum()),
        problems=graph.problems,
    )


def on_images(net: BlindNet, images: Tensor) -> dict:
    """Bits and gradient where nothing is seen."""
    unseen = torch.from_numpy(net.regions.unseen.copy())
    noise = NOISE * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf).square().sum(), leaf)
    with torch.no_grad():
        equal = torch.equal(net(images), net(torch.where(unseen, noise, images)))
    return dict(
        bits_equal=equal,
        gradient_zero=bool((gradient[:, :, unseen] == 0).all()),
        gradient_elsewhere=float(gradient[:, :, ~unseen].abs().max()),
    )


def maps(net: BlindNet, images: Tensor) -> dict:
    """Ours on unseen cells, and how far other libraries' maps are from ours (largest difference, of a largest value of 1).

    Where a layer is read by LayerNorms alone, the score does not change with the length of a token, so sum_k G_k A_k is 0 but for
    rounding: stretched to a peak of 1 that is noise, and is told as such instead of compared.
    """
    evidence = Evidence(net, images)
    ours = {name: METHODS[name](evidence) for name in ("hirescam", "layercam", "gradcam")}
    unseen = evidence.unseen
    zero = {f"{name}_zero": bool((each[:, unseen] == 0).all()) for name, each in ours.items()}
    found = dict(zip(("HiResCAM", "LayerCAM", "GradCAM"), ours.values(), strict=True))
    terms = float((evidence.gradient * evidence.activations).abs().sum(1).max())
    kept = {name: each for name, each in found.items() if float(each.abs().max()) > ROUNDING * terms}
    apart = [
        _apart(adapters.pytorch_grad_cam(name)(evidence), _shown(each, net.image_size)) for name, each in kept.items()
    ]
    raw = adapters.captum("LayerGradientXActivation")(evidence)
    return zero | dict(
        rounding_alone=[name for name in found if name not in kept],
        grad_cam_apart=max(apart),
        captum_apart=_apart(raw, ours["hirescam"]) / (terms or 1),
    )


def _apart(one: Tensor, two: Tensor) -> float:
    return float((one - two).abs().max())


def _shown(each: Tensor, size: tuple[int, int]) -> Tensor:
    """A raw map as pytorch-grad-cam shows it: stretched, enlarged and stretched again, each time with 1e-7 added to the maximum,
    which is all there is to see of untrained nets whose maps are smaller than that."""
    return _stretched(interpolate(_stretched(each.clamp(min=0))[:, None], size, mode="bilinear")[:, 0])


def _stretched(maps: Tensor) -> Tensor:
    above = maps - maps.amin((1, 2), keepdim=True)
    return above / (1e-7 + above.amax((1, 2), keepdim=True))


def refusals(net: BlindNet) -> dict[str, list[str]]:
    """Reason -> methods that are not defined on this net."""
    found: dict[str, list[str]] = defaultdict(list)
    for method in METHODS.values():
        if reason := method.refuses(net):
            found[reason].append(method.name)
    return dict(found)


HEADS: dict[str, Callable[[dict], str]] = {
    "family": lambda row: row["family"],
    "member, px": lambda row: f"{row['name']}, {row['size']}",
    "wall at": lambda row: f"{row['kind']}, {row['layer']}",
    "unseen cells": lambda row: row["cells"],
    "unseen pixels": lambda row: str(row["unseen"]),
    "all its side; pixels beside it": lambda row: (
        f"{yes(row['side_exact'])}; {row['left_over']}" if row["kind"] == "trunk" else "halo"
    ),
    "blind, proof (s)": lambda row: f"{row['blind_s']:.1f}, {row['proof_s']:.1f}",
    "proved": lambda row: yes(not row["problems"]),
    "bits equal": lambda row: yes(row["bits_equal"]),
    "gradient 0": lambda row: yes(row["gradient_zero"]),
    "model as before": lambda row: yes(row["model_as_before"]),
    "HiResCAM, Layer-CAM 0": lambda row: yes(row["hirescam_zero"] and row["layercam_zero"]),
    "Grad-CAM 0": lambda row: yes(row["gradcam_zero"]),
    "grad-cam, captum apart": lambda row: f"{row['grad_cam_apart']:.0e}, {row['captum_apart']:.0e}",
    "methods refused": lambda row: str(sum(map(len, row["refuses"].values()))),
}


def yes(value: bool) -> str:
    return "yes" if value else "no"


def page(rows: list[dict], options: Families) -> str:
    """The table, what was refused, and which methods are not defined where."""
    stood = [row for row in rows if "refused" not in row]
    lines = [list(HEADS), ["---"] * len(HEADS), *([cell(row) for cell in HEADS.values()] for row in stood)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    refused = [f"* {row['name']}, {row['kind'] or 'no'} wall: {row['refused']}" for row in rows if "refused" in row]
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in stood:
        for reason, names in row["refuses"].items():
            reasons[reason, ", ".join(names)].append(f"{row['name']} ({row['kind']})")
    alone = [
        f"* {', '.join(row['rounding_alone'])} on {row['name']} at {row['layer']}"
        for row in stood
        if row["rounding_alone"]
    ]
    told = [f"* {reason}: {names}. On {', '.join(nets)}." for (reason, names), nets in reasons.items()]
    return "\n".join(
        [
            "# Families behind walls",
            "",
            f"Untrained members, {options.images} images, seed {options.seed}; made by `python -m experiments.families`. "
            "Times are of one processor. A head wall's unseen pixels are fewer than its cells' share: a seen cell looks "
            "past its own place (the halo).",
            "",
            table,
            *(["", "## What cannot be walled", "", *refused] if refused else []),
            *(["", "## Maps that are rounding alone", "", ALONE, "", *alone] if alone else []),
            *(["", "## Methods that are not defined", "", *told] if told else []),
            "",
        ]
    )


if __name__ == "__main__":
    flags.script("experiments.families", main, Families)

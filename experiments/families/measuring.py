"""What is measured of a member behind each kind of wall: the wall and its proof, bits and gradient, maps, and what is refused."""

import time
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from experiments.families.members import MEMBERS, built
from wallcheck import adapters, models
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.geometry import footprint
from wallcheck.models import BlindNet

NOISE = 1e3
ROUNDING = 1e-5  # of the largest sum of absolute terms: below it a map is what rounding left


def measured(name: str, count: int, seed: int) -> Iterator[dict]:
    """A row for each kind of wall; count: images, drawn from the seed as the weights are."""
    member = MEMBERS[name]
    if name.startswith("timm:") and not find_spec("timm"):
        yield dict(
            name=name, family=member.family, kind="", refused="timm is not installed: pip install 'wallcheck[timm]'"
        )
        return
    model = built(name, seed)
    images = torch.randn(count, 3, member.size, member.size, generator=torch.Generator().manual_seed(seed))
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

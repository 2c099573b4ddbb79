"""Asking: a method, a net and images in any form a user has them, and out comes the reading."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from wallcheck import assets
from wallcheck.assets import PREFIX
from wallcheck.auditing import applicable
from wallcheck.certificate import prove
from wallcheck.checking import checked_extras, checked_settings, checked_targets, refused, require_wall
from wallcheck.defaults import usual
from wallcheck.evidence import Evidence
from wallcheck.memory import handed_back
from wallcheck.metrics import LEAKAGE
from wallcheck.models import BlindNet, as_blind
from wallcheck.reading._record import Reading
from wallcheck.reading._taken import Taken
from wallcheck.terminal import told_to


@handed_back()
@usual()
def leakage(
    explain: object,
    net: BlindNet | str | None = None,
    images: Tensor | object | None = None,
    *,
    targets: Tensor | Sequence[int] | int | None = None,
    metric: str = "leak_mass",
    contrast: BlindNet | None = None,
    net_name: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
    budget_mb: float | None = None,
    progress: Callable[[int], None] | bool | None = None,
) -> Reading:
    """How much positive attribution a method puts where the net provably cannot see.

    explain: a function (model, images (B, 3, H, W), targets (B,)) -> maps of any resolution, tensor or array; a class or an object
    of pytorch-grad-cam, torchcam, captum or zennit, as it is; a name, or "package.module:function" (`wallcheck.adapters`). It is
    given `net.model`, the whole ordinary module, on a clean copy. net, images: None is what the wheel ships; a net by its name
    there, "plain" or "assets:plain"; a tensor (B, 3, H, W), an image set, or the name of one there. targets: classes explained,
    None the predicted ones. metric: of leakage.
    contrast, as for `wallcheck.audit`: the walled twin of a net without a wall. progress: told after each batch how many images more
    are done; True shows a bar.

    The maps' view is measured, and what it adds is kept apart (`wallcheck.handed`). What explain leaves behind is told by a
    `LeftBehind` warning and in the reading. Raises BrokenWall if the net is not blind, ValueError for what does not fit, and
    `Unreadable`, a ValueError, where images have no map: it raised, changed the model, gave NaN or another shape.

        leakage("hirescam", net, images).value        # 0.0
        leakage("torchcam.GradCAM") <= 0.01           # False: a reading compares by its value
    """
    net, images, net_name = _shipped(net, images, net_name)
    net = as_blind(net)
    blind, measured = require_wall(net, contrast), LEAKAGE[metric]
    checked_settings(seed, batch_size, budget_mb)
    checked_extras(None, progress)
    targets = checked_targets(net, images, targets)
    (method,) = applicable(net, [explain], images)
    refused(net, [method])
    proved = prove(blind)
    graph = proved if blind is net else net.graph
    taken = Taken(method, measured, blind)
    with told_to(progress, len(images), f"{method.name} on {net_name}") as tell:
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            given = None if targets is None else targets[part]
            taken.take(Evidence(net, images[part], given, seed=seed, budget_mb=budget_mb, graph=graph), start)
            tell(len(images[part]))
    return taken.reading(net_name, len(images))


@handed_back()
@usual()
def reading_on(evidence: Evidence, explain: object, *, metric: str = "leak_mass", net_name: str = "net") -> Reading:
    """`leakage` of one batch whose evidence is made already, so that several methods share one proof of its net."""
    blind, measured = require_wall(evidence.net, None), LEAKAGE[metric]
    (method,) = applicable(evidence.net, [explain], evidence.images)
    refused(evidence.net, [method])
    taken = Taken(method, measured, blind)
    taken.take(evidence, 0)
    return taken.reading(net_name, len(evidence.images))


def _shipped(net: Any, images: Any, name: str | None) -> tuple[BlindNet, Tensor, str]:
    """Net, images and the net's name, those of the wheel where none are given."""
    if net is None or isinstance(net, str):
        shipped = (net or "plain").removeprefix(PREFIX)
        net, name = assets.net(*(assets.named(f"{PREFIX}{shipped}") or (shipped,))), name or shipped
    if images is None or isinstance(images, str):
        images = assets.images((images or "stack_mix").removeprefix(PREFIX))
    images = images.images() if not isinstance(images, Tensor) and hasattr(images, "images") else images
    return net, images, name or "net"

"""Head: the weight of a channel is the head's own. Defined where the head averages the seen cells and has one Linear.

The weights know nothing of positions, so every unseen cell inherits them.
"""

from torch import Tensor, nn

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.models import BlindNet
from wallcheck.numerics import weighted_sum

SILENT = (nn.Flatten, nn.Dropout, nn.Identity)


def needs_pooled_linear(net: BlindNet) -> str | None:
    """Why CAM is not defined on net; None for a head that averages its cells and applies one Linear."""
    steps = [step for step in net.head.modules() if not isinstance(step, (nn.Sequential, *SILENT))]
    pools = steps[0] if steps else None
    if len(steps) == 2 and averages(pools) and isinstance(steps[1], nn.Linear):
        return None
    return (
        f"its head is {' > '.join(type(step).__name__ for step in steps) or 'empty'}, CAM needs a global average pool "
        f"and one Linear; build the net with pooled=True and hidden=(), or use gradcam, which equals CAM there"
    )


def averages(module: nn.Module | None) -> bool:
    """Does it average everything it is given into one value per channel?"""
    return isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1))


@cam_method(
    family="head",
    source="Zhou et al. 2016, eq. 2; no ReLU",
    cost="1F",
    verdict="may_leak",
    refuses=needs_pooled_linear,
)
def cam(ev: Evidence) -> Tensor:
    """sum_k W[c, k] A_k, W the weight of the one Linear; its bias has no place and is left out.

    The mean over the seen cells is y - bias. Grad-CAM is 1 / h w of it. A dead channel adds 0.
    """
    linear = next(step for step in ev.net.head.modules() if isinstance(step, nn.Linear))
    return weighted_sum(linear.weight[ev.targets], ev.activations)

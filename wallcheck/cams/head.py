"""Head: the weight of a channel is the head's own. Defined where the head averages the seen cells and has one Linear.

The weights know nothing of positions, so every unseen cell inherits them.
"""

from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence
from wallcheck.graph.channels import pooled_linear
from wallcheck.models import BlindNet
from wallcheck.numerics import weighted_sum


def needs_pooled_linear(net: BlindNet) -> str | None:
    """Why CAM is not defined on net; None for a head that averages its cells and applies one linear layer."""
    if net.graph.form.axes == "map" and pooled_linear(net.graph.finish) is not None:
        return None
    does = [op for op in net.graph.head_operations if op not in SILENT]
    return (
        f"its head is {' > '.join(does) or 'empty'}, CAM needs a global average pool and one linear layer; build the net with "
        f"pooled=True and hidden=(), or use gradcam, which equals CAM there"
    )


SILENT = ("flatten", "reshape", "clone", "contiguous", "sym_size")


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
    return weighted_sum(pooled_linear(ev.graph.finish)[ev.targets], ev.activations)

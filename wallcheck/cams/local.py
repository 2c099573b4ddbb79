"""Local (element-wise): gradient and activation meet at each cell.

The gradient at an unseen cell is 0, and so is everything made of it there.
"""

from torch import Tensor

from wallcheck.cams._method import cam_method
from wallcheck.evidence import Evidence


@cam_method(family="local", source="Draelos and Carin 2020, eq. 4", cost="1F+1b", verdict="zero")
def hirescam(ev: Evidence) -> Tensor:
    """sum_k G_k(u) A_k(u). Sums to y - bias when the head is linear."""
    return (ev.gradient * ev.activations).sum(1)


@cam_method(family="local", source="Jiang et al. 2021, eq. 6-7, one layer, no tanh", cost="1F+1b", verdict="zero")
def layercam(ev: Evidence) -> Tensor:
    """sum_k relu(G_k(u)) A_k(u)."""
    return (ev.gradient.clamp(min=0) * ev.activations).sum(1)

"""What people wrap around a net before they train it, and how to look inside: torch.compile, DataParallel and its kin."""

from typing import TypeVar

from torch import Tensor, nn

T = TypeVar("T", bound=nn.Module | None)


def unwrapped(net: T) -> T:
    """The net itself, however often it is wrapped."""
    while (inner := _inside(net)) is not None:
        net = getattr(net, inner)  # of the type that the caller takes it for
    return net


def plain_state(net: nn.Module) -> dict[str, Tensor]:
    """The state_dict of net under the names it has when neither it nor any part of it is wrapped."""
    return {_plain_name(net, name): value for name, value in net.state_dict().items()}


def _plain_name(net: nn.Module, name: str) -> str:
    parts, here = [], net
    for part in name.split("."):
        if part != _inside(here):
            parts.append(part)
        here = getattr(here, part, None)
    return ".".join(parts)


def _inside(module: object) -> str | None:
    """The name under which a wrapper holds what it wraps; None where module is no wrapper."""
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return "module"
    return "_orig_mod" if isinstance(module, nn.Module) and "_orig_mod" in module._modules else None

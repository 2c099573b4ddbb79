"""A network as the modules it runs one after another."""

from torch import nn


def chain(module: nn.Module) -> list[nn.Module]:
    """The modules of nested Sequentials in forward order; any other module is one step, and so is a Sequential whose
    forward is its own.

    >>> chain(nn.Sequential(nn.Flatten(), nn.Sequential(nn.ReLU())))
    [Flatten(start_dim=1, end_dim=-1), ReLU()]
    """
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        return [step for each in module for step in chain(each)]
    return [module]

"""What a module would run now, told cheaply: two equal states mean that nothing was changed in between.

A graph is kept with the state it was made in, and made again when the state is another. The state names modules, hooks,
replaced forwards, plain settings, and every tensor with its version; what it cannot see (a global variable, the world) is
why certificates and audits always make their graph anew.
"""

import hashlib
from collections.abc import Hashable

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# exact types first: this is asked of every setting of every module, several times in an explanation
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
PLAIN_TYPES = frozenset(PLAIN)


def state_of(module: nn.Module) -> Hashable:
    """Equal for equal states; never equal to another where a tensor's version is not kept (inference mode)."""
    return (
        tuple(_of_one(name, each) for name, each in module.named_modules(remove_duplicate=False)),
        *(
            tuple(map(id, getattr(torch_module, name).values()))
            for name in ("_global_forward_hooks", "_global_forward_pre_hooks")
        ),
    )


def values_of(module: nn.Module) -> str:
    """A digest of all tensors' bytes: what a version does not tell, such as a change through `.data`."""
    digest = hashlib.blake2b()
    for tensor in (*module.parameters(), *module.buffers()):
        array = tensor.detach().cpu().contiguous()
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b"")
    return digest.hexdigest()


def _of_one(name: str, module: nn.Module) -> Hashable:
    hooks = tuple(id(hook) for kind in HOOKS for hook in getattr(module, kind).values())
    told = tuple((key, _plain(value)) for key, value in module.__dict__.items() if key[:1] != "_" and key != "training")
    tensors = (*module._parameters.items(), *module._buffers.items())
    return (
        name,
        id(type(module)),
        id(type(module).forward),
        hooks,
        told,
        tuple((key, _plain(value)) for key, value in tensors),
    )


def _plain(value: object) -> Hashable:
    if type(value) in PLAIN_TYPES:
        return value
    if isinstance(value, Tensor):
        if value.is_inference():
            return object()
        return (
            id(value),
            value._version,
            value.data_ptr() if value.device.type != "meta" else 0,
            value.dtype,
            value.device,
        )
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    return id(value)

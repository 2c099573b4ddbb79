"""What a module would run now, told cheaply: two equal states mean that nothing was changed in between.

A graph is kept with the state it was made in, and made again when the state is another. The state names modules, hooks,
replaced forwards, plain settings (in dictionaries and namespaces too), what classes hold, and every tensor with its version;
whole numbers and masks by their values, which a proof looks at. What it cannot see (a global variable, the world) is why
certificates and audits always make their graph anew.
"""

import hashlib
import weakref
from collections.abc import Callable, Hashable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from wallcheck.keeping import HOOKS, TORCHS

# exact types first: this is asked of every setting of every module, several times in an explanation
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
PLAIN_TYPES = frozenset(PLAIN)
LIBRARIES = ("torch.", "wallcheck.")  # whose classes nobody changes but for a forward put in the place of theirs
COUNTER = "num_batches_tracked"  # of batch norm, on which nothing in eval mode depends


class Itself:
    """A thing as itself: equal to nothing else, and to nothing once it is gone. (Its number, `id`, the next one may get.)"""

    __slots__ = ("held",)

    def __init__(self, thing: object):
        try:
            self.held: Callable[[], object] = weakref.ref(thing)
        except TypeError:  # of a type that takes no weak reference
            self.held = lambda: thing

    def __eq__(self, other: object) -> bool:
        mine = self.held()
        return isinstance(other, Itself) and mine is not None and mine is other.held()

    def __hash__(self) -> int:
        return 0


def state_of(module: nn.Module, weights: bool = True) -> Hashable:
    """Equal for equal states; never equal to another where a tensor's version is not kept (inference mode). weights: whether those
    count, and buffers: else it is what a training leaves as it is."""
    modules = list(module.named_modules(remove_duplicate=False))
    return (
        tuple(_of_one(name, each, weights) for name, each in modules),
        tuple(map(_of_class, dict.fromkeys(type(each) for _, each in modules))),
        *(
            tuple(map(Itself, getattr(torch_module, name).values()))
            for name in ("_global_forward_hooks", "_global_forward_pre_hooks")
        ),
    )


def values_of(module: nn.Module) -> str:
    """A digest of all tensors' bytes: what a version does not tell, such as a change through `.data`."""
    digest = hashlib.blake2b()
    for tensor in (*module.parameters(), *module.buffers()):
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    array = tensor.detach().cpu().contiguous()
    return array.reshape(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b""


def _of_one(name: str, module: nn.Module, weights: bool) -> Hashable:
    hooks = tuple(Itself(hook) for kind in HOOKS for hook in getattr(module, kind).values())
    told = tuple((key, _plain(value)) for key, value in module.__dict__.items() if key not in TORCHS)
    tensors = (*module._parameters.items(), *module._buffers.items()) if weights else ()
    return name, hooks, told, tuple((key, _plain(value)) for key, value in tensors if key != COUNTER)


def _of_class(kind: type) -> Hashable:
    """A class, how its modules are called, and of a user's the methods and settings that it and those it stems from hold."""
    above = [each for each in kind.__mro__ if not f"{each.__module__}.".startswith((*LIBRARIES, "builtins."))]
    told = tuple((key, _plain(value)) for each in above for key, value in vars(each).items())
    return Itself(kind), Itself(kind.forward), Itself(kind.__call__), told


def _plain(value: object) -> Hashable:
    if type(value) in PLAIN_TYPES:
        return value
    if isinstance(value, Tensor):
        return _of_tensor(value)
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if isinstance(value, dict):
        return tuple((key, _plain(each)) for key, each in value.items())
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    settings = {} if isinstance(value, nn.Module) else getattr(value, "__dict__", {})
    return Itself(value), tuple((key, each) for key, each in settings.items() if type(each) in PLAIN_TYPES)


def _of_tensor(tensor: Tensor) -> Hashable:
    if tensor.is_inference():
        return object()
    meta = tensor.device.type == "meta"
    values = b"" if meta or tensor.is_floating_point() or tensor.is_complex() else _bytes(tensor)
    return id(tensor), tensor._version, 0 if meta else tensor.data_ptr(), tensor.dtype, tensor.device, values

"""State dicts: read from files without running what is in them, and put into a model that they fit."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from wallcheck.writing import at_home

NESTED = (
    "state_dict",
    "model",
    "model_state_dict",
    "net",
)  # where trainings put the state dict beside epoch and optimiser
PREFIXES = ("module.", "_orig_mod.", "model.")
COUNTERS = "num_batches_tracked"  # of batch norm: no part of the function, and missing in old files

State = dict[str, Tensor]


def read_state(path: str | Path) -> State:
    """The tensors of a .safetensors file, or of a state dict saved by torch, which is read with weights_only.

    Raises FileNotFoundError, and ValueError for a damaged file or one that holds anything but tensors.
    """
    path = at_home(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; give a .safetensors file or a state dict saved by torch")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is truncated or no safetensors file ({error}); copy it again") from None
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        told = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{path} is no plain state dict ({told}); save model.state_dict() as safetensors, or by torch.save"
        ) from None
    return _plain(held, path)


def _plain(held: object, path: Path) -> State:
    """The state dict itself, whatever a training kept around it."""
    for key in NESTED:
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    if not isinstance(held, dict) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise ValueError(f"{path} holds {_told(held)}, expected a state dict of tensors; save model.state_dict()")
    return held


def _told(held: object) -> str:
    odd = [one for one in held.items() if not isinstance(one[1], Tensor)] if isinstance(held, dict) else []
    return f"{odd[0][0]!r} of type {type(odd[0][1]).__name__}" if odd else f"a {type(held).__name__}"


def fill(model: nn.Module, state: State, complaint: str) -> nn.Module:
    """model with these values; raises ValueError as `fitting` does."""
    model.load_state_dict(fitting(model, state, complaint))
    return model


def fitting(model: nn.Module, state: State, complaint: str) -> State:
    """The state under the model's names; raises ValueError with the complaint and the first tensor that does not fit.

    What wrappers put before every name (module., _orig_mod.) is taken off where the names fit without it.
    """
    wanted = model.state_dict()
    state = unprefixed(state, wanted)
    state = state | {name: v for name, v in wanted.items() if name not in state and name.endswith(COUNTERS)}
    for name in {**wanted, **state}:
        got, asked = (tuple(one[name].shape) if name in one else None for one in (state, wanted))
        if got != asked:
            raise ValueError(
                f"{complaint}: {name} is {'missing' if got is None else got}, the model has "
                f"{'no such tensor' if asked is None else asked}; build the model that the weights belong to (its options)"
            )
    return state


def unprefixed(state: State, wanted: dict) -> State:
    """The state without a prefix that all its names share, where that makes them the wanted ones."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state) and not any(name.startswith(prefix) for name in wanted):
            return unprefixed({name.removeprefix(prefix): value for name, value in state.items()}, wanted)
    return state

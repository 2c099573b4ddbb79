"""A network on disk: weights as safetensors, its description as JSON beside them; nothing is unpickled."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wallcheck.models._blind import BlindNet
from wallcheck.models._vgg import assemble
from wallcheck.writing import beside, write_text

FORMAT = 1


def save(net: BlindNet, path: str | Path) -> Path:
    """Write net to path (.safetensors) and its description beside it (.json); returns path.

    Both are written under other names and renamed, so that an interruption leaves no half file.
    """
    path = _weights_path(path)
    if net.description is None:
        raise ValueError(
            "this net has no description, so it could not be built again from a file; "
            "build it with wallcheck.models.vgg or a preset, or save its state_dict yourself"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    with beside(path) as partial:
        save_file(weights, partial)
        write_text(path.with_suffix(".json"), json.dumps({"format": FORMAT, **net.description}, indent=1) + "\n")
    return path


def load(path: str | Path) -> BlindNet:
    """The network saved at path, in eval mode, on the CPU.

    Raises FileNotFoundError for a missing file and ValueError for one that is truncated, of a
    newer format, or does not fit its description.
    """
    path = _weights_path(path)
    weights, description = _read_weights(path), _read_description(path.with_suffix(".json"))
    try:
        with torch.device("meta"):
            net = assemble(description)
        net.load_state_dict(weights, assign=True)
    except (RuntimeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not fit {path.with_suffix('.json').name} ({error!r}); the two are written together and "
            f"must travel together: copy both again"
        ) from None
    net.features.to(memory_format=torch.channels_last)
    return net.requires_grad_(True).eval()


def _weights_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"a model file ends in .safetensors, got {path.name!r}; wallcheck loads no pickles")
    return path


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"no model at {path}; train one with python -m experiments.train fit")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file ({error}); copy or train it again") from None


def _read_description(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"no description at {path}; it is written beside the weights and must travel with them")
    try:
        description = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is no JSON ({error}); copy it again or rebuild it with wallcheck.models.save"
        ) from None
    if not isinstance(description, dict) or description.pop("format", None) != FORMAT:
        raise ValueError(f"{path} has another format than {FORMAT}; update wallcheck or save the model again")
    return description

"""A network on disk: one safetensors file that holds weights and description; nothing is unpickled.

The description lies as JSON beside it too, for people to read. The weights file alone is the net. Of a model that `opened`
built and `blind` walled, it names both and the weights are the model's own state dict.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wallcheck.models._blind import BlindNet, as_blind
from wallcheck.models._opening import opened_with, runs_own_code
from wallcheck.models._states import fill, fitting
from wallcheck.models._vgg import assemble
from wallcheck.models._walling import blind_again
from wallcheck.models._wrappers import plain_state
from wallcheck.writing import at_home, beside, sweep, write_text

FORMAT = 1
INSIDE = "wallcheck"  # key of the description in the weights file
LARGEST = 8192  # pixels: masks of 8192 x 8192 take 64 MiB each
WIDEST = 2**20  # channels or units of a layer
DEEPEST = 1000  # layers
GET = (
    "take one that comes with wallcheck (wallcheck.assets.net, assets:plain on a command line), put your own behind a wall with "
    "wallcheck.blind, or train one: python -m experiments.train of the source repository"
)


def save(net: BlindNet, path: str | Path) -> Path:
    """Write net to path (.safetensors) and its description beside it (.json); returns path.

    Compiled and parallel nets are saved as the nets they wrap. The file is written under another name and renamed, so an
    interruption leaves the earlier net or this one. Raises ValueError, and leaves an earlier file alone, for a net
    without a description or one that no longer is what its description builds.
    """
    path, net = _weights_path(path), as_blind(net)
    if not (net.description or {}).get("builder"):
        raise ValueError(
            "this net has no description, so it could not be built again from a file; build it with wallcheck.models.vgg or a "
            "preset, or open the model with wallcheck.models.opened('package.module:function') before blind"
        )
    state = net.kept_state() if net.description["builder"] == "blind" else plain_state(net)
    weights = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    changed = "this net was changed after it was built, so it could not be loaded again"
    if net.description["builder"] != "blind":
        _fill(_empty(net.description), weights, changed)
    elif _walled(net.description, weights, changed).graph.fingerprint != net.exported().fingerprint:
        raise ValueError(
            f"{changed}: another graph comes of its description; call blind on the changed model, and save that"
        )
    weights = {name: value.clone() for name, value in weights.items()}  # tied ones are refused by the file format
    text = json.dumps({"format": FORMAT, **net.description}, indent=1) + "\n"
    told = path.with_suffix(".json")
    with beside(path) as partial:
        sweep(path.parent)
        save_file(weights, partial, metadata={INSIDE: text})
        if told.is_file() and told.read_bytes() != text.encode():
            told.unlink()  # it tells of the earlier net: better none than a wrong one, should we be killed here
    write_text(told, text)
    return path


def load(path: str | Path, own_code: bool = False) -> BlindNet:
    """The network saved at path, in eval mode, on the CPU.

    own_code: whether a description may name a function of your own, package.module:function, which is imported and run: say so
    for files of people you trust.
    Raises FileNotFoundError for a missing file and ValueError for one that is truncated, of a newer format, does not fit
    its description, or has another description beside it than inside.
    """
    path = _weights_path(path)
    weights, inside = _read_weights(path)
    return rebuilt(weights, _description(path, inside), f"{path} does not fit its description", own_code)


def rebuilt(weights: dict[str, Tensor], description: dict, complaint: str, own_code: bool = False) -> BlindNet:
    """The net that a description names with these weights, in eval mode; raises ValueError with the complaint where they do not
    fit it."""
    if description.get("builder") == "blind":
        return _walled(description, weights, complaint, own_code).eval()
    net = _fill(_empty(description), weights, complaint)
    net.features.to(memory_format=torch.channels_last)
    return net.requires_grad_(True).eval()


def _walled(description: dict, weights: dict[str, Tensor], complaint: str, own_code: bool = True) -> BlindNet:
    """The model described, opened, with these weights, behind the wall described."""
    name = description.get("model")
    if not own_code and isinstance(name, str) and runs_own_code(name):
        raise ValueError(
            f"loading this net runs {name}; if you trust the file, wallcheck.models.load(path, own_code=True)"
        )
    with _building():
        if not runs_own_code(name):
            with torch.device("meta"):  # no memory for what does not fit
                fitting(opened_with(name, description["options"]), weights, complaint)
        return blind_again(fill(opened_with(name, description["options"]), weights, complaint), description)


def _empty(description: dict) -> BlindNet:
    """The net described, without memory for its weights; raises ValueError."""
    with _building():
        _check(description)
        with torch.device("meta"):
            return assemble(description)


@contextmanager
def _building() -> Iterator[None]:
    """Whatever a damaged description leads to is told as a ValueError."""
    try:
        yield
    except (RuntimeError, LookupError, TypeError, ValueError, OverflowError, AttributeError, MemoryError) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"the description builds no net ({type(error).__name__}: {said}); save the net again"
        ) from None


def _fill(net: BlindNet, weights: dict[str, Tensor], complaint: str) -> BlindNet:
    """net with these weights; raises ValueError with the complaint and the first that does not fit."""
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = [name for name in {**wanted, **given} if wanted.get(name) != given.get(name)]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{complaint}: {name} is {given.get(name, 'missing')}, the description asks for {wanted.get(name, 'none')}; "
            f"copy the file again, or build the net that the weights belong to and save that"
        )
    net.load_state_dict(weights, assign=True)
    return net


def _check(description: dict) -> None:
    """Raise ValueError for numbers that no net has, before anything of their size is made."""
    plan, hidden = description["plan"], description["hidden"]
    for name, steps in (("plan", plan), ("hidden", hidden)):
        if not isinstance(steps, list) or len(steps) > DEEPEST:
            raise ValueError(f"{name} is no list of at most {DEEPEST} layers")
    widths = [("plan", step) for step in plan if step != "M"] + [("hidden", width) for width in hidden]
    sides = [("image_size", description["image_size"], LARGEST), ("num_classes", description["num_classes"], WIDEST)]
    for name, value, largest in [*sides, *((name, width, WIDEST) for name, width in widths)]:
        if type(value) is not int or not 1 <= value <= largest:
            raise ValueError(f"{name} has {str(value)[:40]!r}, expected a whole number from 1 to {largest}")


def _weights_path(path: str | Path) -> Path:
    path = at_home(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"a model file ends in .safetensors, got {path.name!r}; wallcheck loads no pickles")
    return path


def _read_weights(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Weights, and the description in their file (none in files of wallcheck 0.1)."""
    if not path.is_file():
        raise FileNotFoundError(f"no model at {path}; {GET}")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get(INSIDE)  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file ({error}); copy or train it again") from None


def _description(path: Path, inside: str | None) -> dict:
    """What the weights file says; what lies beside it must not say otherwise, and is asked where the file is silent."""
    told = path.with_suffix(".json")
    if inside is None and not told.is_file():
        raise FileNotFoundError(f"no description at {told}; it is written beside the weights and must travel with them")
    found = [_parsed(inside, path)] if inside is not None else []
    found += [_parsed(_text(told), told)] if told.is_file() else []
    if found[0] != found[-1]:
        raise ValueError(
            f"{told} describes another net than {path.name} itself, with which it was not written; remove {told.name}, "
            f"or copy both again"
        )
    return found[0]


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


def _parsed(text: str, path: Path) -> dict:
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no JSON ({error}); copy it again or rebuild it with wallcheck.models.save"
        ) from None
    if not isinstance(description, dict) or description.pop("format", None) != FORMAT:
        raise ValueError(f"{path} has another format than {FORMAT}; update wallcheck or save the model again")
    return description

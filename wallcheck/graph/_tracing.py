"""The tracing itself: torch.export through the user's code for a batch of any size, and in words why it may not go through.

torch takes a batch of two for a batch of any number, and for that of one and of none too only where it is asked to be
"oblivious" of what is special about these; every question that the code asked about the number is then written down. A graph
is made of the answers for two images, so a question that has another answer for another number is refused.
"""

import inspect
import random
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as symbols
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_flatten

from wallcheck.defaults import callers
from wallcheck.graph._batches import environments, operations, questions, told
from wallcheck.graph._meanwhile import assignable, listed, measured, quiet, unannounced, unwatched_elsewhere
from wallcheck.graph._tidy import HALF

BATCH = 2  # traced with two images: a size of one would be taken for a constant
TORCH = str(Path(torch.__file__).parent)
PYTHON = Path(traceback.__file__).parent  # its own modules; what is installed lies below
OBLIVIOUS = "backed_size_oblivious"  # since torch 2.7


class NotOneGraph(ValueError):
    """The network cannot be written as one graph that holds for every input and batch."""


def no_logits(got: str) -> ValueError:
    return ValueError(
        f"the network gives {got}, expected logits (B, D); wrap it in a module that returns the logits alone"
    )


def traced(module: nn.Module, images: Tensor):
    """torch's exported program of module on images (BATCH, C, H, W). Raises NotOneGraph with the line of the user's code that
    is in the way; ValueError where the module does not run on such images."""
    with in_eval(module), untouched(module), torch.no_grad(), callers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = _program(module, images, oblivious=True)
            of_one, of_more = questions(program, 1), questions(program, BATCH)
            if of_more:
                _let_go(program)
                program = _program(module, images, oblivious=False)
                of_more = questions(program, BATCH)
            # torch's own code asks about batches of one too, and torch 2.6 about parts of one image; it does the same for them
            if of_more and not questions(program, BATCH + 1) and _same_for(program, module, images, BATCH):
                of_more = []
            alike = bool(of_more) or not of_one or _same_for(program, module, images, 1)
        except Exception as error:
            raise _refusal(module, images, error) from error
    _let_go(program)
    if of_more or not alike:
        raise NotOneGraph(
            f"{type(module).__name__} does something else for batches of some sizes (of B images it asks "
            f"{told(of_more) if of_more else 'B == 1'}); let it treat every batch alike"
        )
    return program


def refuse_unreadable(module: nn.Module, images: Tensor) -> None:
    """What running or tracing it would change (lazy layers get their shapes) or cannot look into (TorchScript), and weights that
    tracing takes and no run does."""
    lazy = next((name for name, tensor in module.named_parameters() if is_lazy(tensor)), None)
    if lazy is not None:
        raise ValueError(f"{lazy} has no shape yet, its layer is lazy; run the network once on images, then try again")
    for name, each in module.named_modules():
        if isinstance(each, torch.jit.ScriptModule):
            raise NotOneGraph(
                f"{name or type(module).__name__} is TorchScript, whose operations cannot be read; use the Python module that it "
                f"was scripted or traced from"
            )
    _check_tensors(module, images)


def _check_tensors(module: nn.Module, images: Tensor) -> None:
    """Raise ValueError for weights that tracing takes and no run does."""
    tensors = [each for each in (*module.parameters(), *module.buffers()) if each.is_floating_point()]
    if any(each.is_inference() for each in module.parameters()):
        raise ValueError(
            f"the weights of {type(module).__name__} were made inside torch.inference_mode, which seals them against gradients; build "
            f"or load the network outside of it"
        )
    if len({torch.float32 if each.dtype in HALF else each.dtype for each in tensors}) > 1:
        try:
            with in_eval(module), untouched(module), torch.no_grad(), callers():
                module(images)
        except Exception as error:
            raise _refusal(module, images, error) from None


def _program(module: nn.Module, images: Tensor, oblivious: bool):
    """len(x) is a number to torch, and fixes the batch: where that is in the way, once more with len asked as x.shape[0] is. So is to
    torch 2.6 what one image is left of, x[1:] of two: once more with three."""
    of_images = {0: torch.export.Dim.DYNAMIC}
    any_size = ((of_images,),) if _takes_any(module) else (of_images,)
    try:
        return _exported(module, images, any_size, oblivious)
    except Exception as error:
        if not _is_of_the_batch(error):
            raise
    with measured():
        try:
            return _exported(module, images, any_size, oblivious)
        except Exception as error:
            if hasattr(symbols, OBLIVIOUS) or not _is_of_the_batch(error):
                raise
        return _exported(module, images.new_zeros(BATCH + 1, *images.shape[1:]), any_size, oblivious)


def _takes_any(module: nn.Module) -> bool:
    """forward(*args), as wrappers have it."""
    first = next(iter(inspect.signature(module.forward).parameters.values()), None)
    return first is not None and first.kind is first.VAR_POSITIONAL


def _exported(module: nn.Module, images: Tensor, sizes: tuple | None, oblivious: bool):
    asks_of_one = oblivious and hasattr(symbols, OBLIVIOUS)
    asked = symbols.patch(OBLIVIOUS, True) if asks_of_one else nullcontext()
    with quiet(), assignable(), listed(), unwatched_elsewhere(), asked:
        try:
            with unannounced():
                return torch.export.export(module, (images,), dynamic_shapes=sizes, strict=False)
        except Exception as error:
            if _is_of_values(error) or _is_of_the_batch(error):
                raise
        # operations that hold others (torch.cond) are captured by torch's compiler, which reads its own name there
        return torch.export.export(module, (images,), dynamic_shapes=sizes, strict=False)


def _same_for(program, module: nn.Module, images: Tensor, count: int) -> bool:
    """Does the module compute the same of so few of the images, or not run on them at all?"""
    images = images[:count]  # another tensor: torch remembers of which it was asked that their number be free
    try:
        alone = _exported(module, images, None, oblivious=False)
    except Exception:
        return not _runs(module, images)
    same = operations(program, moves=count > 1) == operations(alone, moves=count > 1)
    _let_go(alone)
    return same


def _runs(module: nn.Module, images: Tensor) -> bool:
    with suppress(Exception):
        module(images)
        return True
    return False


def _let_go(program) -> None:
    """Let torch forget what it traced. Its shape environment and the tensors traced hold each other through C++, where Python's
    collector cannot see the circle, and caches of methods hold the environment: each export would stay (1,500 objects, 0.2 MB)."""
    for environment in environments(program):
        for held in ("tracked_fakes", "fake_tensor_cache"):
            if kept := getattr(environment, held, None):
                kept.clear()
    for method in vars(ShapeEnv).values():
        if clear := getattr(method, "cache_clear", None):
            clear()


def _refusal(module: nn.Module, images: Tensor, error: Exception) -> Exception:
    """The user's own error if the module does not run at all, else why it is no graph."""
    try:
        with torch.no_grad(), callers():
            given = module(images)
    except Exception as own:
        return ValueError(
            f"{type(module).__name__} does not run on images {tuple(images.shape)} ({type(own).__name__}: {brief(own)}); "
            f"{_what_fits(module)}"
        )
    alone = tree_flatten(given)[1].is_leaf()
    if alone and not isinstance(given, Tensor):  # a class of the user's own, of which torch sees no values
        return no_logits(f"{type(given).__name__}")
    line = next((f for f in reversed(traceback.extract_tb(error.__traceback__)) if _is_users(f.filename)), None)
    at = f" at {line.filename}:{line.lineno}: {line.line}" if line else ""
    return NotOneGraph(
        f"{type(module).__name__} is not one graph: {_reason(error)}{at} ({brief(error)}); {_advice(error)}"
    )


def _what_fits(module: nn.Module) -> str:
    try:
        inspect.signature(module.forward).bind(None)
    except TypeError:
        return "wrap it in a module whose forward takes the images alone, by position"
    return "check image size and colours"


def _reason(error: Exception) -> str:
    if _is_of_the_batch(error):
        return "what it runs depends on the size of the batch (a loop over images, or their number made a plain one by int)"
    return "what it runs depends on values" if _is_of_values(error) else "torch.export does not get through it"


def _advice(error: Exception) -> str:
    if _is_of_the_batch(error):
        return "treat all images of a batch at once, and write their number as x.shape[0]"
    if _is_of_values(error):
        return "a wall is proved for one fixed flow of operations, so take this branch out or make it arithmetic (torch.where)"
    return "write this part with torch's own operations on tensors"


def _is_of_the_batch(error: Exception) -> bool:
    return not _is_of_values(error) and any(word in str(error) for word in ("Constraints violated", "specializ"))


def _is_of_values(error: Exception) -> bool:
    return any(word in f"{type(error).__name__} {error}" for word in ("ata-dependent", "DataDependent", "Dynamic"))


def _is_users(filename: str) -> bool:
    return not filename.startswith((TORCH, str(Path(__file__).parent), "<")) and Path(filename).parent != PYTHON


def brief(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


@contextmanager
def in_eval(module: nn.Module) -> Iterator[None]:
    """Every module in eval mode inside the block, every flag as it was after it."""
    flags = [(each, each.training) for each in module.modules()]
    for each, _ in flags:
        each.training = False
    try:
        yield
    finally:
        for each, flag in flags:
            each.training = flag


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """What running it leaves behind in the process or in the module's buffers is put back."""
    state, drawn, chance = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    counted = [
        (each, name, buffer, buffer.detach().clone(), buffer.requires_grad)
        for each in module.modules()
        for name, buffer in each._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        torch.random.set_rng_state(state)
        np.random.set_state(drawn)
        random.setstate(chance)
        for each, name, buffer, before, follows in counted:
            each._buffers[name] = buffer  # another may have been put in its place
            with suppress(RuntimeError), torch.no_grad():
                if buffer.shape != before.shape:  # an observer's, which takes its shape from what it is given
                    buffer.data = before
                elif not torch.equal(buffer, before):
                    buffer.copy_(before)
                if buffer.requires_grad and not follows:
                    buffer.detach_()  # of the images that a call wrote into it

"""A network as one graph: what really runs, hooks and all, in eval mode, for any batch size.

    Graph = images (B, C, H, W) -> logits (B, D), without in-place operations, dropout and constant sub-expressions

`torch.export` traces the module without its own reading of Python (non-strict), so hooks, replaced forwards,
subclasses and parametrizations are in the graph as what they do. What cannot be one graph is refused with the line of
the user's code: flow that depends on values or on the size of the batch, random draws. The module is read, never
changed; the graph's tensors share its storage.
"""

import hashlib
import io
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from urllib.parse import quote, unquote

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import TreeSpec

from wallcheck.defaults import callers, usual
from wallcheck.graph._in_place import functional
from wallcheck.graph._nodes import copied, named, op_of, output, placeholder, where
from wallcheck.graph._precision import multiplied
from wallcheck.graph._texts import without_texts
from wallcheck.graph._tidy import HALF, tidied

BATCH = 2  # traced with two images: a size of one would be taken for a constant
TORCH = str(Path(torch.__file__).parent)


class NotOneGraph(ValueError):
    """The network cannot be written as one graph that holds for every input and batch."""


class Graph:
    """A network's function: `run` is images (B, C, H, W) -> logits (B, D), an fx.GraphModule whose get_attr nodes are
    the network's own tensors; `image_size` (H, W) and `colours` C are what it was traced with."""

    def __init__(self, run: GraphModule, colours: int, image_size: tuple[int, int]):
        self.run, self.colours, self.image_size = run, colours, tuple(image_size)

    @property
    def fx(self) -> FxGraph:
        return self.run.graph

    @property
    def images(self) -> Node:
        return placeholder(self.fx)

    @property
    def logits(self) -> Node:
        return output(self.fx).args[0]

    def fingerprint(self) -> str:
        """SHA-256 of the graph's text, names of variables aside, and of the bytes of all its tensors."""
        digest, number = hashlib.sha256(), {}
        for node in self.fx.nodes:
            number[node] = len(number)
            told = [op_of(node) or node.op, _told(node.args, number), _told(node.kwargs, number)]
            if node.op == "get_attr":
                told = ["tensor", _bytes(getattr(self.run, node.target))]
            digest.update(repr(told).encode())
        return digest.hexdigest()


@without_texts()
def exported(
    module: nn.Module, colours: int, image_size: tuple[int, int], *, prefix: str = "", logits: bool = True
) -> Graph:
    """The graph of module on images (B, colours, H, W). Raises NotOneGraph where there is none, saying which line of the
    user's code is in the way. prefix: taken off the names of modules and tensors. logits: whether the output must be logits.
    """
    tensor = next((t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()), torch.empty(0))
    with plainly(tensor.device):
        images = torch.zeros(BATCH, colours, *image_size, dtype=tensor.dtype, device=tensor.device)
        _check_tensors(module, images)
        return _graph_of(module, images, prefix, logits)


def _graph_of(module: nn.Module, images: Tensor, prefix: str, logits: bool) -> Graph:
    program = _traced(module, images)
    run = _unlifted(program, prefix)
    if not functional(run):  # a view of something changed in place: torch's own, slower way
        run = _unlifted(program.run_decompositions({}), prefix)
    _refuse_chance(run.graph)
    if logits:
        _checked_output(run.graph, program.call_spec.out_spec)
    tidied(run)
    return Graph(run, images.shape[1], tuple(images.shape[2:]))


def _traced(module: nn.Module, images: Tensor):
    with in_eval(module), _untouched(module), torch.no_grad(), callers(), _silent():
        try:
            program = torch.export.export(
                module, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False
            )
        except Exception as error:
            raise _refusal(module, images, error) from error
    _let_go(program)
    if any(bounds.upper < 2**31 for bounds in program.range_constraints.values()):
        raise NotOneGraph(
            f"{type(module).__name__} does something else for large batches; let it treat every batch alike"
        )
    return program


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
            with in_eval(module), _untouched(module), torch.no_grad(), callers():
                module(images)
        except Exception as error:
            raise _refusal(module, images, error) from None


def _let_go(program) -> None:
    """Let torch forget what it traced. Its shape environment and the tensors traced hold each other through C++, where Python's
    collector cannot see the circle, and caches of methods hold the environment: each export would stay (1,500 objects, 0.2 MB)."""
    values = [value for node in program.graph.nodes if isinstance(value := node.meta.get("val"), FakeTensor)]
    for environment in {id(one.fake_mode): one.fake_mode.shape_env for one in values}.values():
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
            module(images)
    except Exception as own:
        return ValueError(
            f"{type(module).__name__} does not run on images {tuple(images.shape)} ({type(own).__name__}: {_brief(own)}); "
            f"check image size and colours"
        )
    line = next((f for f in reversed(traceback.extract_tb(error.__traceback__)) if _is_users(f.filename)), None)
    at = f" at {line.filename}:{line.lineno}: {line.line}" if line else ""
    batch = "batch" in str(error) or "Constraints violated" in str(error) or "specializ" in str(error)
    what = "the size of the batch (len(x) is a number to torch: write x.shape[0])" if batch else "values"
    return NotOneGraph(
        f"{type(module).__name__} is not one graph: what it runs depends on {what}{at} ({_brief(error)}); a wall is proved "
        f"for one fixed flow of operations, so take this branch out or make it arithmetic (torch.where)"
    )


def _is_users(filename: str) -> bool:
    return not filename.startswith((TORCH, str(Path(__file__).parent), "<"))


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _unlifted(program, prefix: str) -> GraphModule:
    """The program's graph with its weights, buffers and constants as attributes, and images as the only input."""
    held = program.state_dict | program.constants
    names = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.target is not None}
    root, graph, known = nn.Module(), FxGraph(), {}
    if any(isinstance(each, torch.Generator) for each in held.values()):
        raise NotOneGraph("the network draws from a generator of its own; a proof needs one function: switch it off")
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            flat = _flat(names[node.name].removeprefix(prefix))
            if not hasattr(root, flat):
                root.register_buffer(flat, _full(held[names[node.name]]))
            known[node] = graph.get_attr(flat)
            known[node].meta = dict(node.meta)
        elif node.op == "output":
            values = node.args[0]
            graph.output(tuple(known[each] for each in values) if len(values) != 1 else known[values[0]])
        else:
            copied([node], graph, known)
            known[node].meta["nn_module_stack"] = _renamed(node.meta.get("nn_module_stack") or {}, prefix)
    return GraphModule(root, graph)


def _flat(key: str) -> str:
    """A tensor's name in a graph, which takes no dots: one of its own for each key (conv.1.weight is not conv_1.weight)."""
    return "t_" + quote(key, safe="").replace(".", "/")


def key_of(flat: str) -> str:
    """The key in the user's state dict of a graph's tensor t_..."""
    return unquote(flat.removeprefix("t_").replace("/", "."))


def _full(tensor: Tensor) -> Tensor:
    """The tensor itself, detached; a copy in float32 of one in half precision, and of one that inference mode has sealed."""
    tensor = tensor.detach()
    if tensor.dtype in HALF:
        return tensor.float()
    return tensor.clone() if tensor.is_inference() else tensor


def _renamed(stack: dict, prefix: str) -> dict:
    """The modules around a node by their names in the user's network."""
    outer = prefix.removesuffix(".")
    return {key: (path.removeprefix(prefix), kind) for key, (path, kind) in stack.items() if not outer or path != outer}


def _refuse_chance(graph: FxGraph) -> None:
    for node in graph.nodes:
        drawn = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        told = named(node) if drawn else {}
        # a dropout that is off, an attention without one
        quiet = False in (told.get("train"), told.get("training")) or told.get("dropout_p") == 0
        if drawn and not quiet:
            raise NotOneGraph(
                f"{where(node)} draws random numbers in eval mode; a proof needs one function: switch it off"
            )


def _checked_output(graph: FxGraph, form: TreeSpec) -> None:
    value = output(graph).args[0]
    if not isinstance(value, Node) or not form.is_leaf():
        held = f"a {form.type.__name__} of {form.num_leaves} value{'s' * (form.num_leaves != 1)}"
        raise _no_logits("no tensor" if form.is_leaf() else held)
    shape = value.meta["val"].shape
    if len(shape) != 2:
        raise ValueError(
            f"the network gives (B{''.join(f', {int(n)}' for n in shape[1:])}), expected logits (B, D); wrap it in a module that "
            f"pools or unsqueezes them: one logit a class, (B, 1) for a binary net"
        )
    if not value.meta["val"].is_floating_point():
        raise _no_logits(f"{value.meta['val'].dtype}")


def _no_logits(got: str) -> ValueError:
    return ValueError(
        f"the network gives {got}, expected logits (B, D); wrap it in a module that returns the logits alone"
    )


@contextmanager
def plainly(device: torch.device, precision: str = "exact") -> Iterator[None]:
    """Outside inference mode and autocast, in full float32 (or as `precision` says) and with torch's usual defaults, whatever the
    caller or the process has chosen."""
    kind = torch.device(device).type
    with usual(), torch.autocast("cpu" if kind == "meta" else kind, enabled=False), multiplied(precision, kind):
        yield


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
def _untouched(module: nn.Module) -> Iterator[None]:
    """What tracing leaves behind in the process or in the module's buffers is put back."""
    state = torch.random.get_rng_state()
    counted = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        torch.random.set_rng_state(state)
        with suppress(RuntimeError), torch.no_grad():
            for buffer, before in counted:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


@contextmanager
def _silent() -> Iterator[None]:
    """torch tells of a refusal by warnings, by its log and by printing the graph; we tell it in one line."""
    level = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(max(level, logging.WARNING))
        try:
            yield
        finally:
            logging.disable(level)


def _told(value: object, number: dict[Node, int]) -> object:
    """Arguments with nodes by their number, so that two tracings of one function read the same."""
    if isinstance(value, Node):
        return f"%{number[value]}"
    if isinstance(value, (list, tuple)):
        return [_told(each, number) for each in value]
    if isinstance(value, dict):
        return {key: _told(each, number) for key, each in sorted(value.items())}
    return str(value)


def _bytes(tensor: Tensor) -> str:
    array = tensor.detach().cpu().contiguous()
    raw = array.reshape(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b""
    return hashlib.sha256(f"{array.dtype}{tuple(array.shape)}".encode() + raw).hexdigest()

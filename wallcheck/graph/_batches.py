"""What a traced network asked about the number of images, and whether it computes the same of another number."""

from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import ShapeEnv, free_unbacked_symbols
from torch.fx.node import map_arg
from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy

from wallcheck.graph._nodes import is_shape, named, op_of
from wallcheck.graph._tidy import is_whole

MOST = 2**31 - 1  # images of a batch; torch asks whether they are as many as there are whole numbers
RESHAPING = (
    "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "expand", "alias", "contiguous", "clone", "flatten", "unflatten",
)  # fmt: skip
MADE_OF_SIZES = (
    "zeros", "ones", "full", "empty", "arange", "new_zeros", "new_ones", "new_full", "new_empty", "repeat", "tile",
)  # fmt: skip


def questions(program, least: int) -> list:
    """What the network asked about the number of images, as relations of sympy's, and would be answered otherwise for some
    number from `least` on than it was."""
    asked = [guard.expr for environment in environments(program) for guard in environment.guards]
    for symbol, bounds in program.range_constraints.items():
        if not free_unbacked_symbols(symbol):  # else the number of places that a mask selects
            # from two on of its own accord, where it is not asked to care for one
            asked += [symbol <= bounds.upper, *([symbol >= bounds.lower] if bounds.lower > 2 else [])]
    return [each for each in asked if not _holds(each, least)]


def _holds(question, least: int) -> bool:
    answers = bound_sympy(question, dict.fromkeys(question.free_symbols, ValueRanges(least, MOST)))
    return answers.is_singleton() and bool(answers.lower)


def told(asked: list) -> str:
    """In words that call the number of images B."""
    text = ", ".join(dict.fromkeys(str(each) for each in asked))
    for name in sorted({str(symbol) for each in asked for symbol in each.free_symbols}):
        text = text.replace(name, "B")
    return text


def operations(program, moves: bool) -> list[tuple]:
    """What is computed, in order, with the constants told. moves: whether these too, for which noise is enough of one image: there
    they decide nothing, but among several one may come to another's place."""
    computed = []
    for node in program.graph.nodes:
        shaping = op_of(node) in RESHAPING or is_shape(node) or (op_of(node) == "slice" and _keeps_images(node))
        if node.op == "call_function" and not (is_shape(node) if moves else shaping):
            sized = any(is_shape(each) for each in node.all_input_nodes) or op_of(node) in MADE_OF_SIZES + RESHAPING
            computed.append((op_of(node), "" if sized else str(map_arg((node.args, node.kwargs), lambda each: None))))
    return computed


def _keeps_images(node: Node) -> bool:
    """A slice of all that there is, or of images, which torch leaves out where it is of all that there are."""
    return is_whole(node) or named(node)["dim"] == 0


def environments(program) -> list[ShapeEnv]:
    values = [value for node in program.graph.nodes if isinstance(value := node.meta.get("val"), FakeTensor)]
    return list({id(one.fake_mode): one.fake_mode.shape_env for one in values}.values())

"""Operations without a rule of dependence, spelt out in those that torch itself makes them of: torch.multiply, torch.diff, cdist."""

from collections.abc import Set
from contextlib import suppress

import torch
from torch._ops import OpOverload

from wallcheck.graph._dependence import RULES
from wallcheck.graph._nodes import data_nodes, op_of
from wallcheck.graph._one_function import is_plain
from wallcheck.graph._tidy import ASSERTIONS, NOTHING

DEEPEST = 4  # operations made of operations without a rule
TIDIED = (*NOTHING, "copy", "empty", "_native_batch_norm_legit_no_training")  # away, whatever they are


def spelt(program):
    """The program with every such operation on what depends on the images written out, as far as torch can."""
    before: Set[OpOverload] = set()
    for _ in range(DEEPEST):
        unknown = _unknown(program)
        if not unknown - before:
            break
        known = torch.export.default_decompositions()
        table = {one: known[one] for one in unknown if one in known}
        if not table and not any(one._schema.is_mutable for one in unknown):
            break
        with suppress(Exception):  # then it stays as it is, and counts as mixing everything
            made = program.run_decompositions(table)
            program = made if is_plain(made.graph) or not is_plain(program.graph) else program
        before = unknown
    return program


def _unknown(program) -> set[OpOverload]:
    given = program.graph_signature.user_inputs
    data = data_nodes(program.graph, [node for node in program.graph.nodes if node.name in given])
    called = {node.target: op_of(node) for node in data if isinstance(node.target, OpOverload)}
    return {target for target, name in called.items() if not (_is_known(name) or _draws(target))}


def _is_known(name: str) -> bool:
    """Is there a rule for the operation, or for what it does in place, or is it left out?"""
    plain = name.removesuffix("_")
    return name in RULES or plain in RULES or plain in TIDIED or name.startswith((*ASSERTIONS, "sym_"))


def _draws(target: OpOverload) -> bool:
    return torch.Tag.nondeterministic_seeded in target.tags

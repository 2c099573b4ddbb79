"""Every rule of dependence against the operation itself: each input element perturbed, each output compared to the bit.

A case is one operation on images (2, 4, 4, 5), exported as it stands in networks. What changes must lie inside the mask, and
the mask is no larger than what changes unless the case says that its rule is only an upper bound.
"""

from functools import cache

import pytest
import torch
from torch import Tensor

from tests.graph.dependence import ATEN, BLOCKS, CASES, SHAPE, Case, Does, sdpa
from wallcheck.graph import exported, reach
from wallcheck.graph._dependence import RULES, rule_of
from wallcheck.graph._masks import everything
from wallcheck.graph._nodes import op_of

VALUES = (1e3, -1e3, 0.37)
SPECIAL = (float("nan"), float("inf"))


@cache
def graph_of(case: Case):
    graph = exported(Does(case.does), SHAPE[1], SHAPE[2:], logits=False)
    reach.shaped(graph.run, graph.colours, graph.image_size)
    return graph


def forward_masks(graph) -> Tensor:
    """(inputs, outputs): the rules, one input element at a time."""
    found = []
    for place in range(torch.Size(SHAPE).numel()):
        pixels = torch.zeros(SHAPE, dtype=torch.bool)
        pixels.view(-1)[place] = True
        mask = reach.forward(graph.run, pixels)[graph.logits]
        assert mask.shape == graph.logits.meta["val"].shape
        found.append(mask.flatten())
    return torch.stack(found)


def backward_masks(graph, outputs: list[int]) -> Tensor:
    """(inputs, outputs): the rules' transposes, one output element at a time."""
    shape, found = tuple(int(n) for n in graph.logits.meta["val"].shape), []
    for place in outputs:
        wanted = torch.zeros(shape, dtype=torch.bool)
        wanted.view(-1)[place] = True
        found.append(reach.backward(graph.run, wanted)[graph.images].flatten())
    return torch.stack(found, 1)


def changes(case: Case) -> Tensor:
    """(inputs, outputs): which outputs of the operation itself any perturbation changes, bit for bit."""
    values, changed = VALUES + (SPECIAL if case.special else ()), []
    bases = [torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    was = torch.stack([case.does(base).flatten() for base in bases for _ in values])
    for place in range(bases[0].numel()):
        now = torch.stack([case.does(_moved(base, place, value)).flatten() for base in bases for value in values])
        changed.append(((now != was) & ~(now.isnan() & was.isnan())).any(0))
    return torch.stack(changed)


def _moved(base: Tensor, place: int, value: float) -> Tensor:
    moved = base.clone()
    moved.view(-1)[place] = value
    return moved


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_rule_holds_whatever_changes_and_no_more(case):
    graph, changed = graph_of(case), changes(case)
    ahead = forward_masks(graph)
    assert not (changed & ~ahead).any(), "an output changes that the rule says cannot"
    some = list(range(0, ahead.shape[1], max(1, ahead.shape[1] // 23)))
    assert torch.equal(ahead[:, some], backward_masks(graph, some)), "the transpose is another relation"
    if case.tight:
        assert torch.equal(ahead, changed), "the rule says more than what changes"
    if case.op:
        assert case.op in {node.target._schema.name.removeprefix("aten::") for node in graph.fx.nodes if hasattr(node.target, "_schema")}  # fmt: skip


def test_a_mask_does_not_part_an_attention():
    """A weight of 0 times a value that is not finite is not 0: one key that is NaN reaches the queries that may not see it."""
    assert forward_masks(graph_of(next(case for case in CASES if case.name == "attention, allowed"))).any()
    x = torch.zeros(2, 4, 4, 5)
    x[:, :, :, 4] = torch.nan
    assert sdpa(x.transpose(2, 3), attn_mask=BLOCKS)[:, :, 0].isnan().all()


def test_an_operation_without_a_rule_reaches_everything_of_every_image():
    graph = graph_of(next(case for case in CASES if case.name == "no rule: inverse"))
    assert everything in [rule_of(node) for node in graph.fx.nodes if node.op == "call_function"]
    assert forward_masks(graph).any(0).all()


@pytest.mark.parametrize("name", ["subtract_", "diff", "linalg_cross", "index_add"])
def test_an_operation_without_a_rule_is_spelt_out_in_those_that_have_one(name):
    """Two names of one function are one graph, and images meet in neither."""
    does = {"subtract_": "other names", "linalg_cross": "cross product"}.get(name, name)
    graph = graph_of(next(case for case in CASES if case.name == f"spelt out: {does}"))
    called = [node for node in graph.fx.nodes if node.op == "call_function"]
    assert everything not in map(rule_of, called) and name not in map(op_of, called)


def test_a_librarys_own_operation_does_not_take_the_rule_of_torchs():
    library = torch.library.Library("graphtests", "DEF")
    library.define("relu(Tensor x) -> Tensor")
    library.impl("relu", lambda x: x.flip(3) + x.sum(), "CompositeExplicitAutograd")
    library.impl("relu", torch.empty_like, "Meta")
    graph = graph_of(Case("theirs", torch.ops.graphtests.relu))
    assert forward_masks(graph).all()
    library._destroy()


def test_every_rule_has_a_case():
    """Operations that share a function with a tested one by a list of names aside, no rule is untested."""
    tested = {rule_of(node) for case in CASES for node in graph_of(case).fx.nodes if node.op == "call_function"}
    assert {rule.__name__ for rule in RULES.values()} <= {rule.__name__ for rule in tested}


@pytest.mark.parametrize("name", sorted(name for name, rule in RULES.items() if rule.__name__ == "pointwise"))
def test_pointwise_names_are_pointwise(name):
    """Each name of the list, on as many equal tensors as its schema asks: element by element, nothing meets."""
    packet = getattr(ATEN, name)
    overload = next(getattr(packet, o) for o in packet.overloads() if "out" not in o and o != "complex")
    integer = name.startswith("bitwise")
    x = torch.randint(-3, 3, (6,)) if integer else torch.rand(6) * 0.5 + 0.3
    arguments = [x if "Tensor" in str(a.type) else 0.4 if str(a.type) in ("number", "float") else None
                 for a in overload._schema.arguments if not a.has_default_value() and not a.kwarg_only]  # fmt: skip
    if name in ("clamp", "clip"):
        arguments = [x, 0.4]
    whole = overload(*arguments)
    for i in range(6):
        part = overload(*[a[i : i + 1] if isinstance(a, Tensor) else a for a in arguments])
        assert part.isnan().all() or torch.allclose(whole[i : i + 1], part, rtol=1e-5, atol=1e-6)

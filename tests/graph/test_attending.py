"""Attention written out on the proved graph: the same function, the same blocks whoever wrote the attention, zeros that are exact."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import wallcheck as wc
from tests.graph import nets
from tests.nets import SIZE, VITS, photos, tiny, tiny_vit
from tests.reference.vit import Net
from wallcheck import attended, models
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.graph.following import Step, followed, plain
from wallcheck.graph.weighing import weighed
from wallcheck.models import blind


@pytest.fixture(params=VITS)
def net(request):
    return VITS[request.param]()


@pytest.fixture
def evidence(net):
    return Evidence(net, photos(3, seed=5)[0])


def sides(net) -> tuple[Tensor, Tensor]:
    """(T,) Boolean each: seen tokens, prefix tokens among them, and unseen ones."""
    seen = torch.tensor(Net(net).seen)
    return seen, ~seen


# -- the same function ------------------------------------------------------------------------------


def test_attention_written_out_is_the_network(net):
    images = photos(4, seed=1)[0]
    written = net.graph.attending
    with torch.no_grad():
        torch.testing.assert_close(written.run(images), net(images), rtol=1e-5, atol=1e-5)
    assert not [n for n in written.run.graph.nodes if "scaled_dot_product" in n.name], "is run for nothing"
    assert len(written.blocks) == 3


def test_blocks_hold_what_a_transformer_by_hand_holds(net):
    net = VITS["class token, untrained"]() if net is None else net
    images = photos(2, seed=5)[0].double()
    graph = net.graph.double()
    blocks, logits = attended.alive(graph, images)
    hand = Net(net)
    hand.w = {name: value.double() for name, value in hand.w.items()}
    names = dict(queries="q", keys="k", values="v", scores="scores", probabilities="A", outputs="o", entered="entered", between="between", left="left")  # fmt: skip
    for i, image in enumerate(images):
        theirs = hand.blocks(image)
        for ours, other in zip(blocks, theirs, strict=True):
            for name, of_theirs in names.items():
                torch.testing.assert_close(getattr(ours, name)[i], getattr(other, of_theirs), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(logits[i], hand.logits(theirs[-1].left), rtol=1e-9, atol=1e-9)


class Spelt(nn.Module):
    """`wallcheck.models._vit.Block` whose attention is softmax(q k' / sqrt d) v, written out."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.heads, self.block = block.heads, block

    def forward(self, tokens: Tensor) -> Tensor:
        block = self.block
        q, k, v = block.qkv(block.norm(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        shares = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        tokens = tokens + block.projection((shares @ v).transpose(1, 2).flatten(2))
        return tokens + block.narrower(F.gelu(block.wider(block.norm_mlp(tokens))))


def both(pooled: bool, wall: str | wc.Wall, **kind) -> list:
    """A transformer that asks torch for attention and the same with attention written out, behind the same wall."""
    made = []
    for spelt in (False, True):
        options = dict(num_classes=4, image_size=SIZE, patch=4, channels=16, depth=3, heads=2)
        model = models.opened("wallcheck:vit_small", seed=4, pooled=pooled, **options)
        if spelt:
            model.blocks = nn.Sequential(*map(Spelt, model.blocks))
        made.append(blind(model, SIZE, wall=wall, **kind))
    return made


class ByPlace(nn.Module):
    """A transformer whose head has weights of its own for every token."""

    def __init__(self):
        super().__init__()
        self.vit = opened_vit()
        self.vit.norm, self.head = nn.Identity(), nn.Linear(36 * 16, 4)

    def forward(self, images):
        tokens = self.vit.patches(images).flatten(2).transpose(1, 2)
        return self.head(self.vit.blocks(tokens + self.vit.positions).flatten(1))


def opened_vit() -> nn.Module:
    """Its head pools tokens."""
    options = dict(num_classes=4, image_size=SIZE, patch=4, channels=16, depth=3, heads=2)
    return models.opened("wallcheck:vit_small", pooled=True, **options)


@pytest.mark.parametrize("pooled", [False, True], ids=["class token", "pooled"])
@pytest.mark.parametrize("walled", [True, False], ids=["walled", "unwalled"])
def test_an_attention_that_the_network_writes_out_gives_the_same_blocks(pooled, walled):
    wall = ("bottom:1/2", dict(kind="trunk")) if walled else (wc.Wall.none((6, 6)), {})
    asked, spelt = both(pooled, wall[0], **wall[1])
    images = photos(2, seed=3)[0]
    assert not any(op == "scaled_dot_product_attention" for op in spelt.graph.head_operations)
    one, two = (Evidence(net, images, targets=[0, 1]).attention for net in (asked, spelt))
    for ours, theirs in (*zip(one.blocks, two.blocks, strict=True), *zip(one.slopes, two.slopes, strict=True)):
        for name in ours._fields:
            mine, other = (getattr(each, name) for each in (ours, theirs))
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6, msg=lambda told, name=name: f"{name}: {told}")
    assert torch.equal(one.read, two.read)


# -- what the wall makes 0, and what it does not ------------------------------------------------------


def test_seen_queries_attend_to_no_unseen_key_and_the_score_would_move_if_they_did(net, evidence):
    seen, unseen = sides(net)
    for block, slope in zip(evidence.attention.blocks, evidence.attention.slopes, strict=True):
        for one, other in ((seen, unseen), (unseen, seen)):
            assert torch.count_nonzero(block.probabilities[:, :, one][..., other]) == 0
        across = slope.probabilities[:, :, seen][..., unseen]
        assert (across != 0).flatten(1).any(1).all()
        assert torch.count_nonzero(slope.probabilities[:, :, unseen]) == 0


def test_unseen_tokens_have_no_slope(net, evidence):
    _, unseen = sides(net)
    for slope in evidence.attention.slopes:
        for tokens in (slope.entered, slope.left):
            assert torch.count_nonzero(tokens[:, unseen]) == 0
            assert torch.count_nonzero(tokens) > 0
        for heads in (slope.outputs, slope.values):
            assert torch.count_nonzero(heads[:, :, unseen]) == 0


def test_probabilities_add_up_and_read_says_which_tokens_the_head_reads(net, evidence):
    for block in evidence.attention.blocks:
        torch.testing.assert_close(block.probabilities.sum(-1), torch.ones_like(block.probabilities[..., 0]))
    assert evidence.attention.read.tolist() == pytest.approx(Net(net).read)


# -- slopes -----------------------------------------------------------------------------------------


def nudged(graph, images, number: int, at: tuple, by: float) -> Tensor:
    """Logits when one probability of one block is `by` larger."""
    node = graph.attending.blocks[number].probabilities

    def rule(step: Step, *rows: Tensor) -> Tensor:
        out = step.apply(*rows)
        if step.node is node:
            out = out.clone()
            out[(slice(None), *at)] += by
        return out

    return followed(graph.attending.run, rule, images, [])[0]


@pytest.mark.parametrize("number", [0, 2])
def test_slopes_of_attention_are_finite_differences(net, number):
    """From seen queries to unseen keys too, where the probability itself is 0 for all weights."""
    graph, images = net.graph.double(), photos(2, seed=5)[0].double()
    found = attended.taken(graph, images, lambda logits: logits[:, 1])
    seen, unseen = (each.nonzero()[:, 0] for each in sides(net))
    for at in ((0, int(seen[0]), int(seen[2])), (1, int(seen[0]), int(unseen[1]))):
        with torch.no_grad():
            up, down = (nudged(graph, images, number, at, by)[:, 1] for by in (1e-5, -1e-5))
        slope = found.slopes[number].probabilities[(slice(None), *at)]
        torch.testing.assert_close(slope, (up - down) / 2e-5, rtol=1e-5, atol=1e-9)
        assert (slope != 0).all()


def test_a_slope_that_nothing_leads_to_is_zero_not_missing():
    """A head that reads the class token hears nothing of what the last block makes of patches."""
    net = VITS["class token, untrained"]()
    last = Evidence(net, photos(2)[0]).attention.slopes[-1]
    assert torch.count_nonzero(last.left[:, 1:]) == 0 and (last.left[:, 0] != 0).any()


def test_weighed_is_softmax_over_those_that_may_be_attended_to():
    scores, apart = torch.tensor([[1.0, 2.0, 9.0]] * 3), torch.tensor([[True, True, False]] * 3)
    shares = weighed(scores, apart)
    assert shares[0].tolist() == pytest.approx([1 / (1 + math.e), math.e / (1 + math.e), 0])
    assert torch.equal(weighed(scores, None), scores.softmax(-1))


# -- portions, and other questions --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["generic_attention", "legrad", "bt_head", "attnlrp", "transformer_attribution"])
def test_portions_equal_the_whole(name, monkeypatch):
    net, images = VITS["class token, trained"](), photos(5, seed=2)[0]
    whole = METHODS[name](Evidence(net, images))
    asked, part = [], Evidence.part
    monkeypatch.setattr(Evidence, "part", lambda self, which: asked.append(which) or part(self, which))
    four = 4 * 3 * images.element_size() * attended.portion(net.graph) / 2**20
    for budget, sizes in ((1e-3, [1] * 5), (four, [4, 1])):
        asked.clear()
        pieces = METHODS[name](Evidence(net, images, budget_mb=budget))
        assert [len(range(*which.indices(5))) for which in asked] == sizes
        torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def test_portions_explain_what_the_whole_explains():
    net, images = VITS["pooled, trained"](), photos(4, seed=2)[0]

    def contrast(logits: Tensor) -> Tensor:
        return logits[:, 0] - logits[:, 1:].logsumexp(1)

    whole = METHODS["generic_attention"](Evidence(net, images).explaining(contrast))
    pieces = METHODS["generic_attention"](Evidence(net, images, budget_mb=1e-3).explaining(contrast))
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
    assert not torch.equal(whole, METHODS["generic_attention"](Evidence(net, images)))


def test_one_forward_and_one_backward_serve_all_methods(monkeypatch):
    counted, taken = [], attended.taken
    monkeypatch.setattr(attended, "taken", lambda *given: counted.append(1) or taken(*given))
    evidence = Evidence(VITS["class token, untrained"](), photos(2)[0])
    for name in ("raw_attention", "rollout", "generic_attention", "gradsam", "attcat", "tokentm", "gmar_l1"):
        METHODS[name](evidence)
    assert len(counted) == 1


def test_a_rule_that_changes_nothing_gives_the_same_values():
    graph, images = tiny_vit().graph, photos(2)[0]
    for one, two in zip(attended.alive(graph, images)[0], attended.alive(graph, images, plain)[0], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


# -- networks without -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (tiny, "gives a map of cells, not tokens; methods of attention need a cut between blocks of a transformer"),
        (lambda: blind(models.SMALL["swin"](), 96), "gives a map of cells, not tokens"),
        (
            lambda: blind(nets.drawn(nets.Transformer()), 16, wall=wc.Wall.none((4, 4))),
            "its blocks add nothing to the tokens",
        ),
        (lambda: blind(opened_vit(), SIZE, kind="head"), "its attention crosses the wall; put up a trunk wall"),
    ],
    ids=["VGG", "Swin", "no MLP", "head wall"],
)
def test_networks_whose_attention_cannot_be_taken_off_say_why(make, reason):
    net = make()
    assert reason in net.graph.inattentive
    with pytest.raises(ValueError, match="generic_attention is not defined on this net: "):
        METHODS["generic_attention"](Evidence(net, torch.zeros(1, 3, *net.image_size)))


class Otherwise(nn.Module):
    """A block that weighs values by other ways than one product; the other two ask torch."""

    def __init__(self, way):
        super().__init__()
        self.vit, self.way = opened_vit(), way
        self.vit.blocks[1].forward = self.block

    def block(self, tokens):
        block = self.vit.blocks[1]
        q, k, v = block.qkv(block.norm(tokens)).unflatten(2, (3, block.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        tokens = tokens + block.projection(self.way(q, k, v).transpose(1, 2).flatten(2))
        return tokens + block.narrower(block.wider(block.norm_mlp(tokens)).relu())

    def forward(self, images):
        return self.vit(images)


def shares(q, k):
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)


WAYS = {
    "einsum": lambda q, k, v: torch.einsum("bhqk,bhkd->bhqd", shares(q, k), v),
    "scaled": lambda q, k, v: (shares(q, k) * 0.5) @ v,
    "two products": lambda q, k, v: (lambda a: a @ v + a @ k)(shares(q, k)),
    "a bias of its own": lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, torch.eye(36)),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_block_is_passed_over(way):
    """A method of attention that left a block out would explain another network."""
    net = blind(nets.drawn(Otherwise(WAYS[way])), SIZE, wall=wc.Wall.none((6, 6)))
    if net.graph.inattentive is None:
        assert len(net.graph.attending.blocks) == 3
    else:
        assert (
            "has a mask or a bias of its own" in net.graph.inattentive
            or "not into one product" in net.graph.inattentive
        )


def test_attention_written_in_one_block_and_asked_for_in_others_is_walled_and_runs_seen_tokens():
    plain = Otherwise(lambda q, k, v: shares(q, k) @ v)
    net, images = blind(nets.drawn(plain), SIZE, kind="trunk"), photos(2)[0]
    torch.testing.assert_close(net.shortcut(images), net(images))
    assert len(net.graph.attending.blocks) == 3
    assert "kept_tokens" in {node.name for node in net.graph.quick.run.graph.nodes}


@pytest.mark.parametrize("layer", ["blocks.0", "blocks.1", None])
def test_a_pooled_head_drops_unseen_tokens_wherever_the_cut_is(layer):
    net, images = blind(opened_vit(), SIZE, layer=layer, kind="trunk"), photos(2)[0]
    read = net.graph.attending.read
    assert (read[net.wall.unseen.ravel()] == 0).all() and (read[net.wall.seen.ravel()] == 1 / 18).all()
    assert torch.equal(net(images), blind(opened_vit(), SIZE, kind="trunk")(images))


def test_a_head_that_reads_tokens_by_their_places_reads_the_seen_ones():
    net = blind(nets.drawn(ByPlace()), SIZE, kind="trunk")
    read = net.graph.attending.read
    assert (read[net.wall.unseen.ravel()] == 0).all() and (read[net.wall.seen.ravel()] == 1 / 18).all()
    evidence = Evidence(net, photos(2)[0])
    assert torch.count_nonzero(METHODS["generic_attention"](evidence)[:, evidence.unseen]) == 0


def test_torchvisions_transformer_is_taken_apart():
    net = blind(models.SMALL["vit"](num_classes=5), 96, kind="trunk")
    evidence = Evidence(net, torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)))
    assert len(evidence.attention.blocks) == 2 or len(evidence.attention.blocks) == len(net.graph.attending.blocks)
    for name in ("transformer_attribution", "attnlrp", "legrad_times_attention", "vit_reciprocam_subtracted"):
        method = METHODS[name]
        hidden = evidence.unseen if method.grid == "cells" else torch.from_numpy(evidence.regions.unseen.copy())
        maps = method(evidence)
        assert torch.count_nonzero(maps[:, hidden]) == 0 and torch.count_nonzero(maps) > 0

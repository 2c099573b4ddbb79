"""Transformers behind a wall run their seen tokens alone, and give what the whole network gives."""

import pytest
import torch

from wallcheck.evidence import Evidence
from wallcheck.models import PRESETS, SMALL, blind

VITS = ("vit_small_walls", "vit_small_pooled")


def drawn(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 96, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=VITS, scope="module")
def net(request):
    return PRESETS[request.param]()


def test_seen_tokens_alone_give_the_logits(net):
    images = drawn()
    whole = net(images).detach()
    torch.testing.assert_close(net.shortcut(images).detach(), whole)
    evidence = Evidence(net, images)
    torch.testing.assert_close(evidence.rescore_images(lambda some: images[some], 3), whole)
    torch.testing.assert_close(evidence.rescore(evidence.activations, torch.arange(3)), whole)


def test_half_of_the_tokens_are_left_out(net):
    (kept,) = [node for node in net.graph.quick.run.graph.nodes if node.name == "kept_tokens"]
    assert getattr(net.graph.quick.run, kept.target).tolist() == list(range(net.graph.form.prefix + 72))


def test_the_shortcut_is_trained_through(net):
    images, draw = drawn(2), torch.Generator().manual_seed(1)
    slopes = torch.randn(2, 10, generator=draw)
    parameters = dict(net.named_parameters())
    found = [torch.autograd.grad((run(images) * slopes).sum(), parameters.values()) for run in (net, net.shortcut)]
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


def test_what_lies_behind_the_wall_is_worth_no_weight(net):
    """Positions of unseen tokens are moved by no training behind the wall."""
    (slope,) = torch.autograd.grad(net(drawn(2)).sum(), [dict(net.named_parameters())["run.t_positions"]])
    hidden = torch.from_numpy(net.wall.unseen.ravel().nonzero()[0]) + net.graph.form.prefix
    assert torch.count_nonzero(slope[:, hidden]) == 0 and torch.count_nonzero(slope) > 0


def test_numbers_of_tokens_written_into_a_graph_leave_it_whole():
    """torchvision writes the number of tokens into its views: the whole network is run."""
    net = blind(SMALL["vit"](), 96, None, "bottom:1/2", "trunk")
    images = drawn()
    torch.testing.assert_close(net.shortcut(images), net(images))
    assert "kept_tokens" not in {node.name for node in net.graph.quick.run.graph.nodes}

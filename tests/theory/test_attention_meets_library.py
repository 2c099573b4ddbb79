"""T9 and the library share no code; here they meet on blind vision transformers whose values are drawn many times."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn

from theory import attention_walls
from wallcheck.attended import Attention
from wallcheck.evidence import Evidence
from wallcheck.models import PRESETS, BlindNet, blind
from wallcheck.models._vit import vit_small

SIZE, TAU = 32, 0.1
NETS = ("vit_small_walls", "vit_small_pooled")


def image(seed: int) -> Tensor:
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def redraw_values(weights: Tensor, biases: Tensor, draw: torch.Generator) -> None:
    """The last third of a block's joint projection (192, 64) makes its values; T9 has no biases there."""
    values = 2 * len(weights) // 3
    with torch.no_grad():
        weights[values:] = TAU * torch.randn(weights[values:].shape, generator=draw)
        biases[values:] = 0


def tokens_of(attention: Attention, block: int, norm: dict[str, Tensor]) -> Tensor:
    """n, (T, C) in double precision: the LayerNorm before a block's attention, written out."""
    entered = attention.blocks[block].entered[0].double()
    centred = entered - entered.mean(1, keepdim=True)
    scaled = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    return scaled * norm["weight"].double() + norm["bias"].double()


@pytest.fixture(scope="module", params=NETS)
def vit(request) -> BlindNet:
    """The preset with LayerNorms that have learnt something, so that token lengths differ; in double precision, because fresh
    queries attend to much the same, and the law asks in which directions they do not."""
    net, draw = PRESETS[request.param](image_size=SIZE), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "norm" in name:
                parameter += 0.3 * torch.randn(parameter.shape, generator=draw)
    return net.double()


def unseen_tokens(ev: Evidence, count: int) -> Tensor:
    """(T,) Boolean; prefix tokens are the seen side's."""
    cells = ev.unseen.flatten()
    return torch.cat([torch.zeros(count - len(cells), dtype=torch.bool), cells])


def test_products_with_attention_and_token_gradients_are_exactly_0_as_T9_says(vit):
    ev = Evidence(vit, image(1), targets=[0])
    for block, slope in zip(ev.attention.blocks, ev.attention.slopes, strict=True):
        unseen = unseen_tokens(ev, block.entered.shape[1])
        across = slope.probabilities[:, :, ~unseen][..., unseen]
        assert torch.count_nonzero(across) > 0 or block is ev.attention.blocks[-1]
        assert torch.count_nonzero(across * block.probabilities[:, :, ~unseen][..., unseen]) == 0
        assert torch.count_nonzero(slope.values[:, :, unseen]) == 0
        assert torch.count_nonzero(slope.entered[:, unseen]) == 0
    read = ev.attention.read > 0
    assert torch.count_nonzero(slope.probabilities[:, :, read][..., unseen]) > 0


@pytest.mark.parametrize("block", [0, 2])
def test_slopes_of_the_library_follow_the_law_of_T9_given_the_outputs(vit, block):
    """One unseen token for each of four independent heads, 150 draws; the first block is read by every seen token."""
    named, draw = dict(vit.named_parameters()), torch.Generator().manual_seed(block)
    at = f"run.t_blocks/{block}/"
    norm = {part: named[f"{at}norm/{part}"].detach() for part in ("weight", "bias")}
    scaled = []
    for number in range(150):
        redraw_values(named[f"{at}qkv/weight"].data, named[f"{at}qkv/bias"].data, draw)
        ev = Evidence(vit, image(2), targets=[3])
        unseen = unseen_tokens(ev, ev.attention.read.numel())
        queries = (ev.attention.read > 0) if block == 2 else ~unseen
        scaled += standardised(ev.attention, block, norm, queries.nonzero()[:, 0], unseen.nonzero()[:, 0], number)
    z = np.array(scaled)
    assert abs(z.mean()) < 4 * z.std() / len(z) ** 0.5
    assert abs((z**2).mean() - 1) < 4 * (z**2).std() / len(z) ** 0.5
    assert kstest(z, "norm").pvalue > 0.001


def standardised(
    attention: Attention, block: int, norm: dict, queries: Tensor, tokens: Tensor, number: int
) -> list[float]:
    """G of the library, centred and scaled by T9 (b), for each head at one query and one token."""
    own, slopes = attention.blocks[block], attention.slopes[block]
    made, found = tokens_of(attention, block, norm), []
    query, token = queries[number % len(queries)], tokens[number % len(tokens)]
    for head in range(4):
        averages = own.probabilities[0, head, queries].double() @ made
        weights, rest = attention_walls.parted(averages, made[token][:, None])
        slope, outputs = slopes.outputs[0, head, query].double(), own.outputs[0, head, queries].double()
        mean = attention_walls.conditional_mean(weights[:, 0], outputs @ slope)
        variance = attention_walls.conditional_variance(TAU, slope.square().sum(), rest)
        found.append(float((slopes.probabilities[0, head, query, token].double() - mean) / variance.sqrt()))
    return found


@pytest.mark.parametrize("pooled", [False, True])
def test_mean_rectified_slopes_of_the_library_are_those_of_T9_at_every_token(pooled):
    """A last block read by a linear head: all of its values, projection and head are drawn. Seen and unseen tokens alike."""
    model = vit_small(image_size=SIZE, pooled=pooled, channels=24, depth=2)
    model.norm, draw = nn.Identity(), torch.Generator().manual_seed(5)
    own, found, share = model.blocks[1], [], 1 / 8 if pooled else 1.0
    with torch.no_grad():
        own.norm.weight += 0.4 * torch.randn(24, generator=draw)
        for parameter in (own.narrower.weight, own.narrower.bias):  # the MLP adds nothing
            parameter.zero_()
    net = blind(model, SIZE, kind="trunk")
    for _ in range(600):
        redraw_values(own.qkv.weight.data, own.qkv.bias.data, draw)
        for layer, tau in ((own.projection, 0.3), (model.head, 0.7)):
            layer.weight.data.copy_(tau * torch.randn(layer.weight.shape, generator=draw))
        attention = Evidence(net, image(3), targets=[1]).attention
        read = int((attention.read > 0).nonzero()[-1])
        found.append(attention.slopes[1].probabilities[0, :, read].double().relu())
    norm = {"weight": own.norm.weight.detach(), "bias": own.norm.bias.detach()}
    lengths = tokens_of(attention, 1, norm).norm(dim=1)
    expected = attention_walls.expected_positive(lengths.numpy(), share, TAU, 0.3, 6, 24, (0.7,), ())
    means = torch.stack(found).mean(1).numpy()  # over heads: their slopes hang together by the head's weights
    z = (means.mean(0) - expected) / (means.std(0, ddof=1) / len(means) ** 0.5)
    assert np.abs(z).max() < 4
    assert np.ptp(lengths.numpy()) > 0.05 * lengths.mean()


def test_a_fresh_layernorm_makes_legrad_leak_the_share_of_tokens():
    net = PRESETS["vit_small_walls"](image_size=SIZE)
    ev = Evidence(net, image(4), targets=[1])
    norm = {"weight": torch.ones(64), "bias": torch.zeros(64)}
    lengths = tokens_of(ev.attention, 2, norm).norm(dim=1)[1:]
    assert lengths.numpy() == pytest.approx(64**0.5, rel=1e-3)
    assert attention_walls.leak_share(lengths, ev.unseen.flatten()) == pytest.approx(0.5, abs=1e-3)

"""Claims that hold for every method: twin, verdict, batches, channel order, nothing left behind."""

import copy
from functools import cache

import pytest
import torch

from tests.nets import photos, pooled_sibling, tiny, trained_tiny
from tests.reference import TWINS
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence

NETS = {"untrained": tiny, "trained": trained_tiny}
RANDOM = {"random"}  # drawn on the whole: a twin would have to repeat the draw

# Methods whose definition depends on the order of the channels, and why.
ORDERED: dict[str, str] = {
    "groupcam": "its groups are runs of consecutive channels",
    "groupcam_denoised": "its groups are runs of consecutive channels",
    "iba": "its draws are indexed by channel",
    "limecam": "its draws are indexed by channel",
    "shapcam": "its draws are indexed by channel",
}

# Methods that a dead channel's gradient moves, and why.
GRADIENT_ALONE: dict[str, str] = {
    "adasise": "channels are chosen by their gradient",
    "fdcam": "weights are stretched over all channels, dead ones too",
    "gscorecam": "channels are chosen by their gradient",
    "gscorecam_code": "channels are chosen by their gradient",
    "normgrad": "each cell is weighed by the norm of its whole gradient",
}


@pytest.fixture(params=NETS, scope="module")
def net(request):
    return NETS[request.param]()


@pytest.fixture(scope="module")
def evidence(net):
    return Evidence(net, photos(3, seed=5)[0])


def suited(name, net):
    """net, or its sibling with a pooled head for a method that is not defined on net's head."""
    return pooled_sibling(net) if METHODS[name].refuses(net) else net


def suited_evidence(name, evidence):
    net = suited(name, evidence.net)
    return evidence if net is evidence.net else Evidence(net, evidence.images)


def names(*families):
    return [name for name, method in METHODS.items() if not families or method.family in families]


def test_every_method_has_a_twin():
    assert set(METHODS) - RANDOM == set(TWINS)


@pytest.mark.parametrize("name", sorted(TWINS))
def test_method_is_its_twin_in_float64(name, net):
    net, (images, _) = doubled(suited(name, net)), photos(2, seed=7)
    evidence = Evidence(net, images.double())
    for map_, image, target in zip(METHODS[name](evidence), evidence.images, evidence.targets.tolist(), strict=True):
        slow = TWINS[name](net, image, target, seed=0)
        torch.testing.assert_close(map_, slow, rtol=1e-7, atol=1e-9 * float(slow.abs().max().clamp(min=1e-12)))


@pytest.mark.parametrize("name", sorted(TWINS))
def test_method_is_its_twin_in_float32(name, evidence):
    evidence = suited_evidence(name, evidence)
    net = doubled(evidence.net)
    for map_, image, target in zip(METHODS[name](evidence), evidence.images, evidence.targets.tolist(), strict=True):
        slow = TWINS[name](net, image.double(), target, seed=0)
        torch.testing.assert_close(map_.double(), slow, rtol=1e-3, atol=2e-4 * float(slow.abs().max().clamp(min=1e-12)))


@pytest.mark.parametrize("name", METHODS)
def test_verdict(name, evidence):
    evidence = suited_evidence(name, evidence)
    method = METHODS[name]
    maps = method(evidence)
    hidden = evidence.unseen if method.grid == "cells" else torch.from_numpy(evidence.regions.unseen.copy())
    unseen = maps[:, hidden]
    if method.verdict in ("zero", "zero_but_bleed"):  # the layers of these nets look past their cells
        assert torch.count_nonzero(unseen) == 0
        assert maps.flatten(1).any(1).all()
    elif method.verdict == "zero_but_offset":
        assert torch.equal(unseen, unseen[:, :1].expand_as(unseen))
        assert (maps.amax((1, 2)) > maps.amin((1, 2))).all()
    elif method.verdict == "zero_but_offset_and_rim":
        beside = torch.nn.functional.max_pool2d(1.0 * ~hidden[None], 3, stride=1, padding=1)[0] > 0
        assert (far := maps[:, ~beside]).numel() > 0
        assert torch.equal(far, far[:, :1].expand_as(far))
    elif method.verdict == "leaks":
        living = (
            evidence.activations.amax(1)[:, hidden] > 0
            if method.grid == "cells"
            else torch.ones_like(unseen, dtype=bool)
        )
        assert (unseen[living] > 0).all()
    else:
        assert (unseen > 0).any()


@pytest.mark.parametrize("name", METHODS)
def test_batch_is_its_images_one_by_one(name, evidence):
    evidence = suited_evidence(name, evidence)
    whole = METHODS[name](evidence)
    for i, image in enumerate(evidence.images):
        alone = METHODS[name](Evidence(evidence.net, image[None], targets=evidence.targets[i : i + 1]))[0]
        torch.testing.assert_close(whole[i], alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ORDERED])
def test_order_of_channels_does_not_matter(name, evidence):
    evidence = suited_evidence(name, evidence)
    other = Evidence(with_channels_permuted(evidence.net), evidence.images, evidence.targets)
    before, after = METHODS[name](evidence), METHODS[name](other)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4 * float(before.abs().max()))


@cache
def doubled(net):
    """In float64. Nets made of others are kept: each takes its graph with it, which costs more than most methods."""
    return copy.deepcopy(net).double()


@cache
def with_channels_permuted(net):
    """The same function with the target layer's channels in another order."""
    net = copy.deepcopy(net)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    conv = [m for m in net.features if isinstance(m, torch.nn.Conv2d)][-1]
    conv.weight.data, conv.bias.data = conv.weight.data[order], conv.bias.data[order]
    linear = next(m for m in net.head if isinstance(m, torch.nn.Linear))
    linear.weight.data = linear.weight.data.view(linear.out_features, 8, -1)[:, order].flatten(1)
    return net


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_left_behind(name):
    net, state = suited(name, in_training()).train(), torch.random.get_rng_state()
    before = copy.deepcopy(net.state_dict())
    METHODS[name](Evidence(net, photos(1)[0]))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(m.training and not m._forward_hooks and not m._backward_hooks for m in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("name", [name for name in METHODS if name not in GRADIENT_ALONE])
def test_what_the_head_would_make_of_a_dead_channel_does_not_matter(name, net):
    images = photos(2, seed=5)[0]
    before, after = (METHODS[name](Evidence(with_dead_channel(suited(name, net), added), images)) for added in (0, 5))
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6 * float(before.abs().max()))


@cache
def with_dead_channel(net, added):
    """Channel 3 of the target layer is 0 everywhere; what the head would make of it is changed by `added`."""
    net = copy.deepcopy(net)
    conv = [m for m in net.features if isinstance(m, torch.nn.Conv2d)][-1]
    conv.weight.data[3], conv.bias.data[3] = 0, -1
    linear = next(m for m in net.head if isinstance(m, torch.nn.Linear))
    linear.weight.data.view(linear.out_features, 8, -1)[:, 3] += added
    return net


@cache
def in_training():
    return tiny()


@cache
def dead(pooled):
    """All channels dead: A = 0."""
    net = pooled_sibling(tiny()) if pooled else tiny()
    conv = [m for m in net.features if isinstance(m, torch.nn.Conv2d)][-1]
    conv.weight.data.zero_()
    conv.bias.data.fill_(-1.0)
    return net


@pytest.mark.parametrize("name", METHODS)
def test_dead_net_gives_a_finite_map(name):
    """All channels dead: A = 0, so every map is made of zeros and none may divide by them."""
    net = dead(pooled=METHODS[name].refuses(dead(pooled=False)) is not None)
    maps = METHODS[name](Evidence(net, photos(2)[0]))
    assert maps.isfinite().all()
    if METHODS[name].verdict.startswith("zero_but_offset"):
        assert torch.equal(maps, maps[:, :1, :1].expand_as(maps))
    elif METHODS[name].family != "control" and METHODS[name].grid == "cells":
        assert torch.count_nonzero(maps) == 0


@pytest.mark.parametrize("name", METHODS)
def test_constant_images_and_negative_score_are_finite(name):
    net = suited(name, trained_tiny())
    coloured = torch.tensor([0.7, -0.3, 1.2]).view(1, 3, 1, 1).expand(-1, -1, 24, 24)
    images = torch.cat([torch.zeros(1, 3, 24, 24), photos(1)[0], coloured])
    evidence = Evidence(net, images, targets=Evidence(net, images).logits.argmin(1))
    assert evidence.score[1] < 0
    assert METHODS[name](evidence).isfinite().all()

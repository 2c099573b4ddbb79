"""Claims that hold for every method: twin, batches, channel order, nothing left behind. Its verdict: test_verdicts."""

import copy
from functools import cache

import pytest
import torch

from tests.cams.permuted import with_channels_permuted, with_dead_channel, without_activations
from tests.nets import VITS, photos, pooled_sibling, tiny, tiny_vit, trained_tiny
from tests.reference import TWINS
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence

NETS = {"untrained": cache(tiny), "trained": trained_tiny} | {f"vit, {key}": build for key, build in VITS.items()}
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

# Methods whose float32 map is known to fewer digits, and why: share of the peak.
ROUNDED: dict[str, float] = {
    "vit_reciprocam_subtracted": 2e-3,  # differences of probabilities a thousand times as large
}


# Methods whose denominators pass through 0 and magnify float32's rounding, which differs with processor, threads and size of batch:
# what batches do not change is asked of them in float64.
THROUGH_ZERO = ("gradcampp_cubes", "smooth_gradcampp", "smooth_gradcampp_last")


def attends(name):
    return METHODS[name].body.__module__.startswith("wallcheck.cams.attention")


def on_nets(names, scope="function"):
    """Each method on trained and untrained nets; those of attention on transformers with a class token and without. scope:
    "module" for tests of the same cases that share what one case costs; they are run one after the other, case by case."""
    cases = [(name, key) for name in names for key in NETS if key.startswith("vit") == attends(name)]
    return pytest.mark.parametrize(("name", "key"), cases, scope=scope)


def suited(name, net):
    """net, or its sibling with a pooled head for a method that is not defined on net's head."""
    return pooled_sibling(net) if METHODS[name].refuses(net) else net


@cache
def evidence_on(net):
    return Evidence(net, photos(3, seed=5)[0])


def evidence_of(name, key):
    return evidence_on(suited(name, NETS[key]()))


def test_every_method_has_a_twin():
    assert set(METHODS) - RANDOM == set(TWINS)


@cache
def beside_twin(net):
    """Evidence of the images that methods are held to their twins on."""
    return Evidence(net, photos(2, seed=7)[0])


@cache
def slow_map(name, net, number, target):
    """The twin's map of one of these images: what the method in float64 and in float32 is held to."""
    return TWINS[name](doubled(net), beside_twin(net).images[number].double(), target, seed=0)


def are_its_twins(maps, name, net, targets, rtol, share):
    """share: of the peak, by which small values may be off."""
    for number, (map_, target) in enumerate(zip(maps, targets.tolist(), strict=True)):
        slow = slow_map(name, net, number, target)
        torch.testing.assert_close(map_, slow, rtol=rtol, atol=share * float(slow.abs().max().clamp(min=1e-12)))


@on_nets(sorted(TWINS), scope="module")
def test_method_is_its_twin_in_float64(name, key):
    net = suited(name, NETS[key]())
    evidence = Evidence(doubled(net), beside_twin(net).images.double())
    are_its_twins(METHODS[name](evidence), name, net, evidence.targets, rtol=1e-7, share=1e-9)


@on_nets(sorted(TWINS), scope="module")
def test_method_is_its_twin_in_float32(name, key):
    net = suited(name, NETS[key]())
    evidence, share = beside_twin(net), ROUNDED.get(name, 2e-4)
    are_its_twins(METHODS[name](evidence).double(), name, net, evidence.targets, rtol=1e-3, share=share)


@on_nets(METHODS)
def test_batch_is_its_images_one_by_one(name, key):
    evidence, share = evidence_of(name, key), ROUNDED.get(name, 1e-5)
    if name in THROUGH_ZERO:
        evidence, share = Evidence(doubled(evidence.net), evidence.images.double(), evidence.targets), 1e-9
    whole = METHODS[name](evidence)
    for i, image in enumerate(evidence.images):
        alone = METHODS[name](Evidence(evidence.net, image[None], targets=evidence.targets[i : i + 1]))[0]
        torch.testing.assert_close(whole[i], alone, rtol=1e-4, atol=share * float(alone.abs().max()))


@on_nets([name for name in METHODS if name not in ORDERED])
def test_order_of_channels_does_not_matter(name, key):
    """Of a transformer: of heads, and of channels inside them."""
    evidence = evidence_of(name, key)
    other = Evidence(with_channels_permuted(evidence.net), evidence.images, evidence.targets)
    before, after = METHODS[name](evidence), METHODS[name](other)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=ROUNDED.get(name, 1e-4) * float(before.abs().max()))


@cache
def doubled(net):
    """In float64. Nets made of others are kept: each takes its graph with it, which costs more than most methods."""
    return copy.deepcopy(net).double()


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_left_behind(name):
    net, state = in_training(name), torch.random.get_rng_state()
    before = copy.deepcopy(net.state_dict())
    METHODS[name](Evidence(net, photos(1)[0]))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(m.training and not m._forward_hooks and not m._backward_hooks for m in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.equal(state, torch.random.get_rng_state())


@on_nets([name for name in METHODS if name not in GRADIENT_ALONE])
def test_what_the_head_would_make_of_a_dead_channel_does_not_matter(name, key):
    """Of a transformer: of a channel of the last block's values."""
    images, net = photos(2, seed=5)[0], suited(name, NETS[key]())
    before, after = (METHODS[name](Evidence(with_dead_channel(net, added), images)) for added in (0, 5))
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6 * float(before.abs().max()))


@cache
def _in_training(kind):
    return (tiny_vit() if kind == "attention" else tiny(hidden=(), pooled=True) if kind == "pooled" else tiny()).train()


def in_training(name):
    """A net of its own for methods of each kind."""
    if attends(name):
        return _in_training("attention")
    return _in_training("pooled" if METHODS[name].refuses(_in_training("")) else "")


@pytest.mark.parametrize("name", [name for name in METHODS if not attends(name)])
def test_dead_net_gives_a_finite_map(name):
    """All channels dead: A = 0, so every map is made of zeros and none may divide by them."""
    net = without_activations(suited(name, tiny_once()))
    maps = METHODS[name](Evidence(net, photos(2)[0]))
    assert maps.isfinite().all()
    if METHODS[name].verdict.startswith("zero_but_offset"):
        assert torch.equal(maps, maps[:, :1, :1].expand_as(maps))
    elif METHODS[name].family != "control" and METHODS[name].grid == "cells":
        assert torch.count_nonzero(maps) == 0


@on_nets([name for name in METHODS if attends(name)])
def test_transformer_of_zeros_gives_a_finite_map(name, key):
    """Tokens and positions are 0: every patch is every other, none has a length, and a class token none either."""
    evidence = Evidence(without_activations(NETS[key]()), photos(2)[0])
    maps = METHODS[name](evidence)
    assert maps.isfinite().all()
    if METHODS[name].verdict == "zero" and METHODS[name].grid == "cells":
        assert torch.count_nonzero(maps[:, evidence.unseen]) == 0


tiny_once = NETS["untrained"]


@on_nets(METHODS)
def test_constant_images_and_negative_score_are_finite(name, key):
    net = suited(name, NETS[key]())
    coloured = torch.tensor([0.7, -0.3, 1.2]).view(1, 3, 1, 1).expand(-1, -1, 24, 24)
    images = torch.cat([torch.zeros(1, 3, 24, 24), photos(1)[0], coloured])
    evidence = Evidence(net, images, targets=Evidence(net, images).logits.argmin(1))
    assert evidence.score[1] < 0
    assert METHODS[name](evidence).isfinite().all()

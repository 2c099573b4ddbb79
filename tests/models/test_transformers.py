"""The presets of transformers: proved, trained as graphs, kept in files, drawn anew."""

import copy

import pytest
import torch
from torch import nn

from tests.nets import photos, tiny_vit
from wallcheck import models
from wallcheck.certificate import certify
from wallcheck.evidence import Evidence
from wallcheck.models import PRESETS, blind

NAMES = ("vit_small_walls", "vit_small_pooled")
SMALLER = dict(image_size=48, num_classes=3)


@pytest.fixture(params=NAMES)
def preset(request):
    return PRESETS[request.param]


def weights(net) -> dict[str, torch.Tensor]:
    return {name: each.detach() for name, each in net.run.named_parameters()}


def same(one, two) -> bool:
    one, two = weights(one), weights(two)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_preset_has_its_shape_and_hides_the_lower_half_to_the_pixel(preset):
    net = preset()
    assert net.image_size == (96, 96) and net.wall.seen.shape == (12, 12) and net.wall.seen.sum() == 72
    assert net.regions.unseen[48:].all() and not net.regions.unseen[:48].any() and not net.regions.halo.any()
    with torch.no_grad():
        assert net(torch.zeros(2, 3, 96, 96)).shape == (2, 10)
    certify(net).raise_if_broken()


def test_not_even_nan_comes_through_the_wall(preset):
    net, images = preset(**SMALLER), torch.randn(2, 3, 48, 48)
    for value in (
        float("nan"),
        float("inf"),
        3e38,
    ):  # the largest floats overflow on the way: what a weight of 0 would let through
        other = images.clone()
        other[:, :, 24:] = value
        with torch.no_grad():
            assert torch.equal(net(images), net(other)) and torch.equal(net.shortcut(images), net.shortcut(other))


def test_a_net_is_trained_saved_and_explained_whatever_was_done_to_it(preset, tmp_path):
    """Copied, moved to another precision and back, handed other tensors: shortcut, graph and file have the weights it has."""
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))

    def given_others(net):
        changed = {key: 1.5 * v if v.is_floating_point() else v for key, v in net.state_dict().items()}
        net.load_state_dict(changed, assign=True)
        return net

    for change in (copy.deepcopy, lambda net: net.double().float(), given_others):
        net = preset(**SMALLER)
        net.shortcut(images)
        net = change(net)
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        net.shortcut(images).square().sum().backward()
        optimiser.step()
        now = net(images).detach()
        torch.testing.assert_close(net.shortcut(images).detach(), now)
        torch.testing.assert_close(Evidence(net, images).logits, now)
        loaded = models.load(models.save(net, tmp_path / "net.safetensors"))
        assert torch.equal(loaded(images), now)
        assert [p.shape for p in loaded.parameters()] == [p.shape for p in net.parameters()]


def test_a_shortcut_first_asked_for_in_inference_mode_can_be_trained(preset):
    net, images = preset(**SMALLER), torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        net.shortcut(images)
    net.shortcut(images).sum().backward()
    assert next(net.parameters()).grad is not None


def test_nets_that_cannot_be_trained_as_they_are_say_so():
    chain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="nobody opened its model, so this net cannot be trained as it is"):
        blind(chain, 16).trainable()
    with pytest.raises(ValueError, match="two sides apart"):
        blind(models.opened("small:resnet", num_classes=3), 96, kind="trunk").trainable()
    net = blind(models.opened("small:resnet", num_classes=3), 96).trainable()
    names = {name for name, _ in net.run.named_parameters()}
    assert names and not any("running" in name for name in names)  # statistics are no weights


def test_the_mask_stands_in_every_attention(preset):
    net = preset(**SMALLER)
    for block in net.graph.attending.blocks:
        (apart,) = [node for node in block.probabilities.all_input_nodes if node.op == "get_attr"]
        mask = getattr(net.graph.attending.run, apart.target)
        prefix = net.graph.form.prefix
        seen = torch.tensor([True] * prefix + net.wall.seen.flatten().tolist())
        assert torch.equal(mask, seen[:, None] == seen)


def test_its_weights_are_parameters_and_its_mask_is_not(preset):
    net = preset(**SMALLER)
    assert all(each.requires_grad for each in net.parameters())
    assert {name.removeprefix("t_").split("/")[0] for name in weights(net)} >= {
        "patches",
        "positions",
        "blocks",
        "norm",
        "head",
    }
    sides = [each for name, each in net.run.named_buffers() if name.startswith("side")]
    assert len(sides) == 3 * len(net.graph.attending.blocks)  # the tokens of each side, and where they go back to
    assert not any(each.is_floating_point() for _, each in net.run.named_buffers())


def test_steps_leave_the_wall_shut():
    net, (images, labels) = tiny_vit().train(), photos(32)
    before = certify(net).raise_if_broken()
    steps = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.1)
    for _ in range(3):
        steps.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        steps.step()
    after = certify(net.eval()).raise_if_broken()
    assert after.fingerprint != before.fingerprint
    assert (after.unseen_pixels == before.unseen_pixels).all()


def test_twins_differ_in_nothing_but_the_wall(preset):
    walled, unwalled = (preset(walled=walled, seed=5, **SMALLER) for walled in (True, False))
    assert same(walled, unwalled)
    assert unwalled.wall.is_open and not walled.wall.is_open
    differing = {key for key in walled.description if walled.description[key] != unwalled.description[key]}
    assert differing <= {"wall", "kind", "layer"}
    assert not [each for each in unwalled.run.buffers() if each.dtype == torch.bool]


def test_files_keep_a_trained_transformer(tmp_path):
    net, (images, labels) = tiny_vit().train(), photos(16)
    loss = torch.nn.functional.cross_entropy(net(images), labels)
    loss.backward()
    torch.optim.SGD(net.parameters(), 0.1).step()
    loaded = models.load(models.save(net.eval(), tmp_path / "net.safetensors"))
    with torch.no_grad():
        assert torch.equal(loaded(images), net(images))
    assert loaded.wall == net.wall and loaded.description == net.description
    assert loaded.graph.fingerprint == net.exported().fingerprint


def test_presets_repeat_by_seed_alone(preset):
    torch.manual_seed(1)
    one, state = preset(seed=7, **SMALLER), torch.get_rng_state()
    torch.manual_seed(2)
    assert same(one, preset(seed=7, **SMALLER))
    assert not same(one, preset(seed=8, **SMALLER))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("walled", [True, False])
def test_untrained_is_the_same_net_with_other_weights(preset, walled):
    net = preset(seed=1, walled=walled, **SMALLER)
    anew = models.untrained(net, seed=3)
    assert same(anew, preset(seed=3, walled=walled, **SMALLER)) and not same(anew, net)
    assert anew.wall == net.wall and anew.description == net.description and not anew.training
    assert same(net, preset(seed=1, walled=walled, **SMALLER))  # the net itself is left alone


def test_untrained_of_a_model_without_a_seed_of_its_own():
    net = models.blind(models.opened("torchvision:squeezenet1_1", num_classes=3), 64)
    one, two, other = (models.untrained(net, seed=seed) for seed in (3, 3, 4))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(one(images), two(images))
        assert not torch.equal(one(images), other(images)) and not torch.equal(one(images), net(images))
    assert not [*one.parameters()] and one.wall == net.wall

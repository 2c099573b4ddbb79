"""The presets of transformers: proved, trained as graphs, kept in files, drawn anew."""

import pytest
import torch

from tests.nets import photos, tiny_vit
from wallcheck import models
from wallcheck.certificate import certify
from wallcheck.models import PRESETS

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
    other = images.clone()
    other[:, :, 24:] = 1e3 * torch.randn_like(other[:, :, 24:])
    with torch.no_grad():
        assert torch.equal(net(images), net(other))


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
    masks = [each for name, each in net.run.named_buffers() if each.dtype == torch.bool]
    assert len(masks) == len(net.graph.attending.blocks)


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

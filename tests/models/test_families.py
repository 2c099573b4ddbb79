"""Small members of other families: small, drawn from the seed alone, and behind walls of both kinds where they can be."""

import pytest
import torch

import wallcheck as wc
from wallcheck import models

FAMILIES = ("convnext", "densenet", "efficientnet", "mobilenet_v2", "mobilenet_v3", "regnet", "resnet", "resnext", "shufflenet", "squeezenet", "swin", "vgg_bn", "vit")  # fmt: skip


def test_these_are_the_families():
    assert tuple(sorted(models.SMALL)) == FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_a_member_is_small_and_drawn_from_its_seed_alone(family):
    one, two, other = (models.SMALL[family](num_classes=7, seed=seed) for seed in (1, 1, 2))
    assert 30_000 < sum(each.numel() for each in one.parameters()) < 400_000
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        logits = one(images)
    assert logits.shape == (2, 7) and not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("family", ["regnet", "vgg_bn", "vit"])
def test_a_trunk_wall_hides_half_of_the_image(family):
    net = wc.blind(models.SMALL[family](), 96, kind="trunk")
    assert net.regions.unseen.sum() == 96 * 48
    assert net.regions.unseen[48:].all()

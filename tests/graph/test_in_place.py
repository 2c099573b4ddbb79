"""In-place operations are taken out of the graph: the same graph, to its fingerprint, as without them."""

import pandas as pd
import pytest
import torch
from torch import nn

from tests.leaky import behind_bottom
from tests.nets import CLASSES, photos
from wallcheck.auditing import audit
from wallcheck.certificate import certify, fingerprint
from wallcheck.evidence import Evidence

HEARD = 8 * 5 * 12


def headed(*modules):
    """`behind_bottom` whose target layer is the bare convolution, so that the head is handed a view of it."""
    net = behind_bottom(last=nn.Identity())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net.head = nn.Sequential(*modules, nn.Flatten(), nn.Linear(HEARD, CLASSES)).eval()
    return net


def test_a_head_that_begins_in_place_is_the_same_graph_as_one_that_does_not():
    plain, in_place = (headed(nn.ReLU(inplace=inplace)) for inplace in (False, True))
    assert fingerprint(plain) == fingerprint(in_place)
    assert certify(in_place).holds


@pytest.mark.parametrize("twice", [nn.ReLU, nn.Hardswish, nn.ELU])
def test_one_operation_in_place_after_another(twice):
    plain, in_place = (headed(nn.LeakyReLU(0.1, inplace=inplace), twice(inplace=inplace)) for inplace in (False, True))
    assert fingerprint(plain) == fingerprint(in_place)


def test_activations_are_the_layers_own_whatever_was_asked_before():
    """pytorch-grad-cam #147, torch-cam #80: the head's ReLU must not write into what a CAM looks at."""
    evidence = Evidence(headed(nn.ReLU(inplace=True)), photos(2)[0])
    before = evidence.activations.clone()
    assert evidence.logits.isfinite().all() and evidence.gradient.any() and evidence.rescore(before).any()
    assert torch.equal(evidence.activations, before) and (before < 0).any()
    alone, beside = (
        audit(evidence.net, evidence.images, chosen)
        .query("method == 'lafam'")
        .drop(columns="method")
        .reset_index(drop=True)
        for chosen in (["lafam"], ["scorecam", "lafam"])
    )
    pd.testing.assert_frame_equal(alone, beside, check_exact=True, check_categorical=False)


class ReadsAgain(nn.Module):
    """Changes what it is given in place, and then what it was given it from."""

    def forward(self, cells):
        first, second = cells[:, :4], cells[:, 4:]
        first.relu_()
        return torch.cat([first, second], 1) + cells


def test_what_is_read_again_by_another_name_is_what_torch_reads():
    net = headed(ReadsAgain())
    images = photos(3)[0]
    assert certify(net).holds
    with torch.no_grad():
        assert torch.equal(net.graph.run(images), net(images))


def test_features_that_begin_in_place_leave_the_callers_images_alone():
    net = behind_bottom(first=nn.Sequential(nn.LeakyReLU(0.1, inplace=True), nn.Conv2d(3, 6, 3, padding=1)))
    images = photos(2)[0].contiguous(memory_format=torch.channels_last)
    kept = images.clone()
    audit(net, images, ["gradcam", "gradient"])
    net.activations(images)
    assert torch.equal(images, kept)

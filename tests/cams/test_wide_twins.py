"""Twins on a net of many channels and three resolutions: groups, clusters, quantiles and shares of the channels, which
eight channels leave to each other, come to bear."""

import copy

import pytest
import torch

from tests.nets import photos, tiny
from tests.reference import TWINS
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence

CHANNELS = 112
COUNTED = [
    "groupcam",
    "groupcam_denoised",
    "clustercam",
    "fdcam",
    "decomcam",
    "decomcam_authors",
    "gscorecam",
    "gscorecam_code",
    "winsorcam",
    "winsorcam_max",
    "refinecam",
    "refinecam_authors",
    "refinecam_layercam",
    "layercam_fused",
    "layercam_mean",
    "zoomcam",
    "fullgrad",
    "polycam",
    "polycam_plus",
    "polycam_minus",
    "scorecam",
    "kpcacam",
    "lafam",
    "dff",
    "lrpcam",
    "relevancecam",
    "limecam",
    "shapleycam_mean",
    "shapleycam_e",
    "gradcampp_authors",
    "finercam_mean",
    "conceptor_gradcam",
    "conceptor_gradcam_channels",
    "faster_scorecam",
    "sise",
    "adasise",
    "vitcx",
    "tis",
    "iba",
    "smoe",
    "fastcam",
    "rsi_gradcam",
    "rsi_gradcam_authors",
    "fgcam",
    "iia",
]


@pytest.fixture(scope="module")
def evidence():
    net = tiny(plan=(6, "M", 10, "M", CHANNELS), wall={"side": "bottom", "cells": 3})
    return Evidence(copy.deepcopy(net).double(), photos(2, seed=7)[0].double())


@pytest.mark.parametrize("name", COUNTED)
def test_method_is_its_twin_on_many_channels(name, evidence):
    maps = METHODS[name](evidence)
    for map_, image, target in zip(maps, evidence.images, evidence.targets.tolist(), strict=True):
        slow = TWINS[name](evidence.net, image, target, seed=0)
        assert torch.count_nonzero(slow) > 0
        torch.testing.assert_close(map_, slow, rtol=1e-7, atol=1e-9 * float(slow.abs().max()))


def test_the_net_has_what_the_methods_count(evidence):
    living = evidence.activations.flatten(2).any(2).sum(1)
    assert (living > 64).all()  # more than 32 groups, 8 clusters and a tenth can hold singly
    assert len({tuple(step.output.shape[2:]) for step in evidence.trace}) == 3

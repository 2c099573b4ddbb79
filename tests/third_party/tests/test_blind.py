"""What this project promises of its methods, held to a network that provably cannot see a part of the image."""

import captum.attr
import glowmaps
import pytest
import pytorch_grad_cam


def test_pointwise_is_blind(wall):
    assert wall.leakage(glowmaps.pointwise) <= 0.01


def test_averaged_is_blind(wall):
    assert wall.leakage(glowmaps.averaged) <= 0.01


@pytest.mark.xfail(reason="shows the image, not the network", strict=True)
def test_contrast_is_blind(wall):
    assert wall.leakage(glowmaps.contrast) <= 0.01


def test_others(wall):
    layers = [wall.net.target_layer]
    assert wall.leakage(pytorch_grad_cam.HiResCAM(wall.net.model, layers)) == 0
    assert wall.leakage(pytorch_grad_cam.GradCAM(wall.net.model, layers)) > 0.1
    assert wall.leakage(captum.attr.Saliency(wall.net.model)) == 0
    assert wall.leakage(glowmaps.contrast) > 0.1

"""Every explainer of every library, by name and version, on a tiny net: it runs, and it is blind or it is not."""

import warnings

import pytest
import torch

from tests.nets import tiny
from wallcheck.adapters import PEERS, Peer, foreign, peers
from wallcheck.evidence import Evidence

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    EVERY = peers()

# What does not apply to this net, and what it says.
REFUSED = {
    "torchcam.CAM": "does not support multiple fully connected layers",
    "torchcam.LeGrad": "score_projection",
    "torchcam.RefineCAM": "at least two target layers",
    "captum.LayerFeaturePermutation": "must be 2D",
}
# Weights averaged over cells, none of a class, or parts of the image larger than what the net sees of them.
POOLED = ("AblationCAM", "EigenCAM", "EigenGradCAM", "FEM", "FinerCAM", "GradCAM", "GradCAMPlusPlus", "KPCA_CAM", "RandomCAM",
          "RefineCAM", "SESS", "ScoreCAM", "ShapleyCAM", "XGradCAM", "GradCAMpp", "ISCAM", "SSCAM", "SmoothGradCAMpp")  # fmt: skip
TILED = ("FeatureAblation", "FeaturePermutation", "KernelShap", "Lime", "Occlusion", "ShapleyValueSampling")
LEAKING = {
    *(f"{library}.{name}" for library in ("pytorch_grad_cam", "torchcam") for name in POOLED),
    *(f"captum.{name}" for name in ("LayerGradCam", "LayerActivation", *TILED)),
}

EITHER = ("pytorch_grad_cam.EigenGradCAM", "captum.Lime")  # as the direction's sign, or the regression, turns out


@pytest.fixture(scope="module")
def evidence():
    """12 px, 6 x 6 cells, the bottom half unseen: some explainers ask once for each pixel."""
    net = tiny(plan=(4, "M", 6), image_size=12, hidden=(8,), wall={"side": "bottom", "cells": 3})
    return Evidence(net, torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)))


def test_every_library_is_there_with_its_version():
    found = {Peer.of(name).library for name in EVERY}
    assert found == {library.package for library in PEERS} == {"grad-cam", "torchcam", "captum", "zennit", "quantus"}
    assert all(Peer.of(name).version[0].isdigit() for name in EVERY)
    for name in (
        "pytorch_grad_cam.HiResCAM",
        "torchcam.GradCAM",
        "captum.Saliency",
        "zennit.epsilon_plus",
        "quantus.LRP",
    ):
        assert name in EVERY


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EVERY)
def test_every_explainer_runs(name, evidence):
    method = foreign(name, evidence.net, evidence.images)
    if name in REFUSED:
        with pytest.raises(Exception, match=REFUSED[name]):
            method(evidence)
        return
    maps = method(evidence)
    on = evidence.wall.unseen if method.grid == "cells" else evidence.regions.unseen
    assert torch.isfinite(maps).all()
    leaks = bool((maps[:, torch.from_numpy(on.copy())] > 0).any())
    if not name.startswith("quantus"):
        assert name in EITHER or leaks == (name in LEAKING)
    assert not any(module._forward_hooks for module in evidence.net.model.modules())

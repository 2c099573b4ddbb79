"""Our gradient methods beside pytorch-grad-cam (PGC) and torchcam as installed: equal after their own post-processing,
or different for a reason that a test isolates.

Where they differ (the cause is shown below):
- PGC Grad-CAM++: an epsilon of 1e-6 beside 2 G^2, felt once |G| is near 1e-3.
- PGC FullGrad: every channel is stretched to [0, 1] by itself, where the authors stretch a layer at once.
- PGC RefineCAM: stretched again after enlarging, before the product.
- torchcam Grad-CAM++: its division is done in a copy and lost; equals `gradcampp_undivided`.
- torchcam Smooth Grad-CAM++: last noisy pass in the sum; equals `smooth_gradcampp_last` on the same noise.
- torchcam Layer-CAM fusion: tanh on the target layer too; equals `layercam_fused_tanh`.
"""

import copy

import pytest
import pytorch_grad_cam as pgc
import torch
import torchcam.methods as torchcam
from pytorch_grad_cam.utils.model_targets import ClassifierOutputReST, ClassifierOutputTarget
from torch import nn

from tests.nets import photos, tiny, trained_tiny
from wallcheck.cams import METHODS
from wallcheck.cams._layers import stages
from wallcheck.cams.pooled.paths import NOISE_TORCHCAM, noise
from wallcheck.evidence import Evidence
from wallcheck.maps import displayed, rectify, upsample
from wallcheck.numerics import unit_range

IMAGES = photos(4, seed=5)[0]
SAME = dict(rtol=0, atol=5e-4)  # of maps in [0, 1]; PGC adds 1e-7 to maxima that can be 1e-3


def scaled(net, factor):
    """net with its last layer, and so every gradient, multiplied."""
    net = copy.deepcopy(net)
    net.head[-1].weight.data *= factor
    return net


@pytest.fixture(params=["untrained", "trained"])
def evidence(request):
    return Evidence({"untrained": tiny, "trained": trained_tiny}[request.param](), IMAGES)


def theirs(kind, evidence, layers=("target",), target=ClassifierOutputTarget, **fields):
    """What PGC returns, (B, H, W), for modules of the net's ordinary model by name; "target" is its target layer."""
    model = copy.deepcopy(evidence.net.model)  # PGC leaves gradients
    with kind(model, [model.get_submodule(name) for name in layers], **fields) as method:
        return torch.from_numpy(method(evidence.images, [target(c) for c in evidence.targets.tolist()]))


def ours(name, evidence):
    method = METHODS[name]
    if method.grid == "pixels":
        return unit_range(rectify(method(evidence)))
    return displayed(method(evidence), evidence.net.image_size)


STAGES = ("features_1", "features_4")  # the last layer of each resolution of the tiny nets


@pytest.mark.parametrize(
    "name, kind",
    [
        ("gradcam", pgc.GradCAM),
        ("hirescam", pgc.HiResCAM),
        ("xgradcam", pgc.XGradCAM),
        ("layercam", pgc.LayerCAM),
        ("gradcam_elementwise", pgc.GradCAMElementWise),
        ("shapleycam_mean", pgc.ShapleyCAM),
    ],
)
def test_pgc_has_the_same_map(name, kind, evidence):
    torch.testing.assert_close(ours(name, evidence), theirs(kind, evidence), **SAME)


def test_pgc_shapley_of_rest_has_the_same_map():
    net = tiny()
    net.head[2] = nn.GELU()
    evidence = Evidence(net, IMAGES)
    there = theirs(pgc.ShapleyCAM, evidence, target=ClassifierOutputReST)
    torch.testing.assert_close(ours("shapleycam_mean_rest", evidence), there, **SAME)


def test_pgc_layercam_of_several_layers_has_the_same_map(evidence):
    torch.testing.assert_close(ours("layercam_mean", evidence), theirs(pgc.LayerCAM, evidence, STAGES), **SAME)


@pytest.mark.parametrize("name, base", [("finercam", pgc.GradCAM), ("finer_hirescam", pgc.HiResCAM)])
def test_pgc_finer_has_the_same_map(name, base, evidence):
    """PGC takes the arg-max class itself; its comparison is not detached, and neither is ours."""
    there = pgc.FinerCAM(evidence.net.model, [evidence.net.target_layer], base_method=base)(evidence.images)
    torch.testing.assert_close(ours(name, evidence), torch.from_numpy(there), **SAME)


# -- Grad-CAM++: the epsilon ----------------------------------------------------------------------


def plusplus(evidence, eps):
    """Grad-CAM++ in float64 with eps in the denominator of alpha."""
    A, G = evidence.activations.double(), evidence.gradient.double()
    alpha = G**2 / (2 * G**2 + A.sum((2, 3), keepdim=True) * G**3 + eps)
    weights = (alpha * G.clamp(min=0)).where(G != 0, 0.0).sum((2, 3))
    return displayed(torch.einsum("bk,bkhw->bhw", weights, A), evidence.net.image_size).float()


def test_pgc_plusplus_agrees_where_gradients_are_large():
    evidence = Evidence(scaled(trained_tiny(), 100), IMAGES)
    torch.testing.assert_close(ours("gradcampp", evidence), theirs(pgc.GradCAMPlusPlus, evidence), **SAME)


def test_pgc_plusplus_differs_where_gradients_are_small_because_of_its_epsilon():
    evidence = Evidence(scaled(trained_tiny(), 1e-3), IMAGES)
    assert 1e-6 < evidence.gradient.abs().max() < 1e-3
    there = theirs(pgc.GradCAMPlusPlus, evidence)
    torch.testing.assert_close(there, plusplus(evidence, eps=1e-6), **SAME)
    torch.testing.assert_close(ours("gradcampp", evidence), plusplus(evidence, eps=1e-300), **SAME)
    assert (ours("gradcampp", evidence) - there).abs().max() > 0.05


# -- several layers -------------------------------------------------------------------------------


def test_pgc_fullgrad_differs_because_it_stretches_channel_by_channel(evidence):
    there = theirs(pgc.FullGrad, evidence, layers=())
    image, *layers = evidence.trace
    total = unit_range((image.output * image.gradient).abs()).sum(1)
    for layer in layers:
        if layer.step.op == "conv2d":
            terms = (layer.constant[:, None, None] * layer.gradient).abs()
            total = total + sum(upsample(unit_range(terms[:, k]), (24, 24)) for k in range(terms.shape[1]))
    torch.testing.assert_close(unit_range(total), there, **SAME)
    assert (ours("fullgrad", evidence) - there).abs().max() > 0.05


def test_pgc_refine_differs_because_it_stretches_again_after_enlarging(evidence):
    model, targets = evidence.net.model, [ClassifierOutputTarget(c) for c in evidence.targets.tolist()]
    method = pgc.RefineCAM(model, [model.get_submodule(name) for name in STAGES])  # no context manager, unlike its kin
    there, maps = torch.from_numpy(method(evidence.images, targets)), []
    for layer in stages(evidence):
        positive = layer.gradient.double().clamp(min=0)
        alpha = positive**2 / (2 * positive**2 + layer.output.sum((2, 3), keepdim=True) * positive**3 + 1e-6)
        weights = (alpha * positive).sum((2, 3)).float()
        map_ = torch.einsum("bk,bkhw->bhw", weights, layer.output)
        maps.append(unit_range(upsample(unit_range(map_), (24, 24))))
    torch.testing.assert_close(unit_range(maps[0] * maps[1]), there, **SAME)
    assert (ours("refinecam", evidence) - there).abs().max() > 0.01


@pytest.mark.parametrize("name, base", [("sess_gradcam", pgc.GradCAM), ("sess_hirescam", pgc.HiResCAM)])
def test_pgc_sess_has_the_same_map(name, base, evidence):
    """The largest difference met is 1.4e-6 of the peak: OpenCV's resizing and the 1e-7 beside each maximum."""
    torch.testing.assert_close(ours(name, evidence), theirs(pgc.SESS, evidence, base_method=base), rtol=0, atol=1e-5)


# -- torchcam -------------------------------------------------------------------------------------


def of_torchcam(kind, evidence, layers=("target",), scores=True, before=lambda method: None, **fields):
    """What torchcam returns: a list of (B, h, w) in [0, 1], one per layer or one fused."""
    model = evidence.net.model
    with kind(model, list(layers), **fields) as method:
        before(method)
        logits = model(evidence.images)
        return [map_.detach() for map_ in method(evidence.targets.tolist(), logits if scores else None)]


@pytest.mark.parametrize(
    "name, kind",
    [
        ("gradcam", torchcam.GradCAM),
        ("xgradcam", torchcam.XGradCAM),
        ("layercam", torchcam.LayerCAM),
        ("gradcampp_undivided", torchcam.GradCAMpp),
        ("finercam_mean", torchcam.FinerCAM),
    ],
)
def test_torchcam_has_the_same_map(name, kind, evidence):
    (there,) = of_torchcam(kind, evidence)
    torch.testing.assert_close(unit_range(rectify(METHODS[name](evidence))).to(there), there, **SAME)


def test_torchcam_smooth_plusplus_on_our_noise_has_the_same_map(evidence):
    class Ours:
        drawn = noise(evidence, 4, NOISE_TORCHCAM)

        def sample(self, size):
            return 0.3 * next(self.drawn).expand(size)

    (there,) = of_torchcam(
        torchcam.SmoothGradCAMpp, evidence, scores=False, before=lambda method: setattr(method, "_distrib", Ours())
    )
    torch.testing.assert_close(unit_range(rectify(METHODS["smooth_gradcampp_last"](evidence))), there, **SAME)


def test_torchcam_fusion_of_layercams_has_the_same_map(evidence):
    there = torchcam.LayerCAM.fuse_cams(of_torchcam(torchcam.LayerCAM, evidence, STAGES))
    torch.testing.assert_close(METHODS["layercam_fused_tanh"](evidence), there, **SAME)


def test_torchcam_refine_over_layercam_has_the_same_map(evidence):
    fields = dict(layers=STAGES, base_method=torchcam.LayerCAM)
    (there,) = of_torchcam(torchcam.RefineCAM, evidence, **fields)
    torch.testing.assert_close(ours("refinecam_layercam", evidence), there, **SAME)

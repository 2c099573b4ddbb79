"""Rescoring methods: masks scored once and only where they are seen, identities, parity with the libraries."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from tests.nets import photos, tiny, trained_tiny
from wallcheck.adapters._stand_in import stand_in
from wallcheck.cams import METHODS
from wallcheck.cams.rescoring import groups as rescoring_groups
from wallcheck.cams.rescoring import layers as rescoring_layers
from wallcheck.cams.rescoring import scores as rescoring
from wallcheck.cams.rescoring.masks import extremes, scores_through, stretched, upsample
from wallcheck.evidence import Evidence
from wallcheck.graph import lean
from wallcheck.models import BlindNet, vgg


def close(one, other, share=1e-5):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=share * float(other.abs().max()))


@pytest.fixture(scope="module")
def net():
    return trained_tiny()


@pytest.fixture(scope="module")
def evidence(net):
    return Evidence(net, photos(3, seed=5)[0])


# -- masks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("shape, size", [((12, 12), (96, 96)), ((5, 7), (16, 13)), ((9, 8), (9, 4)), ((1, 3), (4, 3))])
def test_two_products_are_torchs_interpolate_and_extremes_need_few_pixels(shape, size, aligned):
    maps = torch.randn(6, *shape, generator=torch.Generator().manual_seed(0))
    wide = upsample(maps, size, aligned)
    torch.testing.assert_close(wide, interpolate(maps[None], size, mode="bilinear", align_corners=aligned)[0])
    low, high = extremes(maps, size, aligned)
    torch.testing.assert_close(low[:, 0, 0], wide.amin((1, 2)))
    torch.testing.assert_close(high[:, 0, 0], wide.amax((1, 2)))


def test_stretched_spans_the_whole_image_and_a_constant_map_is_no_mask():
    maps = torch.stack([torch.rand(7, 7), torch.full((7, 7), 0.3)])
    wide = upsample(stretched(maps, (30, 24)), (30, 24))
    assert wide[0].min().abs() < 1e-6 and abs(wide[0].max() - 1) < 1e-6
    assert torch.count_nonzero(wide[1]) == 0


def test_each_distinct_mask_is_scored_once_and_equals_the_plain_way(net):
    """Dead, doubled and scaled channels, and channels that live behind the wall alone."""
    evidence = Evidence(net, photos(1)[0])
    maps = evidence.activations[0].clone()
    maps[1], maps[2], maps[3] = 0, maps[0], 4 * maps[0]
    maps[4, :7], maps[5, :7] = 0, 0  # rows 0..4 are seen; a visible pixel reads two rows further
    painted = []

    def paint(part, masks):
        painted.append(len(masks))
        return part * masks

    cells = stretched(maps, net.image_size, aligned=True)
    scores = scores_through(evidence, 0, cells, aligned=True, paint=paint)
    assert sum(painted) == 4  # {0, 2, 3}, {1, 4, 5}, {6}, {7}
    for k, score in enumerate(scores):
        wide = interpolate(maps[k][None, None], net.image_size, mode="bilinear", align_corners=True)[0, 0]
        spread = wide.max() - wide.min()
        mask = (wide - wide.min()) / spread if spread > 0 else 0 * wide
        close(score, evidence.of_target(net(evidence.images * mask).detach())[0])


def test_a_peak_behind_the_wall_lowers_the_mask_in_front_of_it(net):
    """The mask's range is the whole map's: what no logit can see still decides how bright the seen part is."""
    evidence = Evidence(net, photos(1)[0])
    maps = evidence.activations[0][:1].clone()
    before = stretched(maps, net.image_size)
    maps[0, -1, -1] = 4 * maps.max()
    after = stretched(maps, net.image_size)
    assert after[0, :5].max() < 0.5 * before[0, :5].max()


@pytest.mark.parametrize("wall", [None, *({"side": s, "cells": 4} for s in ("bottom", "top", "left", "right"))])
def test_lean_features_give_the_same_bits(wall):
    net = vgg((4, 6, "M", 8, "M", 5), 42, 3, wall=wall).eval()
    parts = torch.randn(3, 3, 42, 42)[(..., *net.visible)]
    kept = parts.clone()
    with torch.no_grad():
        (plain,) = net.graph.seen(parts)
        assert torch.equal(lean.cells(net.graph.quick.line)(parts), plain)
        images = torch.randn(2, 3, 42, 42)
        assert torch.equal(lean.whole(net.graph.quick.line)(images), net.activations(images))
    assert torch.equal(parts, kept)


def test_lean_features_leave_other_layers_alone():
    features = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Sequential(
            nn.Conv2d(4, 4, 3), nn.LeakyReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.ReLU()))  # fmt: skip
    wall = vgg((4,), 3, 2).wall
    net = BlindNet(features, nn.Flatten(), wall, (68, 68)).eval()
    with torch.no_grad():
        images = torch.ones(1, 3, 68, 68)
        (plain,) = net.graph.seen(images)
        assert torch.equal(lean.cells(net.graph.quick.line)(images), plain)


# -- identities ---------------------------------------------------------------------------------------


def test_score_cam_does_not_depend_on_the_baseline(evidence):
    """w = softmax(y(x * M_k) - y(x_b)) for any image x_b: black, noise, the image itself."""
    maps = METHODS["scorecam"](evidence)
    cells = [stretched(each, evidence.net.image_size, aligned=True) for each in evidence.activations]
    scores = torch.stack([scores_through(evidence, i, each, aligned=True) for i, each in enumerate(cells)])
    for baseline in (torch.zeros_like(evidence.images), 5 * torch.randn_like(evidence.images), evidence.images):
        increase = scores - evidence.of_target(evidence.net(baseline).detach())[:, None]
        close(torch.einsum("bk,bkhw->bhw", increase.softmax(1), evidence.activations), maps)


def test_limits_of_the_variants_are_score_cam(evidence, monkeypatch):
    score_cam = METHODS["scorecam_torchcam"](evidence)
    close(METHODS["iscam"].body(evidence, steps=1), score_cam)
    close(METHODS["iscam_torchcam"].body(evidence, steps=1), score_cam)
    close(METHODS["sscam"].body(evidence, samples=2, sigma=0.0), score_cam)
    close(METHODS["sscam_input"].body(evidence, samples=2, sigma=0.0), score_cam)
    monkeypatch.setattr(rescoring, "SHARE", 1.0)
    close(METHODS["gscorecam"](evidence), METHODS["scorecam"](evidence))


def test_upsampled_map_is_the_authors_sum_of_upsampled_maps(net):
    evidence = Evidence(net, photos(1)[0])
    total = 0
    for maps in evidence.activations[0]:
        wide = interpolate(maps[None, None], net.image_size, mode="bilinear", align_corners=False)
        if wide.max() != wide.min():
            seen = net(evidence.images * (wide - wide.min()) / (wide.max() - wide.min())).softmax(1)
            total = total + evidence.of_target(seen.detach()) * wide[0, 0]
    close(upsample(METHODS["scorecam_authors"](evidence)[0], net.image_size), total)


def test_group_cams_blur_is_the_published_kernel():
    from torchvision.transforms.functional import gaussian_blur

    image = torch.randn(3, 224, 224)
    torch.testing.assert_close(
        rescoring_groups.blurred(image), gaussian_blur(image, [51, 51], [50.0, 50.0]), rtol=1e-4, atol=1e-5
    )


def test_cluster_cam_of_one_living_channel_is_its_map_and_equal_channels_are_one_cluster(net):
    evidence = Evidence(net, photos(1)[0])
    maps = torch.zeros_like(evidence.activations)
    maps[0, 3] = evidence.activations[0].amax(0)
    evidence.__dict__["activations"] = maps
    close(METHODS["clustercam"](evidence)[0], maps[0, 3])
    maps[0, 5] = maps[0, 3]
    close(METHODS["clustercam"](evidence)[0], maps[0, 3])


def test_poly_cam_of_one_resolution_is_its_weighted_map():
    net = tiny(plan=(5, 8), image_size=16, wall={"side": "bottom", "cells": 6})
    evidence = Evidence(net, photos(2, size=16)[0])
    [shown] = evidence.once(rescoring_layers.shown)
    close(METHODS["polycam_plus"](evidence), torch.einsum("bk,bkhw->bhw", shown, evidence.activations))


def test_poly_cam_scores_every_mask_once_for_its_three_forms(net, monkeypatch):
    evidence, calls = Evidence(net, photos(2)[0]), []
    plain = rescoring_layers.chances_through
    monkeypatch.setattr(rescoring_layers, "chances_through", lambda *a, **k: calls.append(1) or plain(*a, **k))
    for name in ("polycam_plus", "polycam_minus", "polycam"):
        METHODS[name](evidence)
    assert len(calls) == 2 * 2 * 2  # shown and hidden, two layers, two images


# -- Opti-CAM -----------------------------------------------------------------------------------------


def masked_score(evidence, maps):
    masks = upsample(stretched(maps, evidence.net.image_size), evidence.net.image_size)
    return evidence.of_target(evidence.net(evidence.images * masks[:, None]).detach())


def test_opti_cam_raises_its_objective(evidence):
    uniform = evidence.activations.clamp(min=0).mean(1)
    assert (masked_score(evidence, METHODS["opticam"](evidence)) > masked_score(evidence, uniform)).all()


# -- the libraries ------------------------------------------------------------------------------------


def test_pytorch_grad_cams_score_cam_is_ours_after_its_own_display(net, evidence):
    importlib.import_module("pytorch_grad_cam")
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    plain = stand_in(net)
    with ScoreCAM(plain, [plain.target]) as cam:
        theirs = cam(evidence.images.clone(), [ClassifierOutputTarget(t) for t in evidence.targets.tolist()])
    ours = np.maximum(METHODS["scorecam"](evidence).numpy(), 0)
    ours = scale_cam_image(np.maximum(scale_cam_image(ours, net.image_size[::-1]), 0))
    np.testing.assert_allclose(theirs, ours, atol=2e-5)


def torchcams(name, net, evidence, **settings):
    """torchcam's map after its ReLU, before its min-max."""
    methods = importlib.import_module("torchcam.methods")
    plain = stand_in(net)
    with getattr(methods, name)(plain, target_layer=plain.target, **settings) as cam:
        logits = plain(evidence.images)
        if name == "SSCAM":
            fields = iter(rescoring.noise(evidence, settings["num_samples"], settings["std"]))
            rows = net.visible[0].stop

            def sample(size):  # our fields, the same for every channel; what lies below reaches no logit
                drawn = torch.zeros(size)
                drawn[..., :rows, :] = next(fields)
                return drawn

            cam._distrib.sample = sample
        return cam(evidence.targets.tolist(), logits, normalized=False)[0]


@pytest.mark.parametrize(
    "name, theirs, settings",
    [
        ("scorecam_torchcam", "ScoreCAM", {}),
        ("sscam", "SSCAM", {"num_samples": 10, "std": 2.0}),
        ("iscam_torchcam", "ISCAM", {"num_samples": 10}),
    ],
)
def test_torchcams_function_is_ours(name, theirs, settings, net, evidence):
    close(METHODS[name](evidence), torchcams(theirs, net, evidence, **settings), share=1e-4)


def test_where_the_three_score_cams_differ(evidence):
    """Not rounding: when a mask is stretched, where its corners lie, and what its score becomes."""
    maps = [METHODS[name](evidence) for name in ("scorecam", "scorecam_torchcam", "scorecam_authors")]
    maps = [each / each.amax((1, 2), keepdim=True) for each in maps]
    assert (maps[0] - maps[1]).abs().max() > 1e-3
    assert (maps[0] - maps[2]).abs().max() > 1e-2


# -- memory -------------------------------------------------------------------------------------------

MEMORY = """
import resource, torch
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.models import vgg

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

torch.set_num_threads(1)
net = vgg((48, 48, "M", 64), 112, 4, hidden=(16,), wall={"side": "bottom", "cells": 28}).eval()
images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
evidence = Evidence(net, images, targets=[0, 1], budget_mb=96)
METHODS["scorecam"](Evidence(net, images[:1, :, :, :] * 0, targets=[0], budget_mb=96))
evidence.activations
before = peak()
METHODS["scorecam"](evidence)
print(peak() - before)
"""


def test_score_cam_stays_within_its_budget():
    """64 masked images at once would hold 64 x 48 x 68 x 112 values of 4 bytes = 89 MB per layer, three at a time."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 96

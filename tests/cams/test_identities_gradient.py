"""Where two gradient methods must agree, or a map must add up, by algebra: each claim on float64 nets."""

import pytest
import torch
from torch import nn
from torch.nn.functional import affine_grid, grid_sample

from tests.nets import photos, tiny, trained_tiny
from wallcheck.cams import METHODS, VERDICTS
from wallcheck.cams.layered import enlarged_layer
from wallcheck.cams.local.layers import full_gradient
from wallcheck.cams.pooled.augmented import motions, sparse, turned
from wallcheck.cams.pooled.paths import expected_paths
from wallcheck.cams.targets import shapley_weights
from wallcheck.evidence import Evidence
from wallcheck.geometry import Wall
from wallcheck.models import BlindNet

close = torch.testing.assert_close


def seen_by(net, images=None, **fields):
    net = net.double() if net is not trained_tiny() else trained_tiny()
    return Evidence(net, (photos(3, seed=5)[0] if images is None else images).double(), **fields)


def pooled_head(**changes):
    return seen_by(tiny(hidden=(), pooled=True, **changes))


def linear_head(**changes):
    return seen_by(tiny(hidden=(), **changes))


def last_linear(evidence):
    return [module for module in evidence.net.head if isinstance(module, nn.Linear)][-1]


# -- pooled head ----------------------------------------------------------------------------------


def test_pooled_head_cam_is_gradcam_times_cells():
    ev = pooled_head()
    close(METHODS["cam"](ev), ev.cells * METHODS["gradcam"](ev))


def test_pooled_head_cam_is_hirescam_times_seen_cells_where_the_head_looks():
    ev = pooled_head()
    seen = ~ev.unseen
    close(METHODS["cam"](ev)[:, seen], int(seen.sum()) * METHODS["hirescam"](ev)[:, seen])
    assert (METHODS["cam"](ev)[:, ev.unseen] > 0).any()
    assert torch.count_nonzero(METHODS["hirescam"](ev)[:, ev.unseen]) == 0


def test_cam_over_seen_cells_adds_up_to_the_logit():
    ev = pooled_head()
    close(METHODS["cam"](ev)[:, ~ev.unseen].mean(1), ev.score - last_linear(ev).bias[ev.targets])


def test_pooled_head_xgradcam_is_gradcam_only_without_a_wall():
    """The wall breaks a known identity: unseen activity stands in XGrad-CAM's denominator."""
    unwalled, walled = pooled_head(wall=None), pooled_head()
    close(METHODS["xgradcam"](unwalled), METHODS["gradcam"](unwalled))
    assert not torch.allclose(METHODS["xgradcam"](walled), METHODS["gradcam"](walled), rtol=0.05)


def test_cam_says_why_it_does_not_apply():
    with pytest.raises(ValueError, match=r"cam is not defined .* head is linear > relu > linear, .* pooled=True"):
        METHODS["cam"](seen_by(tiny()))


# -- linear head ----------------------------------------------------------------------------------


def test_linear_head_hirescam_is_complete():
    ev = linear_head()
    close(METHODS["hirescam"](ev).sum((1, 2)), ev.score - last_linear(ev).bias[ev.targets])


def test_linear_head_integrated_weights_are_gradcams():
    ev = linear_head()
    close(METHODS["integrated_gradcam_weights"](ev), METHODS["gradcam"](ev))


def test_linear_head_and_no_biases_integrated_gradcam_is_gradcam():
    """A(t x) = t A(x), so the mean over t = 1/20 .. 1 of relu(t Grad-CAM) is 21/40 of relu(Grad-CAM)."""
    net = tiny(hidden=())
    for module in net.features:
        if isinstance(module, nn.Conv2d):
            module.bias.data.zero_()
    ev = seen_by(net)
    close(METHODS["integrated_gradcam"](ev), 21 / 40 * METHODS["gradcam"](ev).clamp(min=0))


def test_linear_head_expected_gradcam_is_complete():
    ev = linear_head()
    paths = list(expected_paths(ev))
    weights = sum((p.gradient * (z.activations - x.activations)).sum((2, 3)) for x, p, z in paths)
    close(weights.sum(1), sum(z.score - x.score for x, _, z in paths))


# -- Grad-CAM++ -----------------------------------------------------------------------------------


def test_gradcampp_is_its_published_form():
    ev = seen_by(trained_copy())
    A, G = ev.activations, ev.gradient
    alpha = G**2 / (2 * G**2 + A.sum((2, 3), keepdim=True) * G**3)
    weights = (alpha * G.clamp(min=0)).where(G > 0, 0.0).sum((2, 3))
    close(METHODS["gradcampp"](ev), torch.einsum("bk,bkhw->bhw", weights, A))


def test_gradcampp_depends_on_the_scale_of_the_logit_and_gradcam_does_not():
    ev, scaled = seen_by(trained_copy()), seen_by(trained_copy(scale=100))
    assert direction(METHODS["gradcam"], ev, scaled) == pytest.approx(1, abs=1e-12)
    assert direction(METHODS["gradcampp"], ev, scaled) < 1 - 1e-4


def direction(method, ev, other):
    """Least cosine over images between the maps of two evidences."""
    return float(torch.cosine_similarity(method(ev).flatten(1), method(other).flatten(1)).min())


def trained_copy(scale=1.0):
    net = tiny()
    net.load_state_dict(trained_tiny().state_dict())
    net.head[-1].weight.data *= scale
    net.head[-1].bias.data *= scale
    return net


def test_smooth_gradcampp_without_noise_is_gradcampp():
    flat = torch.rand(3, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 24, 24)
    flat = flat.mean(1, keepdim=True).expand(-1, 3, -1, -1).clone()  # one value: no range, no noise
    ev = seen_by(tiny(), flat)
    close(METHODS["smooth_gradcampp"](ev), METHODS["gradcampp"](ev))


# -- other targets --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shapley, plain",
    [("mean", "gradcam"), ("x", "xgradcam"), ("e", "gradcam_elementwise"), ("hires", "hirescam")],
)
def test_shapley_of_a_logit_is_first_order_on_piecewise_linear_heads(shapley, plain):
    ev = seen_by(tiny())
    assert torch.equal(METHODS[f"shapleycam_{shapley}"](ev), METHODS[plain](ev))


def test_shapley_weights_are_the_second_order_expansion():
    """d/dt at t = 1 of G(t A) is Hess A: a central difference on a smooth head."""
    net = tiny()
    net.head[2] = nn.GELU()
    ev, step = seen_by(net), 1e-4

    def gradient(scale):
        other = Evidence(net, ev.images, ev.targets)
        other.activations = scale * ev.activations
        return other.gradient

    curved = (gradient(1 + step) - gradient(1 - step)) / (2 * step)
    assert curved.abs().max() > 1e-3 * ev.gradient.abs().max()
    close(shapley_weights(ev, ev.of_target), ev.gradient - curved / 2, rtol=1e-5, atol=1e-9)


def test_finer_of_two_classes_is_the_difference_of_two_maps():
    net = tiny(num_classes=2)
    mine, other = (METHODS["gradcam"](seen_by(net, targets=[c] * 3)) for c in (0, 1))
    close(METHODS["finercam"](seen_by(net, targets=[0] * 3)), mine - other)


def test_explaining_leaves_the_evidence_as_it_was():
    ev = seen_by(tiny())
    before, trace = ev.gradient.clone(), ev.trace
    METHODS["finercam"](ev)
    doubled = ev.explaining(lambda logits: 2 * ev.of_target(logits))
    close(doubled.gradient, 2 * before)
    close(doubled.trace[0].gradient, 2 * trace[0].gradient)
    assert torch.equal(ev.gradient, before) and ev.trace is trace


# -- several layers -------------------------------------------------------------------------------


def normed():
    """tiny with a batch norm after each convolution, in-place ReLUs, and statistics of its own."""
    net = tiny()
    features = nn.Sequential(
        nn.Sequential(net.features[0], nn.BatchNorm2d(6), nn.ReLU(inplace=True)),
        net.features[2],
        nn.Sequential(net.features[3], nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
    )
    draw = torch.Generator().manual_seed(4)
    for norm in (features[0][1], features[2][1]):
        for values in (norm.weight.data, norm.bias.data, norm.running_mean):
            values.copy_(0.5 * torch.randn(values.shape, generator=draw))
        norm.running_var.copy_(0.5 + torch.rand(norm.running_var.shape, generator=draw))
    return BlindNet(features, net.head, net.wall, net.image_size).eval()


@pytest.mark.parametrize("build", [tiny, trained_copy, normed])
def test_full_gradient_is_complete(build):
    ev = seen_by(build())
    linears = [module for module in ev.net.head if isinstance(module, nn.Linear)]
    biases = [linear.bias for linear in linears]
    for b, (target, score) in enumerate(zip(ev.targets, ev.score, strict=True)):
        gradients = torch.autograd.grad(ev.net.head(ev.handed(ev.activations[b : b + 1]))[0, target], biases)
        head = sum((g * bias).sum() for g, bias in zip(gradients, biases, strict=True))
        close(sum(term[b].sum() for term in full_gradient(ev)) + head.detach(), score)


@pytest.mark.parametrize("build", [tiny, normed])
def test_trace_ends_at_the_target_layer(build):
    ev = seen_by(build())
    assert torch.equal(ev.trace[0].output, ev.images)
    close(ev.trace[-1].output, ev.activations)
    close(ev.trace[-1].gradient, ev.gradient)


def test_one_resolution_is_its_own_fusion():
    net = tiny(plan=(6, 8), image_size=12)
    ev = seen_by(net, photos(2, size=24)[0][:, :, ::2, ::2])
    layer, hires = METHODS["layercam"](ev), METHODS["hirescam"](ev).clamp(min=0)
    close(METHODS["layercam_fused"](ev), layer / layer.amax((1, 2), keepdim=True))
    close(METHODS["refinecam_layercam"](ev), layer / layer.amax((1, 2), keepdim=True))
    close(METHODS["zoomcam"](ev), hires / hires.amax((1, 2), keepdim=True))


def test_cameras_at_the_nets_own_size_is_the_layer_itself():
    ev = seen_by(tiny())
    for image in range(3):
        activations, gradient = enlarged_layer(ev, image, scale=1)
        close(activations[0], ev.activations[image])
        close(gradient[0], ev.gradient[image])


def test_augmented_gradcam_turns_as_torch_does():
    ev = seen_by(tiny())
    angle, down, right = motions(ev)[3]
    cos, sin = torch.cos(torch.tensor(angle)).item(), torch.sin(torch.tensor(angle)).item()
    theta = torch.tensor(
        [[[cos, sin, right / 12], [-sin, cos, down / 12]]]
    ).double()  # grid_sample counts (x, y) in half sides
    want = grid_sample(ev.images[:1], affine_grid(theta, [1, 3, 24, 24], align_corners=False), align_corners=False)
    turn = turned(ev, angle, down, right)
    close((sparse(ev, *turn) @ ev.images[0].flatten(1).T).T.view(3, 24, 24), want[0], rtol=1e-5, atol=1e-6)


class Block(nn.Module):
    """A residual block, and a scale and shift of its own if asked to."""

    def __init__(self, scaled=False):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.scale, self.shift = (nn.Parameter(value * torch.ones(8, 1, 1)) for value in (1.5, 0.1))
        self.scaled = scaled

    def forward(self, maps):
        maps = maps + self.conv(maps).relu()
        return maps * self.scale + self.shift if self.scaled else maps


def with_block(scaled):
    net = tiny()
    features = nn.Sequential(*net.features[:4], Block(scaled), nn.ReLU())
    return BlindNet(features, net.head, net.wall, net.image_size).eval()


def test_a_layer_inside_a_block_is_seen_and_the_full_gradient_is_complete():
    ev = seen_by(with_block(scaled=False))
    assert [layer.step.op for layer in ev.trace if layer.constant is not None] == ["conv2d"] * 3
    whole = sum(term.flatten(1).sum(1) for term in full_gradient(ev))
    close(whole, (ev.gradient * ev.activations).sum((1, 2, 3)))  # the features are linear where they are, biases apart


def test_terms_that_cannot_be_told_apart_are_refused():
    net = with_block(scaled=True)
    for name in ("fullgrad", "fullgrad_by_channel", "simple_fullgrad"):
        assert "its features add terms by mul" in METHODS[name].refuses(net)
    for name in ("winsorcam", "cameras", "zoomcam", "refinecam"):
        assert METHODS[name].refuses(net) is None


def test_features_without_a_convolution_have_no_layer_to_winsorise():
    net = BlindNet(nn.AvgPool2d(2), nn.Sequential(nn.Flatten(), nn.Linear(180, 4)), tiny().wall, (24, 24)).eval()
    assert "no convolution that makes a map" in METHODS["winsorcam"].refuses(net)


# -- what upsampling does at the wall -------------------------------------------------------------

BLEEDERS = [name for name, method in METHODS.items() if method.verdict == "zero_but_bleed"]


def short_sighted(pool):
    """A net whose cells look at nothing but their own pixels: 1 x 1 convolutions, one pool; 24 px, half of it unseen."""
    draw = torch.Generator().manual_seed(2)
    features = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.MaxPool2d(pool), nn.Conv2d(6, 8, 1), nn.ReLU())
    cells = 24 // pool
    head = nn.Sequential(nn.Flatten(), nn.Linear(8 * cells * (cells // 2), 4))
    net = BlindNet(features, head, Wall.behind("bottom", (cells, cells), cells // 2), (24, 24)).eval()
    for parameter in net.parameters():
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return net


@pytest.mark.parametrize("pool", [2, 4])
@pytest.mark.parametrize("name", BLEEDERS)
def test_bleed_stays_within_a_cell_of_the_wall(name, pool):
    ev = seen_by(short_sighted(pool))
    assert ev.regions.unseen[12:].all() and not ev.regions.unseen[:12].any()
    assert torch.count_nonzero(METHODS[name](ev)[:, 12 + pool :]) == 0


@pytest.mark.parametrize("name", ["zoomcam", "layercam_mean", "fullgrad", "cameras"])
def test_bleed_is_met_where_layers_look_no_further_than_their_cells(name):
    """So `zero` would be false of these: upsampling alone lights up the first unseen rows."""
    ev = seen_by(short_sighted(pool=4))
    assert torch.count_nonzero(METHODS[name](ev)[:, 12]) > 0


def heavily_padded(pad):
    """Layers of 3 x 3 that look past their cells, the first with so much padding that its outer cells read nothing else."""
    draw, cells = torch.Generator().manual_seed(2), 11 + pad
    features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=pad), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1))
    head = nn.Sequential(nn.Flatten(), nn.Linear(8 * cells * 5, 4))
    wall = Wall.behind("bottom", (cells, cells), cells - 5)
    net = BlindNet(nn.Sequential(*features, nn.ReLU()), head, wall, (24, 24)).eval()
    for parameter in net.parameters():
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return net


@pytest.mark.parametrize("name", ["zoomcam", "layercam_mean", "fullgrad", "cameras", "refinecam_layercam"])
def test_bleed_stays_within_only_where_no_cell_reads_padding_alone(name):
    """The condition of the verdict: a layer of 34 cells, five of them beside the image on each side, is squeezed onto 24 px."""
    inside, beside = seen_by(heavily_padded(1)), seen_by(heavily_padded(6))
    met = torch.count_nonzero(METHODS[name](beside)[:, torch.from_numpy(beside.regions.unseen.copy())])
    assert (met > 0) == (name in ("zoomcam", "layercam_mean", "fullgrad"))
    assert torch.count_nonzero(METHODS[name](inside)[:, torch.from_numpy(inside.regions.unseen.copy())]) == 0
    assert "padding" in VERDICTS[METHODS[name].verdict]


def test_a_factor_at_full_resolution_stops_the_bleed():
    """A product is as blind as its blindest factor, and a layer of the image's size is not upsampled."""
    assert torch.count_nonzero(METHODS["refinecam_layercam"](seen_by(short_sighted(pool=4)))[:, 12:]) == 0

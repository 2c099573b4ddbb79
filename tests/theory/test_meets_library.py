"""Theory and library share no code; here their answers meet, on real blind networks with weights drawn many times."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import binom, kstest
from torch import nn

import theory.any_backbone
import theory.exact_expectation
import theory.families
import theory.predicted_class
from tests.nets import photos, tiny, trained_tiny
from theory.exact_expectation import expected_gradcam
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.geometry import Layer, Wall, lengths
from wallcheck.models import BlindNet, vgg_small
from wallcheck.prediction import predict_leakage

DRAWS = 1500


@dataclass(frozen=True)
class Case:
    """A random network of THEORY.md: one convolution, pooling, a wall, fully connected layers without bias."""

    filters: int
    image: int
    kernel: int
    stride: int
    pad: int
    pool: int
    side: str
    hidden_cells: int
    widths: tuple[int, ...] = ()
    tau: float = 0.7

    @property
    def cells(self) -> int:
        return lengths([Layer.square(self.kernel, self.stride, self.pad).rows], self.image)[-1]

    def net(self) -> BlindNet:
        shape = (self.cells, self.cells)
        wall = (
            Wall.behind(self.side, shape, self.hidden_cells)
            if self.side != "centre"
            else Wall.centre(shape, self.hidden_cells)
        )
        features = nn.Sequential(nn.Conv2d(3, self.filters, self.kernel, self.stride, self.pad, bias=False), nn.ReLU())
        head: list[nn.Module] = [nn.MaxPool2d(self.pool)] if self.pool > 1 else []
        (top, bottom), (left, right) = wall.box
        seen = int(wall.seen.sum()) if not wall.is_box else (bottom - top) // self.pool * ((right - left) // self.pool)
        inputs = seen * self.filters
        head.append(nn.Flatten())
        for width in self.widths:
            head += [nn.Linear(inputs, width, bias=False), nn.ReLU()]
            inputs = width
        return BlindNet(
            features, nn.Sequential(*head, nn.Linear(inputs, 10, bias=False)), wall, (self.image, self.image)
        ).eval()

    @property
    def n_seen(self) -> int:
        linear = next(m for m in self.net().head if isinstance(m, nn.Linear))
        return linear.in_features // self.filters


CASES = [
    Case(filters=1, image=9, kernel=3, stride=1, pad=0, pool=1, side="bottom", hidden_cells=4),
    Case(filters=2, image=10, kernel=2, stride=1, pad=0, pool=2, side="top", hidden_cells=4),
    Case(filters=5, image=11, kernel=3, stride=2, pad=1, pool=1, side="left", hidden_cells=3),
    Case(filters=3, image=9, kernel=3, stride=1, pad=1, pool=1, side="centre", hidden_cells=2),
    Case(filters=12, image=8, kernel=3, stride=1, pad=1, pool=2, side="right", hidden_cells=5, widths=(3,)),
    Case(filters=14, image=9, kernel=2, stride=1, pad=1, pool=3, side="bottom", hidden_cells=6, widths=(4, 2)),
    Case(filters=12, image=8, kernel=3, stride=1, pad=0, pool=1, side="bottom", hidden_cells=2, widths=(6, 3, 5)),
]


def redraw(module: nn.Module, draw: torch.Generator, tau: float) -> None:
    for parameter in module.parameters():
        parameter.data.copy_(tau * torch.randn(parameter.shape, generator=draw))


def image_of(case: Case, seed: int) -> torch.Tensor:
    return torch.randn(1, 3, case.image, case.image, generator=torch.Generator().manual_seed(seed))


def patch_norms(case: Case, image: torch.Tensor) -> np.ndarray:
    patches = nn.functional.unfold(image, case.kernel, stride=case.stride, padding=case.pad)
    return patches.norm(dim=1).view(case.cells, case.cells).numpy()


@cache
def z_map(number: int) -> np.ndarray:
    """z-scores (h, w) of Grad-CAM's mean over redrawn networks of a case against claim T2."""
    case = CASES[number]
    net, image, draw = case.net(), image_of(case, number), torch.Generator().manual_seed(100 + number)
    maps = []
    for _ in range(DRAWS):
        redraw(net, draw, case.tau)
        maps.append(METHODS["gradcam"](Evidence(net, image, targets=[0]))[0].clamp(min=0))
    maps = torch.stack(maps).double().numpy()
    taus = (case.tau,) * (len(case.widths) + 1)
    expected = expected_gradcam(
        patch_norms(case, image), case.n_seen, case.cells**2, case.tau, taus, case.widths, case.filters
    )
    return (maps.mean(0) - expected) / (maps.std(0, ddof=1) / DRAWS**0.5)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_gradcam_of_the_library_has_the_expectation_of_T2_at_every_cell(number):
    """Cells of one map are correlated, so every |z| < 4 is asked, not a distribution."""
    assert np.abs(z_map(number)).max() < 4


def test_one_cell_of_each_network_gives_standard_normal_scores():
    maps = map(z_map, range(len(CASES)))
    one_each = [z[i % z.shape[0], (3 * i) % z.shape[1]] for i, z in enumerate(maps)]
    assert kstest(one_each, "norm").pvalue > 0.01


@pytest.fixture(scope="module", params=["untrained", "trained"])
def backbone(request):
    net = {"untrained": tiny, "trained": trained_tiny}[request.param]()
    return request.param, net


def random_heads(
    net: BlindNet,
    image: torch.Tensor,
    methods: list[str],
    target: int | None,
    tau: float,
    draws: int,
    hidden: int | None,
):
    """Raw maps (draws, h, w) per method and the net, with a fresh bias-free head for each draw behind the same activations."""
    seen = int(net.wall.seen.sum()) * 8
    layers = (
        [nn.Flatten(), nn.Linear(seen, 10, bias=False)]
        if hidden is None
        else [nn.Flatten(), nn.Linear(seen, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, 10, bias=False)]
    )
    net = BlindNet(net.features, nn.Sequential(*layers), net.wall, net.image_size).eval()
    draw, activations = torch.Generator().manual_seed(9), Evidence(net, image).activations
    maps = {name: [] for name in methods}
    for _ in range(draws):
        redraw(net.head, draw, tau)
        evidence = Evidence(net, image, targets=None if target is None else [target])
        evidence.activations = activations
        for name in methods:
            maps[name].append(METHODS[name](evidence)[0])
    return {name: torch.stack(values).double() for name, values in maps.items()}, Evidence(net, image, targets=[0])


@pytest.mark.parametrize("hidden", [None, 5])
def test_random_heads_on_any_backbone_follow_T3(backbone, hidden):
    net, image = backbone[1], photos(1, seed=21)[0]
    maps, ev = random_heads(net, image, ["gradcam"], 0, 0.5, 1500, hidden)
    shown = maps["gradcam"].clamp(min=0)
    norms = ev.activations[0].norm(dim=0).double().numpy()
    taus, widths = ((0.5,), ()) if hidden is None else ((0.5, 0.5), (hidden,))
    expected = theory.any_backbone.expected_gradcam(norms, int(net.wall.seen.sum()), ev.cells, taus, widths)
    alive = norms > 0
    z = (shown.mean(0).numpy() - expected)[alive] / (shown.std(0).numpy()[alive] / 1500**0.5)
    assert np.abs(z).max() < 4
    assert torch.count_nonzero(shown[:, ~torch.from_numpy(alive)]) == 0


def test_predicted_leakage_is_the_leakage_of_the_mean_map_of_random_heads(backbone):
    net, image = backbone[1], photos(1, seed=22)[0]
    maps, ev = random_heads(net, image, ["gradcam"], 0, 0.5, 4000, None)
    shown = maps["gradcam"].clamp(min=0)
    unseen = ev.unseen
    predicted = predict_leakage(net, image).query("on == 'grid'").set_index("metric")["predicted"]
    mass = shown.mean(0)[unseen].sum() / shown.mean(0).sum()
    energy = shown.square().mean(0)[unseen].sum() / shown.square().mean(0).sum()
    assert abs(mass - predicted["leak_mass"]) < 0.02
    assert abs(energy.sqrt() - predicted["leak_l2"]) < 0.02


@pytest.mark.parametrize("name", ["gradcam", "xgradcam", "ablationcam", "liftcam"])
def test_half_of_the_unseen_cells_light_up_as_T4_says(backbone, name):
    net, image = backbone[1], photos(1, seed=23)[0]
    maps, ev = random_heads(net, image, [name], 0, 0.5, 1000, None)
    living = (ev.activations[0].amax(0) > 0) & ev.unseen
    i, j = living.nonzero()[len(living.nonzero()) // 2].tolist()
    positive = int((maps[name][:, i, j] > 0).sum())
    assert binom.ppf(1e-4, 1000, 0.5) <= positive <= binom.ppf(1 - 1e-4, 1000, 0.5)


def test_the_predicted_class_leaks_as_often_as_T5_says(backbone):
    net, image = backbone[1], photos(1, seed=24)[0]
    maps, ev = random_heads(net, image, ["gradcam"], None, 0.5, 1500, None)
    A = ev.activations[0].double()
    read = A[:, torch.from_numpy(net.wall.seen.copy())]  # (K, n)
    q = (read.sum(1)[:, None, None] * A).sum(0).numpy()
    norms = A.norm(dim=0).numpy()
    alive = np.argwhere((norms > 0) & net.wall.unseen)
    for i, j in alive[:: max(1, len(alive) // 6)]:
        rho = theory.predicted_class.correlation(q[i, j], norms[i, j], float(read.norm()), read.shape[1])
        probability = float(theory.predicted_class.probability_positive_predicted(rho, 10))
        positive = int((maps["gradcam"][:, i, j] > 0).sum())
        assert binom.ppf(1e-4, 1500, probability) <= positive <= binom.ppf(1 - 1e-4, 1500, probability)
        assert probability > 0.5


def test_seen_cells_of_local_methods_have_the_means_of_T7(backbone):
    net, image = backbone[1], photos(1, seed=25)[0]
    maps, ev = random_heads(net, image, ["hirescam", "layercam"], 0, 0.5, 1500, None)
    A, seen = ev.activations[0].double(), net.wall.seen
    expected = {
        "hirescam": theory.families.expected_hirescam(A.norm(dim=0).numpy(), (0.5,), ()),
        "layercam": theory.families.expected_layercam(A.sum(0).numpy(), (0.5,), ()),
    }
    for name, mean in expected.items():
        shown = maps[name].clamp(min=0).numpy()
        alive = seen & (A.amax(0).numpy() > 0)
        z = (shown.mean(0) - mean)[alive] / (shown.std(0, ddof=1)[alive] / 1500**0.5)
        assert np.abs(z).max() < 4
        assert np.count_nonzero(maps[name][:, net.wall.unseen]) == 0


def test_gradcampp_leaks_with_the_probability_of_T7():
    """One seen cell and few channels, so that the probability is not almost 1."""
    features = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1, bias=False), nn.ReLU())
    cells = np.zeros((4, 4), dtype=bool)
    cells[0, 0] = True
    net = BlindNet(features, nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False)), Wall(cells), (4, 4)).eval()
    image, draw = image_of(Case(1, 4, 3, 1, 1, 1, "top", 1), 3), torch.Generator().manual_seed(4)
    redraw(net.features, torch.Generator().manual_seed(5), 1.0)  # not torch's own draw: some cell must have two living
    with torch.no_grad():
        living = (net.activations(image)[0] > 0).sum(0)
    i, j = ((living == 2) & ~torch.from_numpy(cells)).nonzero()[0].tolist()
    leaks = 0
    for _ in range(1000):
        redraw(net.head, draw, 1.0)
        leaks += int(METHODS["gradcampp"](Evidence(net, image, targets=[0]))[0, i, j] > 0)
    probability = theory.families.leak_probability_plus_plus(n_seen=1, living=2)
    assert binom.ppf(1e-4, 1000, probability) <= leaks <= binom.ppf(1 - 1e-4, 1000, probability)


def test_masking_metrics_cannot_notice_what_a_map_says_about_unseen_pixels():
    """T8 on the library's default net: score of the masked image, bit for bit."""
    net = vgg_small().eval()
    draw = torch.Generator().manual_seed(0)
    image = torch.randn(4, 3, 96, 96, generator=draw)
    one = torch.rand(4, 1, 96, 96, generator=draw)
    other = torch.where(torch.from_numpy(net.regions.unseen.copy()), torch.rand(4, 1, 96, 96, generator=draw), one)
    with torch.no_grad():
        assert torch.equal(net(image * one), net(image * other))
        assert not torch.equal(net(image * one), net(image))

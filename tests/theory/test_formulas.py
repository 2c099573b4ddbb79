"""The functions that users and wallcheck's tests call: hand-computed numbers, limits, shapes and invariances."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

import theory
from theory import (
    any_backbone,
    attention,
    attention_walls,
    before_relu,
    blind_metrics,
    chi,
    empty_head,
    exact_expectation,
    families,
    half_of_unseen,
    orthants,
    predicted_class,
)
from theory.geometries import pick_cells, random_geometry
from theory.networks import Head, Stem, chunks
from theory.proofs import identity
from theory.statistics import ZScores, z_score

THEORY = Path(theory.__file__).parent


def test_theory_imports_nothing_from_wallcheck():
    for path in THEORY.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in ("wallcheck", "data_gen") for name in names), path.name


@pytest.mark.parametrize("module", [path.stem for path in THEORY.glob("*.py") if not path.stem.startswith("_")])
def test_doctests_of(module):
    import doctest
    from importlib import import_module

    assert doctest.testmod(import_module(f"theory.{module}")).failed == 0


def test_the_guided_text_computes_what_it_says():
    import doctest

    assert doctest.testfile(str(THEORY / "README.md"), module_relative=False).failed == 0


def test_the_guided_text_shows_existing_figures():
    import re

    shown = re.findall(r"\]\((figures/[^)]+)\)", (THEORY / "README.md").read_text())
    assert len(shown) >= 9
    for figure in shown:
        assert 0 < (THEORY / figure).stat().st_size < 200_000


def test_unknown_module_lists_the_known_ones():
    with pytest.raises(AttributeError, match="any_backbone"):
        theory.no_such_claim  # noqa: B018


@pytest.mark.parametrize("m", [1, 2, 7, 100, 4096])
def test_kappa_by_sum_and_by_integral(m):
    assert chi.kappa(m) == pytest.approx(chi.kappa_by_integral(m), rel=1e-9)


def test_kappa_series_gains_an_order_per_term():
    errors = [[abs(chi.kappa_series(m, terms) / chi.kappa(m) - 1) for m in (50, 100)] for terms in (1, 2, 3)]
    for order, (near, far) in enumerate(errors, start=1):
        assert near / far == pytest.approx(2**order, rel=0.15)


def test_kappa_refuses_an_empty_layer():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        chi.kappa(0)


def test_expectation_is_t3_at_the_mean_channel_norm():
    patches = np.array([[0.0, 1.0], [2.0, 0.5]])
    direct = exact_expectation.expected_gradcam(patches, 5, 16, 0.7, (0.3, 1.2), (4,), 3)
    through = any_backbone.expected_gradcam(0.7 * patches * chi.kappa(3), 5, 16, (0.3, 1.2), (4,))
    assert direct.shape == (2, 2)
    np.testing.assert_allclose(direct, through, rtol=1e-14)
    assert direct[0, 0] == 0


def test_leak_share_by_hand():
    norms = np.array([[3.0, 0.0], [0.0, 4.0]])
    unseen = np.array([[False, False], [True, True]])
    assert any_backbone.leak_share(norms**2, unseen) == pytest.approx(16 / 25)
    assert any_backbone.predicted_leak_l2(norms, unseen) == pytest.approx(4 / 5)
    several = np.stack([norms, 2 * norms])
    assert any_backbone.predicted_leak_l2(torch.tensor(several), torch.tensor(unseen)).item() == pytest.approx(4 / 5)


def test_constant_map_on_the_paper_geometry():
    unseen = np.zeros((224, 224), dtype=bool)
    unseen[170:] = True
    assert any_backbone.predicted_leak_l2(np.ones((224, 224)), unseen) == pytest.approx(0.491, abs=5e-4)


def test_half_needs_living_layers():
    assert half_of_unseen.probability_positive(()) == 0.5
    assert half_of_unseen.probability_positive((4096, 4096)) == pytest.approx(0.5)
    assert half_of_unseen.probability_positive((1, 1)) == pytest.approx(0.125)


@pytest.mark.parametrize(("classes", "mean"), [(1, 0.0), (2, 1 / np.pi**0.5), (3, 1.5 / np.pi**0.5), (10, 1.53875)])
def test_mean_of_largest(classes, mean):
    assert predicted_class.mean_of_largest(classes) == pytest.approx(mean, abs=1e-5)


def test_predicted_class_limits():
    rho = np.linspace(0, 1, 9)
    for classes in (2, 10, 1000):
        probability = predicted_class.probability_positive_predicted(rho, classes)
        assert probability[0] == pytest.approx(0.5)
        assert probability[-1] == pytest.approx(1 - 0.5**classes)
        assert (np.diff(probability) > -1e-12).all()
    three = predicted_class.probability_positive_predicted(rho, 3)
    np.testing.assert_allclose(three, 0.5 + 1.5 * np.arcsin(rho / 2**0.5) / np.pi, atol=1e-9)


def test_orthants_and_moments_at_known_angles():
    assert orthants.orthant2(0.0) == pytest.approx(0.25)
    assert orthants.orthant3(0.0, 0.0, 0.0) == pytest.approx(0.125)
    assert before_relu.arc_cosine(0.0) == pytest.approx(0.5)
    assert before_relu.arc_cosine(np.pi / 2) == pytest.approx(0.25)
    assert before_relu.arc_cosine(np.pi) == pytest.approx(0.0)


def test_a_window_of_two_equal_patches_is_a_window_of_one():
    patch, other = np.array([1.0, 0.2, -0.5]), np.array([0.3, -1.0, 0.8])
    for rectified in (False, True):
        one = before_relu.selected_moment(patch, other[None], rectified)
        two = before_relu.selected_moment(patch, np.stack([other, 2 * other]), rectified)
        assert one == pytest.approx(two, rel=5e-3)


def test_signed_moment_without_pooling_ignores_the_angle():
    rng = np.random.default_rng(0)
    patch = rng.normal(size=4)
    for _ in range(5):
        assert before_relu.selected_moment(patch, rng.normal(size=(1, 4))) == pytest.approx(patch @ patch / 2)


def test_lost_share_limits():
    ahead = np.array([[1.0, 0.0]])
    assert empty_head.lost_share(np.array([1.0, 0.0]), ahead, filters=1) == pytest.approx(0, abs=1e-9)
    assert empty_head.lost_share(np.array([-1.0, 0.0]), ahead, filters=1) == pytest.approx(1)
    many = [empty_head.lost_share(np.array([-1.0, 0.3]), ahead, filters) for filters in (1, 4, 16)]
    assert many[0] > many[1] > many[2]
    assert all(lost <= empty_head.lost_bound(filters) for lost, filters in zip(many, (1, 4, 16), strict=True))
    assert empty_head.lost_bound(64) < 1e-18


def test_families_by_hand():
    assert families.variance_linear([3.0, 4.0], [2.0, 0.5], tau=2.0) == pytest.approx(4 * (9 * 2 + 16 * 0.5))
    assert families.expected_hirescam(5.0, (2.0,), ()) == pytest.approx(10 / (2 * np.pi) ** 0.5)
    assert families.leak_probability_plus_plus(49, 0) == 0
    assert families.leak_probability_plus_plus(245, 256) == 1, "also where 2^n is no float"


def test_auc_by_hand():
    curve = (0.0, 0.5, 1.0)
    assert blind_metrics.auc_unseen_anywhere(curve) == pytest.approx(0.5)
    assert blind_metrics.auc_unseen_first(curve, 2) == pytest.approx(1.5 / 5)
    assert blind_metrics.auc_unseen_last(curve, 2) == pytest.approx(3.5 / 5)


def test_covered_cells_and_unseen_pixels():
    stem = Stem(torch.zeros(1, 5, 5), filters=1, tau=1.0, kernel=2)  # 4x4 cells
    head = Head(torch.tensor([[True, True], [False, False]]), taus=(1.0,), pool=2)
    assert head.covered(stem.grid).sum(1).tolist() == [4, 4, 0, 0]
    assert blind_metrics.unseen_pixels(stem, head).sum(1).tolist() == [0, 0, 0, 5, 5]
    dropped = Head(torch.ones(1, 1, dtype=torch.bool), taus=(1.0,), pool=3)
    assert dropped.covered(stem.grid).sum().item() == 9, "the border that pooling drops is unseen"


def test_patches_are_those_of_the_convolution():
    generator = torch.Generator().manual_seed(0)
    stem = random_geometry(3, generator).stem
    weights = torch.randn(stem.patches.shape[1], generator=generator)
    by_patch = (stem.patches @ weights).reshape(stem.grid)
    kernel = weights.reshape(1, -1, stem.kernel, stem.kernel)
    by_conv = torch.nn.functional.conv2d(stem.image[None], kernel, stride=stem.stride, padding=stem.padding)
    torch.testing.assert_close(by_patch, by_conv[0, 0])


def test_picked_cells_alternate_and_are_usable():
    covered = torch.tensor([[True, True, True], [False, False, False]])
    usable = torch.tensor([[True, True, False], [True, False, True]])
    cells = pick_cells(covered, usable, 4, torch.Generator().manual_seed(1))
    assert sorted(cells) == [(0, 0), (0, 1), (1, 0), (1, 2)]
    assert [row for row, _ in cells] == [0, 1, 0, 1]


def test_chunks_cover_all_draws():
    assert sum(chunks(1001, 300, budget=10_000)) == 1001
    assert list(chunks(2, 10**9)) == [1, 1]


def test_z_scores_notice_what_is_wrong():
    generator = torch.Generator().manual_seed(0)
    right = ZScores.of(torch.randn(200, generator=generator).tolist())
    assert right.agree
    assert not ZScores.of(right.values + 0.5).agree, "shifted"
    assert not ZScores.of(right.values * 1.5).agree, "too wide"
    assert not ZScores.of(right.values * 0.6).agree, "too narrow"
    assert not ZScores.of([*right.values[1:], 6.0]).agree, "one far off"
    assert z_score(torch.zeros(5), 0.0) == 0.0
    assert z_score(torch.ones(5), 0.0) == float("inf")
    with pytest.raises(ValueError, match="no NaN"):
        ZScores.of([0.0, float("nan")])


def test_identity_tells_equal_from_close():
    import sympy as sp

    x = sp.symbols("x", positive=True)
    assert identity("square", (x + 1) ** 2, x**2 + 2 * x + 1).holds
    assert not identity("almost", x, x + sp.Rational(1, 10**12)).holds
    assert not identity("list", [x, x], [x, 2 * x]).holds


# -- T9 -------------------------------------------------------------------------------------------


def test_what_is_left_of_a_token_by_hand():
    rows, token = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[3.0], [4.0], [0.0]])
    weights, rest = attention_walls.parted(rows, token)
    assert weights.item() == pytest.approx(1.5) and float(rest) == pytest.approx(16)
    both = torch.eye(3)[:2]
    assert float(attention_walls.parted(both, token)[1]) == pytest.approx(0, abs=1e-5)


def test_legrad_leaks_the_share_of_length_that_is_unseen():
    norms, unseen = np.array([1.0, 2.0, 3.0, 2.0]), np.array([False, False, True, True])
    assert attention_walls.leak_share(norms, unseen) == pytest.approx(5 / 8)
    assert attention_walls.leak_share(np.ones(4), unseen) == 0.5


def test_moments_of_T9_grow_with_length_and_share_as_they_should():
    shared = (0.6, 0.4, 3, 5, (0.7, 0.9), (4,))
    one = attention_walls.expected_positive(1.0, 1.0, *shared)
    assert attention_walls.expected_positive(np.array([2.0, 6.0]), 0.5, *shared) == pytest.approx([one, 3 * one])
    square = attention_walls.second_moment(1.0, 1.0, *shared)
    assert square == pytest.approx(0.36 * 3 * 0.16 * 5 * 0.49 * 2 * 0.81)
    assert one**2 < square / 2  # Jensen


@pytest.mark.parametrize("index", range(12))
def test_blocks_of_T9_do_not_attend_across_and_cover_what_they_should(index):
    block = attention.random_block(index, torch.Generator().manual_seed(index))
    assert torch.count_nonzero(block.probabilities[:, block.seen][..., ~block.seen]) == 0
    assert block.probabilities.sum(-1) == pytest.approx(torch.ones(block.probabilities.shape[:2]))
    assert float(block.read.sum()) == pytest.approx(1) and not block.read[~block.seen].any()
    assert (block.read[0] == 1) == (index % 2 == 0) and (~block.seen).any()

"""What docstrings say of zeros: a score of 0, weights that are all equal, classes that nothing speaks for, flat images."""

import pytest
import torch
from torch import nn

from tests.nets import photos, tiny
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.numerics import unit_scale


def evidence_with_last_layer(weight, bias, images=None):
    """`tiny` whose last layer has one weight and one bias throughout."""
    net = tiny()
    last = [module for module in net.head if isinstance(module, nn.Linear)][-1]
    nn.init.constant_(last.weight, weight)
    nn.init.constant_(last.bias, bias)
    return Evidence(net, photos(2)[0] if images is None else images, targets=[1, 2])


def test_published_ablation_of_a_score_of_zero_is_empty_and_the_plain_one_too():
    evidence = evidence_with_last_layer(0.0, 0.0)
    assert torch.count_nonzero(evidence.score) == 0
    for name in ("ablationcam_published", "ablationcam"):
        assert torch.count_nonzero(METHODS[name](evidence)) == 0


def test_fdcam_of_equal_weights_is_minus_half_of_all_channels():
    evidence = evidence_with_last_layer(0.0, 1.0)
    torch.testing.assert_close(METHODS["fdcam"](evidence), -evidence.activations.sum(1) / 2)


@pytest.mark.parametrize("name", ["excitationbp", "layercam", "guidedbp", "gradcampp"])
def test_a_class_that_nothing_speaks_for_has_an_empty_map(name):
    """Weights that are negative throughout, below a layer without negative weights: every slope is negative."""
    evidence = evidence_with_last_layer(-0.3, 0.0)
    first = next(module for module in evidence.net.head if isinstance(module, nn.Linear))
    first.weight.data.abs_()
    first.bias.data.zero_()
    assert (evidence.score < 0).all()
    assert torch.count_nonzero(METHODS[name](evidence)) == 0


def test_a_unit_without_positive_input_hands_no_relevance_on():
    evidence = evidence_with_last_layer(0.3, 0.0)
    first = next(module for module in evidence.net.head if isinstance(module, nn.Linear))
    first.weight.data = -first.weight.data.abs()  # no positive contribution to any unit
    first.bias.data.fill_(1e3)  # which all fire nevertheless
    evidence = Evidence(evidence.net, evidence.images, evidence.targets)
    assert torch.count_nonzero(METHODS["relevancecam"](evidence)) == 0


def test_an_image_of_one_value_has_no_noise():
    evidence = evidence_with_last_layer(0.3, 0.1, images=torch.full((2, 3, 24, 24), 0.5))  # whose mean is exact
    assert torch.count_nonzero(METHODS["expected_gradcam"](evidence)) == 0
    torch.testing.assert_close(METHODS["smooth_gradcampp"](evidence), METHODS["gradcampp"](evidence))
    torch.testing.assert_close(METHODS["smoothgrad"](evidence), METHODS["gradient"](evidence))


def test_a_flat_image_of_a_colour_has_noise():
    """The range is that of all pixels and colours: a black photograph, normalised colour by colour, is not of one value."""
    images = torch.tensor([-2.1, -2.0, -1.8])[:, None, None].expand(2, 3, 24, 24).clone()
    assert torch.count_nonzero(METHODS["expected_gradcam"](evidence_with_last_layer(0.3, 0.1, images))) > 0


POWERS = (
    "gradcampp_cubes", "gradcampp_undivided", "smooth_gradcampp", "smooth_gradcampp_last", "guidedgradcam", "squaregrad", "vargrad",
    "normgrad", "normgrad_scaling", "decomcam", "decomcam_authors",
)  # fmt: skip


@pytest.mark.parametrize("scale", [-100, 60])
@pytest.mark.parametrize("name", POWERS)
def test_powers_of_slopes_are_numbers_however_small_or_large_the_score(name, scale):
    """As in double precision throughout; a sure softmax makes slopes of 1e-30."""
    net = tiny()
    last = [module for module in net.head if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.mul_(2.0**scale)
        last.bias.mul_(2.0**scale)
    images = photos(2)[0]
    single = METHODS[name](Evidence(net, images, [1, 2]))
    double = METHODS[name](Evidence(net.double(), images, [1, 2]))
    one, two = (unit_scale(maps)[0] for maps in (single, double))
    assert two.any() and torch.isfinite(one).all()
    torch.testing.assert_close(one, two, rtol=0, atol=1e-2)

"""Contrasts as what is explained: a method explains them or says that it cannot."""

import pytest
import torch

from tests.nets import photos, suited, trained_tiny
from wallcheck.cams import METHODS
from wallcheck.cams.targets import finer
from wallcheck.evidence import Evidence

DEAF = {name for name, m in METHODS.items() if m.verdict == "class_free" or m.family == "control"} | {
    "sealed_eigencam", "raw_attention", "rollout", "rollout_max", "rollout_min",
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_finer_over_any_base_explains_the_contrast_or_says_that_it_cannot(name):
    evidence = Evidence(suited(METHODS[name], trained_tiny()), photos(2, seed=5)[0])
    plain = METHODS[name](evidence)
    try:
        contrast = finer(METHODS[name])(evidence)
    except ValueError as refusal:
        assert "this method asks for one class" in str(refusal)
    else:
        assert torch.equal(contrast, plain) == (name in DEAF)


def test_methods_that_go_by_gradient_or_rescored_channels_explain_a_contrast():
    evidence = Evidence(trained_tiny(), photos(2, seed=5)[0])
    for name in (
        "gradcam",
        "layercam",
        "liftcam",
        "ablationcam",
        "shapcam",
        "fullgrad",
        "gradient",
        "conceptor_gradcam",
    ):
        assert finer(METHODS[name])(evidence).isfinite().all()
    for name in ("scorecam", "groupcam", "opticam", "relevancecam", "rise", "excitationbp"):
        with pytest.raises(ValueError, match="asks for one class"):
            finer(METHODS[name])(evidence)

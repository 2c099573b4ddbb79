"""Leakage that counts along: torchmetrics' and Quantus's ways are the same number as a reading's."""

import pickle

import numpy as np
import pytest
import torch

from tests.nets import photos, tiny, trained_tiny
from wallcheck.adapters import quantus_leakage
from wallcheck.cams import METHODS
from wallcheck.evidence import Evidence
from wallcheck.handed import seen
from wallcheck.leakage_metric import LeakageMetric
from wallcheck.metrics import LEAKAGE


@pytest.fixture(scope="module")
def maps():
    return METHODS["gradcam"](Evidence(trained_tiny(), photos(6, seed=5)[0]))


def test_batches_add_up(maps):
    metric = LeakageMetric(trained_tiny())
    metric.update(maps[:4])
    metric.update(maps[4:, None].numpy())
    whole = seen(maps, trained_tiny()).leakage(LEAKAGE["leak_mass"])
    assert metric.compute().item() == pytest.approx(whole.mean().item(), rel=1e-12)
    metric.reset()
    metric.update(METHODS["hirescam"](Evidence(trained_tiny(), photos(2)[0])))
    assert metric.compute() == 0


def test_empty_maps_are_counted_and_never_clean(maps):
    metric = LeakageMetric(trained_tiny(), "leak_any")
    metric.update(torch.zeros(3, 12, 12))
    assert metric.compute().isnan() and metric.empty == 1
    metric.update(maps[:1])
    assert metric.compute() == 1 and metric.empty == 0.75


def test_it_can_be_sent_to_another_process(maps):
    metric = LeakageMetric(trained_tiny())
    metric.update(maps[:4])
    sent = pickle.loads(pickle.dumps(metric))
    for one in (metric, sent):
        one.update(maps[4:])
    assert sent.compute() == metric.compute()


def test_what_does_not_fit(maps):
    for nothing in (None, 0.5):
        with pytest.raises(TypeError, match=rf"got {type(nothing).__name__}, expected a tensor or an array"):
            LeakageMetric(trained_tiny()).update(nothing)
    with pytest.raises(ValueError, match="has no wall"):
        LeakageMetric(tiny(wall=None))
    with pytest.raises(ValueError, match="NaN or infinity"):
        LeakageMetric(trained_tiny()).update(maps * torch.nan)
    assert not list(LeakageMetric(trained_tiny()).parameters())


def test_a_metric_of_quantus(maps):
    quantus = pytest.importorskip("quantus", reason="pip install 'wallcheck[peers]'")
    net, (images, labels) = trained_tiny(), photos(6, seed=5)
    Leakage = quantus_leakage()
    assert issubclass(Leakage, quantus.Metric) and Leakage.score_direction.value == "lower"
    given = dict(model=net.model, x_batch=images.numpy(), y_batch=labels.numpy(), batch_size=4)
    saliency = Leakage(net)(**given, explain_func=quantus.explain, explain_func_kwargs={"method": "Gradient"})
    assert saliency == [0] * 6
    enlarged = torch.nn.functional.interpolate(maps[:, None], (24, 24), mode="bilinear")
    found = Leakage(net)(**given, a_batch=enlarged.numpy())
    np.testing.assert_allclose(found, seen(maps, net).leakage(LEAKAGE["leak_mass"]), atol=1e-5)

"""What is explained is what runs: hooks, replaced forwards, parametrizations, precision; and weights changed in between."""

import copy
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.utils import prune, weight_norm

from tests.leaky import behind_bottom
from tests.nets import SIZE, photos, tiny, trained_tiny
from wallcheck.auditing import audit
from wallcheck.cams import METHODS
from wallcheck.certificate import certify
from wallcheck.evidence import Evidence
from wallcheck.geometry import Wall
from wallcheck.reading import leakage


def hooked(place, hook, before=False):
    net = behind_bottom()
    module = net.get_submodule(place)
    (module.register_forward_pre_hook if before else module.register_forward_hook)(hook)
    return net


def leaky_by_hand():
    net = behind_bottom()
    net.features[1].forward = lambda maps: torch.nn.functional.leaky_relu(maps, 0.3)
    return net


def pruned():
    net = behind_bottom()
    prune.l1_unstructured(net.features[0], "weight", amount=0.6)
    return net


def weight_normed():
    net = behind_bottom()
    weight_norm(net.features[0])
    return net


CHANGED = {
    "ReLU clipped by a hook": lambda: hooked("features.1", lambda module, given, out: out.clamp(max=0.5)),
    "hook on a convolution": lambda: hooked("features.0", lambda module, given, out: 2 * out - 0.3),
    "hook on the last convolution": lambda: hooked("features.3", lambda module, given, out: 0.1 * out),
    "hook before the features": lambda: hooked("features", lambda module, given: (0.5 * given[0],), before=True),
    "hook on the features": lambda: hooked("features", lambda module, given, out: 3 * out),
    "hook in the head": lambda: hooked("head.0", lambda module, given, out: 0.2 * out - 1),
    "hook on the head": lambda: hooked("head", lambda module, given, out: out.flip(1)),
    "hook on the net": lambda: hooked("", lambda module, given, out: out.flip(1)),
    "forward replaced": leaky_by_hand,
    "pruned": pruned,
    "weight norm": weight_normed,
}


@pytest.mark.parametrize("how", CHANGED)
def test_whatever_the_net_runs_is_what_is_explained(how):
    net, images = CHANGED[how](), photos(4, seed=1)[0]
    evidence = Evidence(net, images)
    assert certify(net, seeds=1, images=1).holds
    with torch.no_grad():
        torch.testing.assert_close(evidence.activations, net.activations(images), rtol=0, atol=1e-6)
        for logits in (evidence.logits, evidence.rescore_images(lambda part: images[part], 4), net.model(images)):
            torch.testing.assert_close(logits, net(images), rtol=0, atol=1e-6)
        torch.testing.assert_close(net.shortcut(images), net(images), rtol=0, atol=1e-6)
        switched = 1 - torch.eye(8)
        each = [evidence.of_target(evidence.rescore(evidence.activations * row[:, None, None])) for row in switched]
    torch.testing.assert_close(evidence.rescore_channels(switched), torch.stack(each, 1), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "build, name", [(behind_bottom, "weight"), (pruned, "weight_orig"), (weight_normed, "weight_g")]
)
def test_weights_changed_under_a_kept_graph_are_met(build, name):
    """Through `.data`, which no version counts, also where the graph holds a product of them."""
    net, images = build(), photos(2)[0]
    before = net.activations(images)
    getattr(net.features[0], name).data.mul_(2)
    with torch.no_grad():
        assert not torch.equal(net.activations(images), before)
        torch.testing.assert_close(Evidence(net, images).logits, net(images), rtol=0, atol=1e-6)


def test_a_graph_is_kept_behind_a_wall_of_any_shape_where_weights_alone_change():
    """What such a wall takes from where is computed of whole numbers, and of no weight."""
    seen = np.zeros((12, 12), dtype=bool)
    seen[1:5, 2:8] = seen[9, 9] = True
    net, images = behind_bottom(wall=Wall(seen)), photos(2)[0]
    kept, before = net.graph, net.logits_from(net.activations(images))
    net.features[0].weight.data.mul_(2)
    with torch.no_grad():
        now = Evidence(net, images).logits
        assert net.graph is kept and not torch.equal(now, before)
        torch.testing.assert_close(now, net(images), rtol=0, atol=1e-6)


class Settled(torch.nn.ReLU):
    """A ReLU with settings of every kind that people keep, and buffers that say what is taken from where."""

    factor = 1.0

    def __init__(self):
        super().__init__()
        self._hidden, self.told, self.options, self.array = 1.0, {"a": 1.0}, SimpleNamespace(a=1.0), np.ones(1)
        self.register_buffer("order", torch.arange(SIZE))
        self.register_buffer("gate", torch.ones(SIZE, 1))

    def forward(self, maps):
        by = self._hidden * self.told["a"] * self.options.a * float(self.array[0]) * self.factor
        return torch.where(self.gate > 0, by * maps[:, :, self.order + 0].relu(), 0)


CHANGES = {
    "a hidden setting": lambda module: setattr(module, "_hidden", 2.0),
    "a dictionary": lambda module: module.told.update(a=2.0),
    "a namespace": lambda module: setattr(module.options, "a", 2.0),
    "an array": lambda module: module.array.fill(2.0),
    "a setting of its class": lambda module: setattr(type(module), "factor", 2.0),
    "whole numbers by .data": lambda module: module.order.data.copy_(module.order.flip(0)),
    "whole numbers by numpy": lambda module: np.copyto(module.order.numpy(), module.order.numpy()[::-1].copy()),
    "a mask made of a buffer": lambda module: module.gate.data[:3].neg_(),
}


@pytest.mark.parametrize("how", CHANGES)
def test_settings_changed_under_a_kept_graph_are_met(how):
    net, images = behind_bottom(act=type("Settled", (Settled,), {})()), photos(2)[0]
    before = net.activations(images)
    CHANGES[how](net.features[1])
    with torch.no_grad():
        assert not torch.equal(net.activations(images), before)
        torch.testing.assert_close(Evidence(net, images).logits, net(images), rtol=0, atol=1e-6)
    assert np.array_equal(net.regions.unseen, net.exported().regions.unseen)


def by_hooks(net, change):
    handle = net.features[1].register_forward_hook(lambda module, given, out: change(out))
    yield
    handle.remove()


def by_global_hooks(net, change):
    told = torch.nn.modules.module.register_module_forward_hook(
        lambda module, given, out: change(out) if isinstance(module, torch.nn.ReLU) else None
    )
    yield
    told.remove()


def by_forwards(net, change):
    net.features[1].forward = lambda maps: change(maps.relu())
    yield
    del net.features[1].forward


def by_a_class(net, change):
    Plain.forward = lambda self, maps: change(maps.relu())
    yield
    del Plain.forward


class Plain(torch.nn.ReLU):
    pass


@pytest.mark.parametrize("way", [by_hooks, by_global_hooks, by_forwards, by_a_class], ids=lambda f: f.__name__)
def test_one_change_after_another_is_met_though_it_stands_in_the_same_place_of_memory(way):
    net, images = behind_bottom(act=Plain()), photos(2)[0]
    for factor in (1.0, 2.0, 3.0):
        for _ in way(net, lambda out, factor=factor: factor * out):
            with torch.no_grad():
                torch.testing.assert_close(Evidence(net, images).logits, net(images), rtol=0, atol=1e-6)


def test_the_shortcut_is_the_whole_net_once_its_layers_were_changed():
    net, images = behind_bottom(), photos(2)[0]
    assert torch.allclose(net.shortcut(images), net(images), rtol=0, atol=1e-6)
    handle = net.features[1].register_forward_hook(lambda module, given, out: out - out.mean((2, 3), keepdim=True))
    assert torch.allclose(net.shortcut(images), net(images), rtol=0, atol=1e-6)
    handle.remove()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_net_in_half_precision_is_proved_and_explained_in_float32(dtype):
    """On its own rounded weights: as the same weights in float32, whatever operation lacks the type."""
    half = copy.deepcopy(trained_tiny()).to(dtype)
    same = copy.deepcopy(half).float()
    images = photos(3, seed=1)[0]
    assert certify(half, seeds=1).holds
    one, two = Evidence(half, images), Evidence(same, images)
    assert one.logits.dtype == torch.float32 and torch.equal(one.logits, two.logits)
    for name in ("gradcam", "scorecam", "liftcam", "eigencam", "integrated_gradients"):
        torch.testing.assert_close(METHODS[name](one), METHODS[name](two))
    assert {p.dtype for p in half.parameters()} == {dtype}


def test_autocast_around_the_caller_changes_nothing():
    evidence = Evidence(trained_tiny(), photos(3, seed=1)[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = Evidence(evidence.net, evidence.images)
        for name in ("gradcam", "scorecam", "liftcam", "deeplift"):
            assert torch.equal(METHODS[name](inside), METHODS[name](evidence))


# What a caller has chosen for code of his own


DRAWING = ("random", "sobol", "kernelshap", "smooth_gradcampp_last", "augmented_gradcam", "expected_gradcam", "gradcam")


@contextmanager
def double_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CHOICES = {
    "inference": torch.inference_mode,
    "double": double_by_default,
    "device": lambda: torch.device("meta"),  # as "cuda" on a machine without one
    "no_grad": torch.no_grad,
}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_callers_defaults_and_modes_change_no_row(choice):
    net, images = copy.deepcopy(trained_tiny()), photos(2, seed=3)[0]
    plain = audit(net, images, DRAWING, metrics=["leak_mass"])
    with CHOICES[choice]():
        dtype, device = torch.get_default_dtype(), torch.get_default_device()
        inside = audit(net, images, DRAWING, metrics=["leak_mass"])
        assert (torch.get_default_dtype(), torch.get_default_device()) == (dtype, device)
    assert plain.equals(inside) and not inside.attrs["failures"]


def test_a_function_of_the_callers_has_the_callers_defaults_back():
    seen = []

    def explain(model, images, targets):
        seen.append((torch.get_default_dtype(), torch.get_default_device().type))
        return images.abs().sum(1)

    net, images = trained_tiny(), photos(2, seed=3)[0]
    with double_by_default(), torch.device("meta"):
        leakage(explain, net, images)
    assert set(seen) == {(torch.float64, "meta")}


def test_weights_sealed_by_inference_mode_are_refused_in_words():
    with torch.inference_mode():
        net = tiny()
    with pytest.raises(ValueError, match=r"made inside torch.inference_mode.*build or load the network outside"):
        leakage("gradcam", net, photos(2)[0])


def test_a_net_of_types_that_no_layer_takes_does_not_run():
    net = tiny()
    net.features.bfloat16()
    net.head.double()
    with pytest.raises(ValueError, match=r"BlindNet does not run on images .*same dtype"):
        leakage("gradcam", net, photos(2)[0])


def test_a_net_that_gives_nan_is_told_so():
    net = tiny()
    net.head.append(torch.nn.Threshold(1e9, float("nan")))
    with pytest.raises(ValueError, match="the network gives NaN or infinity on noise"):
        leakage("gradcam", net, photos(2)[0])

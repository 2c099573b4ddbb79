"""Any explainer through one door: what it takes, what it is given, what it leaves behind."""

import logging
import random
import sys
import warnings
from functools import partial

import numpy as np
import pytest
import torch

from tests.adapters.explainers import gradient, leave_a_hook, unit
from tests.nets import tiny
from wallcheck.adapters import LeftBehind, foreign
from wallcheck.auditing import Incomplete, audit
from wallcheck.cams import METHODS
from wallcheck.reading import leakage
from wallcheck.switches import SWITCHES


def through(explain, evidence):
    return foreign(explain, evidence.net, evidence.images)


# -- what it takes --------------------------------------------------------------------------------


class Held:
    """An explainer that keeps its model."""

    def __init__(self, model, target_layer=None):
        self.model, self.layer = model, target_layer

    def __call__(self, inputs, target):
        return gradient(self.model, inputs, target)


def by_name(*, x, y, network):
    return gradient(network, x, y)


def of_arrays(model, inputs, targets, **kwargs):
    return gradient(model, inputs, targets).sum(1, keepdim=True).numpy()


def with_layer(model, target_layers, images, targets):
    (layer,) = target_layers
    kept = []
    with layer.register_forward_hook(lambda module, given, out: kept.append(out)):
        score = model(images).gather(1, targets[:, None]).sum()
    return kept[0] * torch.autograd.grad(score, kept[0])[0]


TAKEN = {
    "function": gradient,
    "other names, by keyword": by_name,
    "arrays, one channel": of_arrays,
    "positions alone": lambda a, b, c: gradient(a, b, c),
    "partial": partial(lambda scale, model, images, targets: scale * gradient(model, images, targets), 1.0),
    "class": Held,
    "factory": lambda model, layer: Held(model, layer),
    "text": f"{__name__}:gradient",
}


@pytest.mark.parametrize("kind", TAKEN)
def test_what_an_explainer_may_take(kind, evidence):
    method = through(TAKEN[kind], evidence)
    assert method.grid == "pixels"
    torch.testing.assert_close(method(evidence), METHODS["gradient"](evidence), rtol=1e-4, atol=1e-6)


def test_an_object_that_keeps_a_model_of_its_own(evidence):
    torch.testing.assert_close(through(Held(evidence.net.model), evidence)(evidence), METHODS["gradient"](evidence))


def test_a_function_of_the_target_layer(evidence):
    method = through(with_layer, evidence)
    assert method.grid == "cells"
    torch.testing.assert_close(method(evidence), METHODS["hirescam"](evidence), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("explain", "error"),
    [
        (3, "3 is no method; give names"),
        (lambda a, b: 0, r"lambda\(a, b\) takes what cannot be told from these names; give a function \(model, images"),
        ("no.such:module", r"no module no\.such for 'no\.such:module'"),
        (f"{__name__}:none", "has no 'none'; it has .*gradient"),
        ("captum.Salience", "captum .* has no explainer 'Salience'; it has .*Saliency"),
        ("captun.Saliency", "no method named 'captun.Saliency'; nearest"),
    ],
)
def test_what_explains_nothing_is_refused_before_any_work(explain, error, evidence):
    with pytest.raises((ValueError, LookupError), match=error):
        through(explain, evidence)


def test_ours_keep_their_names(evidence):
    def gradcam(model, images, targets):
        return images

    assert through(gradcam, evidence).name == "own.gradcam"


def test_the_same_source_has_the_same_digest_and_another_has_another(evidence):
    def made(number):
        scope = {}
        exec(f"def explain(model, images, targets):\n    return images * {number}", scope)
        return scope["explain"]

    one = through(gradient, evidence).digest
    assert one == foreign(gradient, tiny(), evidence.images).digest is not None
    assert through(by_name, evidence).digest != one
    assert through(partial(gradient), evidence).digest != through(partial(gradient, targets=0), evidence).digest
    assert through(made(1), evidence).digest is None  # no source to be had, so nothing is claimed


# -- what it leaves behind ------------------------------------------------------------------------


def after(change):
    def explain(model, images, targets):
        change(model, images)
        return unit(model, images, targets)

    return explain


def leave_a_gradient(model, images):
    model(images).sum().backward()


LEFT = {
    "hook": (leave_a_hook, "hooks on target"),
    "mode": (lambda model, images: model.train(), "another mode of "),
    "requires_grad": (lambda model, images: model.requires_grad_(False), "requires_grad of "),
    "gradients": (leave_a_gradient, "gradients on "),
    "gradients of images": (lambda model, images: images.requires_grad_(), "requires_grad or gradients on the images"),
    "torch's generator": (lambda model, images: torch.rand(3), "the global random state of torch moved on"),
    "numpy's generator": (lambda model, images: np.random.seed(1), "the global random state of numpy moved on"),
    "python's generator": (lambda model, images: random.random(), "the global random state of python moved on"),
    "grad mode": (lambda model, images: torch.set_default_dtype(torch.float64), "torch's default dtype"),
}


def state_of(net):
    generators = torch.random.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
    flags = [(module.training, len(module._forward_hooks)) for module in [*net.modules(), *net.model.modules()]]
    slopes = [(p.requires_grad, p.grad is None) for p in [*net.parameters(), *net.model.parameters()]]
    return generators, flags, slopes, torch.get_default_dtype()


@pytest.mark.parametrize("what", LEFT)
def test_what_is_left_behind_is_told_and_put_back(what, evidence):
    change, told = LEFT[what]
    method, before = through(after(change), evidence), state_of(evidence.net)
    for _ in range(2):  # each time anew: what one call left, the next does not find
        with pytest.warns(LeftBehind, match=told):
            assert torch.equal(method(evidence), torch.ones(3, 12, 12))
    assert state_of(evidence.net) == before


def test_a_clean_explainer_is_told_nothing(evidence):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        through(gradient, evidence)(evidence)


# -- what people's functions do -------------------------------------------------------------------


def on_cells(model, images, targets):
    """Grad-CAM by hand, (B, h, w)."""
    held = []
    hook = model.target.register_forward_hook(lambda _, __, out: held.append(out))
    score = model(images).gather(1, targets[:, None]).sum()
    hook.remove()
    (slope,) = torch.autograd.grad(score, held[0])
    return (slope.mean((2, 3), keepdim=True) * held[0]).sum(1).detach()


def one_at_a_time(model, images, targets):
    assert len(images) == 1
    return on_cells(model, images, targets)[0]


HANDED = {
    "list of arrays": lambda *given: [each.numpy() for each in on_cells(*given)],
    "tuple of tensors": lambda *given: tuple(on_cells(*given)),
    "lists of numbers": lambda *given: on_cells(*given).tolist(),
    "channels last": lambda *given: on_cells(*given)[..., None],
    "sparse": lambda *given: on_cells(*given).to_sparse(),
    "other bytes": lambda *given: on_cells(*given).numpy().astype(">f4"),
    "wide numbers": lambda *given: on_cells(*given).numpy().astype(np.longdouble),
}


def asked(inner):
    return lambda model, images, targets: inner(model, images, targets)


@pytest.mark.parametrize("explain", [*map(asked, HANDED.values()), one_at_a_time], ids=[*HANDED, "one at a time"])
def test_a_map_is_taken_however_it_is_handed_over(explain, evidence):
    method = through(explain, evidence)
    assert method.grid == "cells"
    rows = audit(evidence.net, evidence.images, [explain, "gradcam"], metrics=["leak_mass"])
    mine, ours = (rows[rows.method == name]["value"].to_numpy() for name in (method.name, "gradcam"))
    np.testing.assert_allclose(mine, ours, atol=1e-5)


@pytest.mark.parametrize(
    ("explain", "told"),
    [
        (
            lambda model, images, targets: torch.ones(len(images), 1, 1),
            "no position that lies over unseen pixels alone",
        ),
        (lambda model, images, targets: on_cells(model, images, targets).flatten(1), "expected a map for each"),
        (lambda model, images, targets: np.ma.masked_less(images[:, 0].numpy(), 0), "masked array"),
        (lambda model, images, targets: (targets.zero_(), images[:, 0])[1], "changed the targets"),
        (lambda model, images, targets: sys.exit(3), "left the process with status 3"),
        (lambda model, images, targets: model.layer4(images), "target layer is model.target"),
        (
            lambda model, images, targets: (setattr(model, "forward", abs), images[:, 0])[1],
            "changed forward of the net",
        ),
    ],
    ids=["one value", "flattened", "masked", "targets", "exit", "layers by name", "forward"],
)
def test_what_cannot_be_read_is_told_and_costs_no_other(explain, told, evidence):
    targets = (evidence.targets.argmax() * 0 + 1).expand(len(evidence.images))
    with pytest.warns(Incomplete, match=told):
        rows = audit(evidence.net, evidence.images, [explain, "gradcam"], metrics=["leak_mass"], targets=targets)
    assert set(rows.method) == {"gradcam"} and rows["image"].nunique() == len(evidence.images)


def test_one_map_that_is_nan_costs_its_image_alone(evidence):
    def explain(model, images, targets):
        maps = on_cells(model, images, targets)
        maps[1:2] = torch.nan
        return maps

    with pytest.raises(ValueError, match="gave no map for 1 of 3 images; image 1") as raised:
        leakage(explain, evidence.net, evidence.images)
    assert raised.value.reading.images == 2


def test_a_module_is_asked_as_its_forward_says(evidence):
    class Explainer(torch.nn.Module):
        def forward(self, model, images, targets):
            return on_cells(model, images, targets)

    assert through(Explainer(), evidence).grid == "cells"


def test_switches_of_the_whole_process_are_put_back_and_told(evidence):
    def explain(model, images, targets):
        torch.use_deterministic_algorithms(True)
        torch.autograd.set_detect_anomaly(True)
        torch.set_default_device("meta")
        torch.backends.cudnn.enabled = False
        np.seterr(all="raise")
        warnings.simplefilter("error")
        logging.disable(logging.CRITICAL)
        torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
        return images[:, 0]

    before = {name: read() for name, (read, _) in SWITCHES.items()}
    reading = leakage(explain, evidence.net, evidence.images)
    assert {name: read() for name, (read, _) in SWITCHES.items()} == before
    for what in (
        "deterministic",
        "anomaly",
        "default device",
        "cudnn.enabled",
        "numpy",
        "filters",
        "logging",
        "hooks on all",
    ):
        assert what in reading.left[0]

"""One bad method costs itself alone, whatever it does; net and images are given back as they were."""

import warnings

import pytest
import torch
from torch import nn

from tests.nets import photos, tiny
from wallcheck.auditing import Incomplete, audit
from wallcheck.cams import cam_method
from wallcheck.certificate import fingerprint
from wallcheck.registry import Registry

GOOD = ("gradcam", "hirescam", "eigencam", "gradient")
BRIGHT = 3  # the image of the set that some methods cannot stand


def method(body, name="bad"):
    registry = Registry("method")
    return cam_method(family="local", source="mine", cost="0", verdict="may_leak", name=name, registry=registry)(body)


def plain(ev):
    return torch.ones(len(ev.images), 12, 12)


def is_bright(ev):
    return ev.images.flatten(1).amax(1) > 50


def after(change):
    """A method that does something and then gives a sound map."""

    def body(ev):
        change(ev)
        return plain(ev)

    return body


def zero_weights(ev):
    ev.net.head[1].weight.data.numpy()[:] = 0


def raise_after_zeroing(ev):
    zero_weights(ev)
    raise RuntimeError("too\nlate")


def silence(ev):
    ev.net.head.register_forward_hook(lambda module, given, logits: 0 * logits)


class Untellable(Exception):
    def __str__(self):
        raise RuntimeError("an error of an error")


def untellable(ev):
    raise Untellable


EVERYWHERE = {
    "raises what cannot be told": (untellable, "image 0: Untellable"),
    "raises": (lambda ev: 1 / 0, "ZeroDivisionError: division by zero"),
    "raises after harm": (raise_after_zeroing, "RuntimeError: too late"),
    "NaN": (lambda ev: plain(ev) * torch.nan, "bad gave NaN or infinity"),
    "infinity": (lambda ev: plain(ev) / 0, "bad gave NaN or infinity"),
    "None": (lambda ev: None, "bad returned NoneType, expected a floating-point Tensor"),
    "array": (lambda ev: plain(ev).numpy(), "bad returned ndarray"),
    "list": (lambda ev: list(plain(ev)), "bad returned list"),
    "whole numbers": (lambda ev: plain(ev).long(), "bad returned torch.int64"),
    "complex": (lambda ev: plain(ev).to(torch.complex64), "bad returned torch.complex64"),
    "pixels": (lambda ev: torch.ones(len(ev.images), 24, 24), r"bad returned \(4, 24, 24\), expected"),
    "one map too many": (lambda ev: torch.ones(len(ev.images) + 1, 12, 12), r"bad returned \(5, 12, 12\), expected"),
    "activations": (after(lambda ev: ev.activations.mul_(2)), "bad changed activations; work on copies"),
    "activations, unseen by torch": (after(lambda ev: ev.activations.numpy().fill(0)), "bad changed activations"),
    "gradient": (after(lambda ev: ev.gradient.neg_()), "bad changed gradient"),
    "logits": (after(lambda ev: ev.logits.add_(1)), "bad changed logits"),
    "targets": (after(lambda ev: ev.targets.sub_(1)), "bad changed targets"),
    "images": (after(lambda ev: ev.images.data.zero_()), "bad changed images"),
    "weights": (after(zero_weights), r"bad changed head\.1\.weight"),
    "type of weights": (after(lambda ev: ev.net.half()), r"bad changed .*head\.1\.weight"),
    "head": (after(lambda ev: setattr(ev.net, "head", nn.Identity())), "bad changed _modules of the net"),
    "hooks": (after(silence), "bad changed _forward_hooks of head"),
}


@pytest.fixture(scope="module")
def images():
    some = photos(10, seed=9)[0]
    some[BRIGHT, 0, 20, 20] = 100
    return some


@pytest.fixture(scope="module")
def table(images):
    return audit(tiny(), images, GOOD, batch_size=4)


def audited_beside(bad, images, table):
    """The record of what bad misses; all else must be as it is without it."""
    net, given = tiny(), images.clone()
    before, modes = fingerprint(net), [module.training for module in net.modules()]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = audit(net, given, [bad, *GOOD], batch_size=4)
    assert fingerprint(net) == before
    assert [module.training for module in net.modules()] == modes
    assert not any(module._forward_hooks for module in net.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert torch.equal(given, images)
    good = found[found["method"] != "bad"].reset_index(drop=True)
    assert good["value"].equals(table["value"])
    assert [one.category for one in told] == [Incomplete] * len(found.attrs["failures"])
    return found[found["method"] == "bad"], found.attrs["failures"]


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_what_is_wrong_on_every_image(kind, images, table):
    body, error = EVERYWHERE[kind]
    own, (failure,) = audited_beside(method(body), images, table)
    assert len(own) == 0
    assert (failure["method"], failure["image"], failure["count"]) == ("bad", 0, 10)
    with pytest.raises(ValueError, match=error):  # nothing at all to return
        audit(tiny(), images[:4], [method(body)])


def nan_where_bright(ev):
    return plain(ev).masked_fill(is_bright(ev)[:, None, None], torch.nan)


def raise_where_bright(ev):
    if is_bright(ev).any():
        raise KeyError("bright")
    return plain(ev)


def harm_where_bright(ev):
    if is_bright(ev).any():
        zero_weights(ev)
    return plain(ev)


@pytest.mark.parametrize("body", [nan_where_bright, raise_where_bright, harm_where_bright])
def test_what_is_wrong_on_one_image_of_a_batch(body, images, table):
    own, (failure,) = audited_beside(method(body), images, table)
    assert (failure["image"], failure["count"]) == (BRIGHT, 1)
    assert set(own["image"]) == set(range(10)) - {BRIGHT}


def test_the_image_is_named_by_its_number_in_the_set(images):
    with pytest.warns(Incomplete, match=r"bad gave no map for 1 images of mix on net; image 103: "):
        audit(tiny(), images, [method(nan_where_bright)], indices=range(100, 110), image_set="mix")


def test_asking_for_gradients_and_modes_is_no_harm(images, table):
    def body(ev):
        ev.net.train()
        ev.net(ev.images).sum().backward()
        ev.net.requires_grad_(False)
        return plain(ev)

    own, failures = audited_beside(method(body), images, table)
    assert failures == []
    assert own["image"].nunique() == 10


def test_an_interruption_is_no_failure(images):
    def interrupted(ev):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(tiny(), images, [method(interrupted)])

"""A net on disk: whole after any interruption, whatever wraps it; and descriptions that nobody should trust."""

import copy
import json
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.models.test_models import same_weights
from tests.nets import tiny
from wallcheck import models
from wallcheck.models import _files


@pytest.fixture
def saved(tmp_path):
    return models.save(tiny(), tmp_path / "net.safetensors")


def test_the_weights_file_alone_is_the_net(saved):
    """So an interruption between the two files loses nothing."""
    saved.with_suffix(".json").unlink()
    assert same_weights(models.load(saved), tiny())


def test_a_file_without_description_inside_asks_for_the_one_beside(saved):
    """As wallcheck 0.1 wrote them."""
    save_file(load_file(saved), saved)
    assert same_weights(models.load(saved), tiny())
    saved.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no description at .*net\.json; .*must travel with them"):
        models.load(saved)


@pytest.mark.parametrize("stop", ["beside", "write_text"])
def test_a_save_that_is_stopped_leaves_one_of_the_two_nets(saved, monkeypatch, stop):
    """Killed before the weights are renamed, or before their description is told anew."""
    other = tiny(hidden=(5,))

    def killed(path, *_):
        raise KeyboardInterrupt

    real = _files.beside

    @contextmanager
    def killed_at_the_end(path):
        with real(path) as partial:
            yield partial
            raise KeyboardInterrupt

    monkeypatch.setattr(_files, stop, killed_at_the_end if stop == "beside" else killed)
    with pytest.raises(KeyboardInterrupt):
        models.save(other, saved)
    assert same_weights(models.load(saved), tiny() if stop == "beside" else other)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: torch.compile(net, backend="eager"),
        nn.DataParallel,
        lambda net: nn.DataParallel(torch.compile(net, backend="eager")),
        lambda net: with_part(net, "features", torch.compile(net.features, backend="eager")),
        lambda net: with_part(net, "head", nn.DataParallel(net.head)),
    ],
    ids=["compiled", "parallel", "both", "compiled features", "parallel head"],
)
def test_wrapped_nets_are_saved_as_what_they_wrap(tmp_path, wrap):
    path = models.save(wrap(copy.deepcopy(tiny())), tmp_path / "net.safetensors")
    assert same_weights(models.load(path), tiny())


def with_part(net, name, part):
    setattr(net, name, part)
    return net


def test_a_net_that_could_not_be_loaded_again_is_not_saved(saved):
    net = copy.deepcopy(tiny())
    nn.utils.parametrizations.weight_norm(net.head[1])
    with pytest.raises(ValueError, match=r"this net was changed after it was built, .*head\.1\."):
        models.save(net, saved)
    assert same_weights(models.load(saved), tiny())


HOSTILE = {
    "image_size": [30_000, 10**12, 0, -3, 24.5, "24", None, True, [24], 1e400],
    "num_classes": [0, 10**9, "4", None],
    "plan": ["MMM", None, [6, "X"], [10**9, "M"], [6, "M", -8], ["M"] * 20, [1] * 100_000, {}],
    "hidden": [[10**12], None, ["16"], 16],
    "wall": ["bottom", {"side": "up", "cells": 7}, {"side": "bottom", "cells": 10**9}, {"cells": 1}, [], 5],
    "builder": ["vit", None, []],
}


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in HOSTILE.items() for v in values], ids=lambda v: str(v)[:20]
)
def test_a_hostile_description_is_refused_in_a_line_before_anything_is_made(saved, name, value):
    description = json.loads(saved.with_suffix(".json").read_text()) | {name: value}
    save_file(load_file(saved), saved, metadata={"wallcheck": json.dumps(description)})
    saved.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match=r"^(?!.*\n)") as raised:
        models.load(saved)
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize("text", ["[" * 200_000, '{"format": 1, "plan": ' + "[" * 200_000, '{"a": ' + "9" * 5000 + "}"])
def test_deep_and_endless_json_is_refused(saved, text):
    saved.with_suffix(".json").write_text(text)
    with pytest.raises(ValueError, match=r"net\.json is no JSON"):
        models.load(saved)

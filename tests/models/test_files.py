"""A net on disk: whole after any interruption, whatever wraps it; and descriptions that nobody should trust."""

import copy
import json
import pickle
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.nets import photos, same_weights, tiny
from wallcheck import models
from wallcheck.certificate import certify, fingerprint
from wallcheck.models import _files


@pytest.fixture
def saved(tmp_path):
    return models.save(tiny(), tmp_path / "net.safetensors")


@pytest.mark.parametrize(
    "net",
    [tiny(), tiny(wall=None), tiny(wall={"side": "centre", "cells": 3}), tiny(pooled=True, hidden=()), tiny(dropout=0.5)],
    ids=["walled", "open", "centre", "pooled", "dropout"],
)  # fmt: skip
def test_a_net_comes_back_bit_by_bit(net, tmp_path):
    images = photos(3)[0]
    loaded = models.load(models.save(net, tmp_path / "new" / "net.safetensors"))
    assert fingerprint(loaded) == fingerprint(net)
    assert loaded.wall == net.wall
    assert loaded.description == net.description
    assert torch.equal(loaded(images), net(images))
    assert torch.equal(loaded.activations(images), net.activations(images))
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["net.json", "net.safetensors"]


def test_a_loaded_net_can_be_trained_on(tmp_path):
    net = models.load(models.save(tiny(), tmp_path / "net.safetensors"))
    net.train()(photos(2)[0]).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_saving_again_replaces_and_a_failed_save_keeps_the_old(tmp_path, monkeypatch):
    path = models.save(tiny(seed=1), tmp_path / "net.safetensors")
    models.save(tiny(seed=2), path)
    assert same_weights(models.load(path), tiny(seed=2))

    def fails(weights, file, **_):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("wallcheck.models._files.save_file", fails)
    with pytest.raises(OSError, match="disk full"):
        models.save(tiny(seed=3), path)
    assert same_weights(models.load(path), tiny(seed=2))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.json", "net.safetensors"]


@pytest.mark.parametrize("keep", [0, 5, 400, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved, keep):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(
        ValueError, match=r"net\.safetensors is truncated or no safetensors file .*copy or train it again"
    ):
        models.load(saved)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model at .*; take one that comes with wallcheck .*, or train one"):
        models.load(tmp_path / "net.safetensors")


def test_pickles_are_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    for name in ("net.pt", "net.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        with pytest.raises(ValueError, match=r"no pickles|no safetensors file"):
            models.load(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 1, "builder"', r"net\.json is no JSON"),
        ("[]", "another format than 1"),
        ('{"format": 99}', "another format than 1; update wallcheck"),
        ('{"format": 1, "builder": "vit"}', r"net\.json describes another net than net\.safetensors itself"),
    ],
)
def test_a_damaged_description_is_refused(saved, text, message):
    saved.with_suffix(".json").write_text(text)
    with pytest.raises(ValueError, match=message):
        models.load(saved)


def test_weights_of_another_net_are_refused(saved):
    description = json.loads(saved.with_suffix(".json").read_text())
    saved.with_suffix(".json").write_text(json.dumps({**description, "hidden": [17]}))
    with pytest.raises(ValueError, match=r"net\.json describes another net .*; remove net\.json, or copy both again"):
        models.load(saved)
    save_file(load_file(saved), saved)
    with pytest.raises(
        ValueError, match=r"does not fit its description: head\.1\.weight is \(16, 480\), .* \(17, 480\)"
    ):
        models.load(saved)


def test_nan_weights_load_and_the_certificate_names_them(tmp_path):
    net = tiny()
    net.head[1].weight.data[0, 0] = float("nan")
    certificate = certify(models.load(models.save(net, tmp_path / "net.safetensors")))
    assert [(c.name, c.detail) for c in certificate.checks if not c.passed] == [
        ("finite_weights", "head.1.weight holds NaN or infinity; train or load it again")
    ]


def test_a_net_without_description_cannot_be_saved(tmp_path):
    net = copy.deepcopy(tiny())
    net.description = None
    with pytest.raises(ValueError, match="no description"):
        models.save(net, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="no description"):
        models.untrained(net)
    assert list(tmp_path.iterdir()) == []


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

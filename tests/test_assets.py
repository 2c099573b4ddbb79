"""What comes with wallcheck: whole, small, trained, proved; and loud where a file is not what it was."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from wallcheck import assets
from wallcheck.auditing import audit
from wallcheck.certificate import certify
from wallcheck.study import images_for

FOLDER = Path(assets.__file__).parent


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The installed files as copies that a test may damage."""
    for path in FOLDER.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(assets, "_path", lambda file: tmp_path / file)
    assets._bytes.cache_clear()
    yield tmp_path
    assets._bytes.cache_clear()


@pytest.mark.parametrize("name", assets.NETS)
def test_walled_nets_are_proved_and_hide_the_lower_half(name):
    net = assets.net(name)
    certify(net, seeds=1, images=1).raise_if_broken()
    lower = np.zeros((64, 64), dtype=bool)
    lower[32:] = True
    assert np.array_equal(net.regions.unseen, lower)
    assert not net.training and net.description["classes"]


@pytest.mark.parametrize("name", assets.NETS)
def test_nets_tell_the_shipped_images_right(name):
    """The walled net, and its twin, on images that neither was trained on: nearly all, as the manifest says of held-out ones."""
    told = assets.manifest()["nets"]
    for walled in (True, False):
        assert told[assets.file_of(name, walled)]["accuracy"] >= 0.9
        right = total = 0
        for images in map(assets.images, assets.SETS):
            with torch.no_grad():
                found = assets.net(name, walled)(images.images()).argmax(1).numpy()
            right, total = right + int((found == images.labels).sum()), total + len(images)
        assert right / total > 0.8
    assert assets.net(name, walled=False).wall.is_open


def test_weights_are_those_of_the_file_exactly():
    kept = load_file(FOLDER / "plain.safetensors")
    for name, value in assets.net("plain").state_dict().items():
        assert kept[name].dtype == torch.float16 and value.dtype == torch.float32
        assert torch.equal(value, kept[name].float())


def test_each_call_gives_a_net_of_its_own():
    one = assets.net()
    one.head[1].weight.data.zero_()
    assert assets.net().head[1].weight.abs().sum() > 0


@pytest.mark.parametrize("name", assets.SETS)
def test_sets_have_images_labels_and_masks(name):
    images = assets.images(name)
    count = len(images)
    assert images.name == name and count >= 24 and len(images.classes) == 10
    assert images.images([0, 1]).shape == (2, 3, 64, 64)
    assert images.masks.shape == (count, 64, 64) and set(np.unique(images.masks)) == {0, 1, 2}
    upper, lower = images.masks[:, :32], images.masks[:, 32:]
    assert (upper == 1).any((1, 2)).all() and (lower == 2).any((1, 2)).all()  # an object in each half
    assert np.bincount(images.labels, minlength=10).tolist() == [count // 10] * 10
    assert images.identity["count"] == count


def test_labels_follow_the_classes_of_a_net():
    own = assets.images("stack_gen")
    other = assets.images("stack_gen", own.classes[::-1])
    assert (other.labels == 9 - own.labels).all()


def test_they_fit_each_other_and_a_command_line():
    net = assets.net("plain")
    images = images_for(net, "assets:stack_mix")
    rows = audit(net, images.images(slice(0, 3)), ["gradcam", "hirescam"], metrics=["leak_mass"])
    of = rows[(rows["view"] == "rectified") & (rows["on"] == "grid")].groupby("method", observed=True)["value"]
    assert of.max()["hirescam"] == 0 and of.min()["gradcam"] > 0.1


def test_all_of_it_is_small_and_listed():
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir() if path.is_file()}
    assert sum(files.values()) < 1.5e6 and max(files.values()) < 1e6
    assert set(files) == {*assets.manifest()["files"], assets.MANIFEST, "__init__.py"}
    for name in (*assets.NETS, *assets.SETS):
        assert f'"{name}"' in assets.__doc__


def test_a_damaged_file_is_named_with_what_to_do(elsewhere):
    (elsewhere / "pooled.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match=r"pooled.safetensors is damaged .* install wallcheck again"):
        assets.net("pooled")
    assert assets.net("plain")


def test_a_missing_file_and_a_broken_manifest_are_named(elsewhere):
    (elsewhere / "stack_mix.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"stack_mix.png is missing; install wallcheck again"):
        assets.images("stack_mix")
    (elsewhere / "manifest.json").write_text(json.dumps({})[:1])
    with pytest.raises(ValueError, match=r"manifest.json is damaged .* install wallcheck again"):
        assets.images("stack_gen")


def test_other_names_are_answered_with_what_there_is():
    with pytest.raises(LookupError, match="no net named 'vgg' comes with wallcheck; there are plain, pooled, residual"):
        assets.net("vgg")
    with pytest.raises(LookupError, match="no image set named 'val' comes with wallcheck"):
        assets.images("val")
    with pytest.raises(
        LookupError, match="no net named 'plane' comes with wallcheck; there are plain, pooled, residual"
    ):
        assets.named("assets:plane-unwalled")


def test_a_module_of_the_users_own_may_be_named_so_too(tmp_path, monkeypatch):
    (tmp_path / "assets.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert assets.named("assets:mine") is None
    assert assets.named("assets:plain") == ("plain", True)

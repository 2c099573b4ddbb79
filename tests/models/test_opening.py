"""Models by name: the same net each time, weights that fit or one line, and nothing run that a file brings."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from tests.models.opening import Own
from wallcheck import models
from wallcheck.models._opening import origin_of

OWN = "tests.models.opening:own"


def equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


@pytest.mark.parametrize("name, options", [("torchvision:squeezenet1_1", dict(num_classes=5)), ("small:shufflenet", dict(seed=3)), (OWN, dict(classes=4))])  # fmt: skip
def test_a_name_is_one_net_each_time_and_moves_no_random_state(name, options):
    state = torch.random.get_rng_state()
    one, two = models.opened(name, **options), models.opened(name, **options)
    assert torch.equal(state, torch.random.get_rng_state())
    assert equal(one, two) and not one.training
    assert origin_of(one) == {"model": name, "options": options}
    assert origin_of(Own()) is None


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_weights_of_either_format_and_of_wrapped_nets_fit(tmp_path, suffix, prefix):
    torch.manual_seed(5)
    drawn, path = Own(), tmp_path / f"w.{suffix}"
    state = {prefix + key: value for key, value in drawn.state_dict().items()}
    save_file(state, path) if suffix == "safetensors" else torch.save({"epoch": 3, "state_dict": state}, path)
    assert equal(models.opened(OWN, path), drawn)


class Trap:
    def __reduce__(self):
        return (print, ("run",))


def test_nothing_in_a_weights_file_is_run(tmp_path, capsys):
    torch.save({"weight": Trap()}, tmp_path / "trap.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"weight": Trap()}))
    (tmp_path / "noise.pt").write_bytes(b"noise")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "epoch.pt")
    for name in ("trap", "plain", "noise", "list", "epoch"):
        with pytest.raises(ValueError, match=r"holds|is no plain state dict"):
            models.opened(OWN, tmp_path / f"{name}.pt")
    assert capsys.readouterr().out == ""


def test_weights_that_do_not_fit_are_named_with_both_shapes(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(Own(5).state_dict(), path)
    with pytest.raises(ValueError, match=r"does not fit .*own: fc.weight is \(5, 6\), the model has \(3, 6\); build"):
        models.opened(OWN, path)
    assert models.opened(OWN, path, classes=5).fc.out_features == 5
    save_file({k: v for k, v in Own().state_dict().items() if k != "conv.0.bias"}, path)
    with pytest.raises(ValueError, match=r"conv.0.bias is missing, the model has \(6,\)"):
        models.opened(OWN, path)
    save_file(Own().state_dict() | {"more": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"more is \(2,\), the model has no such tensor"):
        models.opened(OWN, path)
    save_file({k: v for k, v in Own().state_dict().items() if "tracked" not in k}, path)
    models.opened(OWN, path)  # counters of batches are no part of the function
    with pytest.raises(FileNotFoundError, match="no weights at"):
        models.opened(OWN, tmp_path / "nowhere.pt")


@pytest.mark.parametrize(
    "name, options, told",
    [
        ("resnet50", {}, "names no model; write torchvision:NAME"),
        ("torchvision:", {}, "names no model"),
        ("torchvision:resnet5", {}, "torchvision has no model 'resnet5'; nearest: resnet50"),
        ("small:resne", {}, "no family named 'resne'; nearest: resnet"),
        ("timm:vit_tiny_patch16_224", {}, "timm is not installed, .* pip install timm|"),
        ("nowhere.nets:make", {}, "nowhere.nets cannot be imported .*install it, or run where it lies"),
        ("tests.models.opening:owns", {}, "has no 'owns'; nearest: own"),
        ("tests.models.opening:torch", {}, "is module, expected a callable"),
        ("tests.models.opening:no_model", {}, "gives str, expected a torch.nn.Module"),
        (OWN, {"wide": 3}, r"is not built with {'wide': 3} \(TypeError"),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, "weights is no option"),
        ("torchvision:resnet18", {"pretrained": True}, "pretrained is no option"),
    ],
)
def test_what_cannot_be_opened_is_told_in_a_line(name, options, told):
    if name.startswith("timm") and _has_timm():
        name, told = "timm:nothing_like_it", "timm has no model"
    with pytest.raises((ValueError, LookupError), match=told) as raised:
        models.opened_with(name, options)
    assert "\n" not in str(raised.value)


def _has_timm():
    try:
        import timm  # noqa: F401
    except ImportError:
        return False
    return True

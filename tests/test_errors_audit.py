"""Bad nets, methods and run folders: the message says what, got, wanted and what to do next; no half run is left."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import wallcheck as wc
from tests.nets import photos, tiny, trained_tiny
from tests.sets import write_photographs, write_set
from wallcheck import models
from wallcheck.auditing import applicable, audit
from wallcheck.cams import METHODS, cam_method
from wallcheck.checking import Unscaled
from wallcheck.cli import main
from wallcheck.data import ImageSet
from wallcheck.evidence import Evidence
from wallcheck.registry import Registry
from wallcheck.running import run
from wallcheck.study import Study


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Nets


def test_nan_weights(wallcheck, model):
    net = models.load(model)
    net.head[1].weight.data[0, 0] = float("nan")
    models.save(net, model)
    status, line, out = wallcheck()
    assert (status, line) == (
        2,
        "wallcheck audit: the wall is broken: finite_weights (eval): head.1.weight holds NaN or infinity; "
        "train or load it again\n",
    )
    assert files(out) == []


def test_a_model_without_a_wall(tmp_path, photographs, capsys):
    model = models.save(tiny(wall=None), tmp_path / "open.safetensors")
    out = tmp_path / "run"
    assert main(["audit", str(model), "--images", str(photographs), "--out", str(out), "--methods", "gradcam"]) == 2
    assert "this net has no wall, so nothing is unseen; pass its walled twin" in capsys.readouterr().err
    assert files(out) == [] if out.exists() else True


def test_another_certificate(wallcheck, tmp_path, capsys):
    other = models.save(tiny(seed=8), tmp_path / "other.safetensors")
    assert main(["certify", str(other), "--out", str(tmp_path / "other.json")]) == 0
    capsys.readouterr()
    status, line, out = wallcheck("--certificate", str(tmp_path / "other.json"))
    assert status == 2
    assert "the certificate is for graph" in line
    assert "certify it again" in line
    assert not out.exists()


# Methods


def test_an_unknown_method_is_answered_with_the_nearest(wallcheck):
    status, line, out = wallcheck(methods=("gradcam", "hirescan"))
    assert status == 2
    assert line.startswith("wallcheck audit: no method named 'hirescan'; nearest: hirescam")
    assert not out.exists()


def test_a_method_asked_for_twice(wallcheck):
    status, line, out = wallcheck(methods=("gradcam", "hirescam", "gradcam"))
    assert (status, line) == (2, "wallcheck audit: 'gradcam' was asked for 2 times; name it once\n")
    assert not out.exists()


def test_an_unknown_metric():
    with pytest.raises(LookupError, match=r"no metric of an audit named 'leak_mas'; nearest: leak_mass"):
        audit(tiny(), photos(1)[0], ["gradcam"], metrics=["leak_mas"])


def test_a_method_that_returns_another_shape():
    @cam_method(family="local", source="mine", cost="0", verdict="may_leak", registry=Registry("method"))
    def upsampled(evidence):
        return torch.ones(len(evidence.images), 24, 24)

    with pytest.raises(
        ValueError, match=r"upsampled returned \(2, 24, 24\), expected .* \(2, 12, 12\); return the raw map"
    ):
        audit(tiny(), photos(2)[0], [upsampled])


@pytest.mark.parametrize(("word", "value"), [("family", "pooledd"), ("verdict", "leek")])
def test_a_method_of_unknown_kind(word, value):
    with pytest.raises(ValueError, match=rf"'{value}' is none of "):
        cam_method(**{"family": "pooled", "source": "", "cost": "0", "verdict": "leaks", word: value})


def test_methods_that_are_not_defined_on_the_net():
    refused = next(method for method in METHODS.values() if method.refuses(tiny()))
    with pytest.raises(ValueError, match=f"{refused.name} is not defined on this net: "):
        refused(Evidence(tiny(), photos(1)[0]))
    assert refused not in applicable(tiny(), None)


# Run folders


def test_an_output_folder_below_a_file(wallcheck, tmp_path):
    (tmp_path / "file").write_text("precious")
    status, line, _ = wallcheck(out=tmp_path / "file" / "run")
    assert status == 2
    assert line.endswith("is a file, not a folder; choose another --out\n")
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize(("name", "is_folder"), [("leakage.csv", True), ("examples", False)])
def test_what_stands_where_a_part_of_the_run_is_to_be(wallcheck, tmp_path, name, is_folder):
    place = tmp_path / "run" / name
    place.parent.mkdir()
    place.mkdir() if is_folder else place.touch()
    status, line, _ = wallcheck()
    assert status == 2
    assert line.startswith(f"wallcheck audit: {place} is a {'folder' if is_folder else 'file'}, where ")
    assert line.endswith("; choose another --out\n")


def test_an_output_folder_that_takes_no_files(wallcheck):
    status, line, _ = wallcheck(out="/proc/run")
    assert status == 2
    assert line.startswith("wallcheck audit: cannot write into /proc/run (")
    assert line.endswith("); choose another --out\n")


def test_another_study_in_the_same_folder(wallcheck):
    status, _, out = wallcheck()
    assert status == 0
    before = {name: (out / name).read_bytes() for name in files(out)}
    status, line, _ = wallcheck("--seed", "1")
    assert (status, line) == (
        2,
        f"wallcheck audit: {out} holds an audit of other nets, images or settings (seed: 0 there, 1 here); "
        "choose another --out or remove that folder\n",
    )
    assert {name: (out / name).read_bytes() for name in files(out)} == before


def test_other_weights_or_images_in_the_same_folder(wallcheck, model, photographs):
    assert wallcheck()[0] == 0
    net = models.load(model)
    net.features[0].bias.data[0] += 1e-3
    models.save(net, model)
    assert "holds an audit of other nets, images or settings (nets.model.weights: " in wallcheck()[1]
    models.save(trained_tiny(), model)
    assert wallcheck()[0] == 0
    write_photographs(photographs, 5, seed=1)
    assert "(image_sets.photographs.pixels: " in wallcheck()[1]


def test_another_twin_without_a_wall_in_the_same_folder(tmp_path):
    images = ImageSet(write_set(tmp_path / "mix", 3))

    def study(seed):
        return Study({"walled": tiny(), "open": tiny(seed=seed, wall=None)}, [images], ["gradcam"], {"open": "walled"})

    run(study(1), tmp_path / "run")
    with pytest.raises(FileExistsError, match="holds an audit of other nets"):
        run(study(2), tmp_path / "run")


def test_rows_without_a_manifest_are_not_added_to(wallcheck):
    status, _, out = wallcheck()
    assert status == 0
    (out / "manifest.json").unlink()
    status, line, _ = wallcheck()
    assert status == 2
    assert line == (
        f"wallcheck audit: {out} holds rows but no manifest.json, so whose they are is not known; put the manifest back, "
        f"or choose another --out\n"
    )


@pytest.mark.parametrize("count", [0, -3])
def test_a_count_of_nothing(wallcheck, count):
    status, line, out = wallcheck("--count", str(count))
    assert (status, line) == (
        2,
        f"wallcheck audit: count is {count}; audit at least 1 image of each set, or None for all\n",
    )
    assert not out.exists()


def test_labels_of_photographs(wallcheck):
    status, line, out = wallcheck("--targets", "label")
    assert (status, line) == (
        2,
        "wallcheck audit: photographs has no labels: the names of the net's classes are not known, nor which of its "
        "folders (inner) is which; give them with --classes (a tree TREE/CLASS/IMAGE, an image set, or a text file with "
        "one name a line) or explain the predicted class instead\n",
    )
    assert not out.exists()


def test_a_record_and_a_progress_that_are_none_are_named_before_any_work():
    given = tiny(), photos(2)[0], ["gradcam"]
    with pytest.raises(ValueError, match=r"certificate is int; give a record that wallcheck\.certify made"):
        audit(*given, certificate=5)
    with pytest.raises(ValueError, match=r"progress is 5; give True for a bar, or a function"):
        audit(*given, progress=5)


def test_targets_of_unknown_kind(wallcheck):
    status, line, _ = wallcheck("--targets", "labels")
    assert (status, line) == (2, "wallcheck audit: targets are 'labels'; choose 'predicted' or 'label'\n")


def test_two_image_sets_of_one_name(tmp_path):
    sets = [ImageSet(write_set(tmp_path / name / "mix", 2)) for name in "ab"]
    with pytest.raises(ValueError, match=r"two image sets share a name in \['mix', 'mix'\]; rename one folder"):
        Study({"net": tiny()}, sets, ["gradcam"])


def test_an_interruption_says_that_the_command_goes_on(wallcheck, monkeypatch):
    monkeypatch.setattr("wallcheck.running.compact", lambda out: (_ for _ in ()).throw(KeyboardInterrupt))
    status, line, out = wallcheck()
    assert (status, line) == (130, "wallcheck audit: interrupted; the same command goes on where it stopped\n")
    assert not [name for name in files(out) if "partial" in name or "leakage" in name]
    monkeypatch.undo()
    assert wallcheck()[0] == 0


@pytest.mark.parametrize(
    "asked",
    [
        lambda net, images: wc.audit(net, images, ["gradcam"]),
        lambda net, images: wc.audit(tiny(), images, ["gradcam"], contrast=net),
        lambda net, images: wc.leakage("gradcam", net, images),
        lambda net, images: wc.Evidence(net, images),
        lambda net, images: wc.predict_leakage(net, images),
        lambda net, images: wc.LeakageMetric(net),
        lambda net, images: wc.certify(net),
        lambda net, images: wc.models.save(net, "net.safetensors"),
        lambda net, images: Study({"net": net}, []),
    ],
)
def test_a_model_without_a_wall_is_told_how_to_get_one(asked):
    images = photos(2)[0]
    for model in (nn.Sequential(nn.Conv2d(3, 8, 3)), tiny().model):
        with pytest.raises(TypeError, match=rf"a {type(model).__name__} has no wall; make one with wallcheck\.blind"):
            asked(model, images)


@pytest.mark.parametrize("asked", [wc.blind, wc.layers])
def test_what_is_no_module_is_told_how_to_get_one(asked):
    for model in ("resnet18", tiny):
        with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module; wallcheck\.models\.opened"):
            asked(model, 24)


def test_a_parallel_net_is_predicted_as_the_net_it_wraps():
    net, images = tiny(), photos(2)[0]
    assert wc.predict_leakage(nn.DataParallel(net), images).equals(wc.predict_leakage(net, images))


def test_images_that_require_gradients_are_audited_without_a_word(recwarn):
    audit(tiny(), photos(2)[0].requires_grad_(), ["gradcam"])
    assert not recwarn.list


def test_images_on_a_device_without_values_are_refused():
    with pytest.raises(ValueError, match="images are on the device meta"):
        audit(tiny(), photos(2)[0].to("meta"), ["gradcam"])


@pytest.mark.parametrize("given", ["cat", ["cat", "dog"], [None, None], {0: 1}, [2**70, 0]], ids=str)
def test_targets_that_are_no_classes(given):
    with pytest.raises(ValueError, match=r"targets are .*expected class indices, whole numbers"):
        audit(tiny(), photos(2)[0], ["gradcam"], targets=given)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (dict(budget_mb="a"), "budget_mb is 'a'; give the memory"),
        (dict(budget_mb=float("inf")), "budget_mb is inf; give the memory"),
        (dict(indices=[0.5, 1.5]), "indices are .*give a whole number for each image"),
        (dict(indices="ab"), "indices are 'ab'; give a whole number"),
    ],
)
def test_settings_of_another_kind(wrong, told):
    with pytest.raises(ValueError, match=told):
        audit(tiny(), photos(2)[0], ["gradcam"], **wrong)


def test_images_that_look_like_bytes_are_audited_with_a_word():
    with pytest.warns(Unscaled, match=r"images run from .*as bytes do; .*wallcheck.data.normalise"):
        assert len(audit(tiny(), 100 * photos(2)[0].abs(), ["gradcam"], metrics=["leak_mass"]))


def test_a_column_of_a_table_is_classes_whatever_its_rows_are_called():
    column = pd.Series([1, 2], index=["cat.png", "dog.png"])
    rows = audit(tiny(), photos(2)[0], ["gradcam"], metrics=["leak_mass"], targets=column)
    assert set(rows["target"]) == {1, 2}


def test_images_of_8_bits_are_audited_and_those_of_several_sizes_refused():
    images = photos(2)[0]
    assert len(audit(tiny(), images.to(torch.float8_e5m2), ["gradcam"], metrics=["leak_mass"]))
    with pytest.raises(ValueError, match=r"images are a nested tensor.*torch\.stack"):
        audit(tiny(), torch.nested.nested_tensor(list(images)), ["gradcam"])


def test_unsigned_numbers_are_classes_too():
    rows = audit(tiny(), photos(2)[0], ["gradcam"], metrics=["leak_mass"], targets=np.array([1, 2], np.uint16))
    assert set(rows["target"]) == {1, 2}

"""Image sets and folders of photographs: labels by name, and an identity of what is audited and no more."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.nets import trained_tiny
from tests.sets import write_set
from wallcheck import models
from wallcheck.cli import main
from wallcheck.data import ImageSet, PhotoFolder, class_names, open_images
from wallcheck.photos import PhotoNotice
from wallcheck.results import merge
from wallcheck.running import run
from wallcheck.study import Study, images_for

NAMES = ("dog", "ant", "cat", "bee")  # of the net's four classes, in the order of its logits


@pytest.fixture
def tree(tmp_path) -> Path:
    """Two photographs of each class, in folders named so."""
    return photographs(tmp_path / "tree", *(f"{name}/{i}.png" for name in NAMES for i in range(2)))


def photographs(folder: Path, *names: str) -> Path:
    draw = np.random.default_rng(len(names))
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def model(tmp_path) -> Path:
    """A net whose description keeps its classes' names, as training leaves it."""
    net = models.assemble(trained_tiny().description | {"classes": list(NAMES)})
    net.load_state_dict(trained_tiny().state_dict())
    return models.save(net.eval(), tmp_path / "model.safetensors")


@pytest.fixture
def nameless(tmp_path) -> Path:
    return models.save(trained_tiny(), tmp_path / "nameless.safetensors")


def audit(model: Path, images: Path, out: Path, *more: str) -> int:
    arguments = ["audit", model, "--images", images, "--out", out, "--methods", "gradcam", "--targets", "label", *more]
    return main([str(argument) for argument in arguments])


def targets(out: Path) -> list[int]:
    return merge(out).groupby("image")["target"].first().tolist()


# Labels


def test_class_folders_are_labels_by_the_names_of_the_nets_classes(model, tree, tmp_path, capsys):
    assert audit(model, tree, tmp_path / "run") == 0
    assert targets(tmp_path / "run") == [1, 1, 3, 3, 2, 2, 0, 0]  # ant, bee, cat, dog
    assert capsys.readouterr().err == ""


def test_other_images_have_no_label(tree):
    photographs(tree, "zebra/1.png", "dog.png", "cat/inner/9.png", "Cat/1.png")
    folder = PhotoFolder(tree, 24, NAMES)
    labels = dict(zip((str(path.relative_to(tree)) for path in folder.paths), folder.labels.tolist(), strict=True))
    assert {labels[name] for name in ("zebra/1.png", "dog.png", "Cat/1.png")} == {-1}
    assert labels["cat/inner/9.png"] == 2
    assert (PhotoFolder(tree, 24).labels == -1).all()


def test_a_name_that_two_classes_share_is_no_label(tree):
    """ImageNet has two cranes and two maillots."""
    images = PhotoFolder(tree, 24, ("ant", "bee", "cat", "dog", "cat"))
    assert images.labels.tolist() == [0, 0, 1, 1, -1, -1, 3, 3]
    assert images.unlabelled(4) is None
    assert "cat/0.png lies in a folder whose name several classes of the net have" in images.unlabelled(8)


@pytest.mark.parametrize(
    ("indices", "meant"),
    [
        ([], []),
        (1, [1]),
        ([-1, 0], [7, 0]),
        (np.arange(8) % 4 == 0, [0, 4]),
        ([True] + 7 * [False], [0]),
        (slice(6, 99), [6, 7]),
    ],
)
def test_images_are_chosen_as_numpy_chooses(tree, tmp_path, indices, meant):
    photographs, rendered = PhotoFolder(tree, 24), ImageSet(write_set(tmp_path / "set", 8))
    for images in (photographs, rendered):
        found = images.images(indices)
        assert found.shape == (len(meant), 3, 24, 24)
        assert torch.equal(found, images.images()[meant])


def test_no_path_is_not_the_working_folder(model, tree, tmp_path, monkeypatch, capsys):
    """A shell makes one of a variable that is not set."""
    monkeypatch.chdir(tree)
    with pytest.raises(ValueError, match="a path is empty"):
        PhotoFolder("", 24)
    assert audit(model, "", tmp_path / "out") == 2
    assert capsys.readouterr().err == "wallcheck audit: a path is empty; write it out, . for the folder you are in\n"


def test_only_the_images_audited_need_a_label(model, tree, tmp_path, capsys):
    photographs(tree, "zebra/1.png")
    assert audit(model, tree, tmp_path / "run", "--count", "8") == 0
    assert audit(model, tree, tmp_path / "all") == 2
    assert (
        f"tree has no labels: {tree}/zebra/1.png lies in no folder named as a class of the net (dog, ant, cat, bee); lay "
        "the photographs out as FOLDER/CLASS/IMAGE or explain the predicted class instead"
    ) in capsys.readouterr().err


def test_names_that_nobody_kept_are_given(nameless, tree, tmp_path):
    """As a text file, which keeps the net's order; as a tree or a set, which have one."""
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    assert audit(nameless, tree, tmp_path / "run", "--classes", str(tmp_path / "names.txt")) == 0
    assert targets(tmp_path / "run") == [1, 1, 3, 3, 2, 2, 0, 0]
    assert class_names(tree) == ("ant", "bee", "cat", "dog")
    assert class_names(write_set(tmp_path / "train", 3)) == ("a", "b", "c", "d")


def test_as_many_folders_as_classes_are_taken_in_alphabetical_order_and_this_is_said(nameless, tree, tmp_path, capsys):
    assert audit(nameless, tree, tmp_path / "run") == 0
    assert targets(tmp_path / "run") == [0, 0, 1, 1, 2, 2, 3, 3]
    assert capsys.readouterr().err == (
        f"wallcheck audit: {tree}: its 4 folders in alphabetical order are taken for the net's classes\n"
    )


def test_numbers_are_names_of_classes_without_names(nameless, tmp_path):
    tree = photographs(tmp_path / "tree", "3/a.png", "1/b.png")
    assert audit(nameless, tree, tmp_path / "run") == 0
    assert targets(tmp_path / "run") == [1, 3]


def test_folders_that_cannot_be_classes_are_refused(nameless, tmp_path, capsys):
    tree = photographs(tmp_path / "tree", "cat/a.png", "dog/b.png")
    assert audit(nameless, tree, tmp_path / "run") == 2
    assert (
        "the names of the net's classes are not known, nor which of its folders (cat, dog) is which; give them with "
        "--classes (a tree TREE/CLASS/IMAGE, an image set, or a text file with one name a line)"
    ) in capsys.readouterr().err
    assert audit(nameless, tree, tmp_path / "run", "--classes", str(tree)) == 2
    assert f"{tree} names 2 classes, the net has 4; give what the net was trained on" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["", "cat\ncat\n"])
def test_names_must_be_given_once_each(tmp_path, text):
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(ValueError, match=r"names\.txt has \d class names, \d of them different; give each once"):
        class_names(tmp_path / "names.txt")
    with pytest.raises(FileNotFoundError, match=r"no folder or file at .*nowhere"):
        class_names(tmp_path / "nowhere")


def test_a_set_of_other_classes_is_renumbered_by_name(tmp_path):
    """Labels of a set whose classes stand in another order are not the net's numbers."""
    folder = write_set(tmp_path / "mix", 30)
    plain, named = ImageSet(folder), open_images(folder, 24, ("d", "c", "x", "a"))
    assert named.labels.tolist() == [{0: 3, 1: -1, 2: 1, 3: 0}[label] for label in plain.labels.tolist()]
    assert named.classes == ("d", "c", "x", "a")
    with pytest.raises(ValueError, match=r"mix has no labels: the set's classes \(a, b, c, d\) are not all classes of"):
        Study({"net": trained_tiny()}, [named], ["gradcam"], targets="label")
    assert (ImageSet(folder, "abcd").labels == plain.labels).all()


def test_training_leaves_the_names_of_the_classes_in_the_description(tmp_path):
    from lightning import Trainer

    from wallcheck.lit.sets import TrainingSets
    from wallcheck.lit.training import BlindClassifier, SaveNet

    for name in ("train", "val"):
        write_set(tmp_path / "data" / name, 4, size=96)
    trainer = Trainer(
        default_root_dir=tmp_path, max_steps=1, logger=False, callbacks=[SaveNet()], enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, accelerator="cpu", use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(BlindClassifier(num_classes=4), TrainingSets(str(tmp_path / "data"), batch_size=4))
    net = models.load(tmp_path / "model.safetensors")
    tree = photographs(tmp_path / "tree", "b/1.png")
    assert images_for(net, tree).classes == ("a", "b", "c", "d")
    assert images_for(net, tree).labels.tolist() == [1]


# Identity


def test_identity_is_of_the_images_audited_alone(tree, monkeypatch):
    folder, read, plain = PhotoFolder(tree, 24, NAMES), [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or plain(path))
    of_three = folder.identify(3)
    assert read == folder.paths[:3]
    assert (of_three["count"], of_three["name"], of_three["size"]) == (3, "tree", 24)
    (tree / "dog" / "1.png").unlink()
    assert PhotoFolder(tree, 24, NAMES).identify(3) == of_three
    (tree / "ant" / "0.png").write_bytes(b"other")
    assert PhotoFolder(tree, 24, NAMES).identify(3) != of_three


@pytest.mark.parametrize("what", ["name", "label", "bytes"])
def test_identity_knows_names_labels_and_bytes(tree, what):
    before = PhotoFolder(tree, 24, NAMES).identity
    if what == "name":
        (tree / "dog" / "1.png").rename(tree / "dog" / "2.png")
    elif what == "bytes":
        photographs(tree, "dog/1.png")
    after = PhotoFolder(tree, 24, NAMES[::-1] if what == "label" else NAMES).identity
    assert after["sha256"] != before["sha256"]
    assert PhotoFolder(tree, 24, NAMES[::-1] if what == "label" else NAMES).identity == after
    assert json.loads(json.dumps(after)) == after


def test_identity_of_a_set_knows_its_first_images_and_labels(tmp_path):
    folder = write_set(tmp_path / "mix", 6)
    of_four, whole = ImageSet(folder).identify(4), ImageSet(folder).identity
    labels = np.load(folder / "labels.npy")
    for image in (5, 3):
        labels[image] = (labels[image] + 1) % 4
        np.save(folder / "labels.npy", labels)
        assert ImageSet(folder).identity != whole
        assert (ImageSet(folder).identify(4) == of_four) == (image > 3)


def test_only_what_is_audited_is_read_and_can_fail(tree, tmp_path, monkeypatch):
    for path in sorted(tree.rglob("*.png"))[3:]:
        path.write_bytes(b"")
    run(Study({"net": trained_tiny()}, [PhotoFolder(tree, 24)], ["gradcam"], count=3), tmp_path / "run")
    assert merge(tmp_path / "run")["image"].nunique() == 3
    with pytest.raises(ValueError, match=r"bee/1\.png is no readable image"):
        run(Study({"net": trained_tiny()}, [PhotoFolder(tree, 24)], ["gradcam"], count=4), tmp_path / "other")


# What is said


def test_what_was_passed_over_is_said_once_in_one_line(model, tree, tmp_path, capsys):
    (tree / "notes.txt").write_text("hello")
    assert audit(model, tree, tmp_path / "run") == 0
    assert capsys.readouterr().err == f"wallcheck audit: {tree}: 8 images; passed over: 1 .txt\n"
    with pytest.warns(PhotoNotice, match=r"8 images; passed over: 1 \.txt$") as heard:
        PhotoFolder(tree, 24)
    assert len(heard) == 1


# What is damaged, or written in another way


HOSTILE = {
    "a number": b"5",
    "a list": b"[1]",
    "a name that is none": b'{"name": 5}',
    "classes that are none": b'{"name": "x", "classes": 5}',
    "no UTF-8": b'{"name": "\xe9"}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_damaged_description_names_its_file(tmp_path, text):
    folder = write_set(tmp_path / "set", 2)
    (folder / "set.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"set.json is damaged .*copy it again"):
        open_images(folder, 24)


def test_arrays_of_another_kind_are_refused_when_the_set_is_opened(tmp_path):
    folder = write_set(tmp_path / "set", 2)
    np.save(folder / "labels.npy", np.array(["a", "b"]))
    with pytest.raises(ValueError, match="expected uint8"):
        ImageSet(folder)
    (folder / "labels.npy").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ValueError, match=r"labels.npy is damaged"):
        ImageSet(folder)


def test_a_name_is_one_however_its_accents_are_written(tmp_path):
    tree = photographs(tmp_path / "tree", "cafe\u0301/0.png")
    assert PhotoFolder(tree, 24, ("bar", "caf\u00e9")).labels.tolist() == [1]


def test_a_list_of_names_may_begin_with_a_byte_order_mark_and_is_utf_8(tmp_path):
    names = tmp_path / "names.txt"
    names.write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n")
    assert class_names(names) == ("cat", "dog")
    names.write_bytes("caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"names.txt is no text in UTF-8"):
        class_names(names)

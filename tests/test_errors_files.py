"""Bad images, sets and model files: the message says what, got, wanted and what to do next; no run begins."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.nets import tiny
from tests.sets import write_set
from wallcheck.auditing import audit
from wallcheck.data import PhotoFolder, normalise, open_images
from wallcheck.evidence import Evidence
from wallcheck.photos import PhotoNotice
from wallcheck.prediction import predict_leakage
from wallcheck.results import merge

# Images


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("no image at all")


def bit_flipped(path: Path) -> None:
    """A byte in the middle of the compressed pixels."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [truncated, empty, text, bit_flipped])
def test_a_damaged_image_is_named_and_the_audit_goes_on_once_it_is_repaired(wallcheck, photographs, damage):
    third = sorted(path for path in photographs.rglob("*") if path.is_file())[2]
    third = third.rename(third.with_suffix(".png"))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(third)
    whole = third.read_bytes()
    damage(third)
    status, line, out = wallcheck()
    assert status == 2
    assert line.startswith(f"wallcheck audit: {third} is no readable image (")
    assert line.endswith("); remove or repair it\n")
    assert line.count("\n") == 1
    assert not out.exists()
    third.write_bytes(whole)
    assert wallcheck()[0] == 0
    assert merge(out)["image"].nunique() == 5


def test_a_damaged_image_that_is_not_asked_for_does_not_matter(wallcheck, photographs):
    truncated(sorted(path for path in photographs.rglob("*") if path.is_file())[4])
    status, _, out = wallcheck("--count", "4")
    assert status == 0
    assert merge(out)["image"].nunique() == 4


def test_a_folder_without_images(wallcheck, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").write_text("hello")
    status, line, out = wallcheck(images=tmp_path / "none")
    assert status == 2
    assert line.startswith(f"wallcheck audit: {tmp_path / 'none'} holds no images of a type that is read (0 images; ")
    assert line.endswith("; passed over: 1 .txt); give a folder that has some\n")
    assert not out.exists()


def test_a_folder_that_is_not_there(wallcheck, tmp_path):
    status, line, out = wallcheck(images=tmp_path / "nowhere")
    assert (status, line) == (2, f"wallcheck audit: no folder at {tmp_path / 'nowhere'}; give a folder of images\n")
    assert not out.exists()


@pytest.mark.parametrize("shape", [(1, 1, 24, 24), (1, 4, 24, 24), (1, 24, 24, 3), (1, 3, 23, 24)])
def test_tensors_of_another_shape(shape):
    for door in (lambda x: audit(tiny(), x, ["gradcam"]), lambda x: Evidence(tiny(), x)):
        with pytest.raises(
            ValueError, match=r"images have shape \(1, .*this net takes \(B, 3, 24, 24\); read them with"
        ):
            door(torch.zeros(shape))


def test_no_images_at_all():
    none = torch.zeros(0, 3, 24, 24)
    for door in (
        lambda: audit(tiny(), none, ["gradcam"]),
        lambda: predict_leakage(tiny(), none),
        lambda: Evidence(tiny(), none),
    ):
        with pytest.raises(ValueError, match=r"there are no images.*; pass at least one"):
            door()


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_batches_of_no_size(size):
    with pytest.raises(ValueError, match="batch_size is"):
        predict_leakage(tiny(), torch.zeros(1, 3, 24, 24), batch_size=size)


@pytest.mark.parametrize(
    "array", [np.zeros((1, 9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.uint8), np.zeros((1, 9, 9, 3))]
)
def test_arrays_that_are_no_rgb(array):
    with pytest.raises(
        ValueError, match=r"images are torch\.\w+ \(.*\), expected uint8 \(B, H, W, 3\); convert them to RGB"
    ):
        normalise(array)


def test_a_set_of_another_size(wallcheck, tmp_path):
    write_set(tmp_path / "mix", 3, size=32)
    status, line, out = wallcheck(images=tmp_path / "mix")
    assert status == 2
    assert "has images of shape (32, 32, 3), the net takes (24, 24, 3); take photographs" in line
    assert "or generate the set with --size 24" in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda f: (f / "images.npy").unlink(), FileNotFoundError, r"images\.npy is missing; copy it again, or generate it again"),
        (lambda f: truncated(f / "images.npy"), ValueError, r"images\.npy is damaged"),
        (lambda f: empty(f / "labels.npy"), ValueError, r"labels\.npy is damaged"),
        (lambda f: np.save(f / "labels.npy", np.zeros(2, int)), ValueError, r"holds 4 images, 2 labels and 4 masks"),
        (lambda f: (f / "set.json").write_text("{"), ValueError, r"set\.json is damaged"),
        (lambda f: (f / "set.json").write_text("{}"), ValueError, r"set\.json is damaged"),
    ],
)  # fmt: skip
def test_a_damaged_set(tmp_path, damage, error, message):
    folder = write_set(tmp_path / "mix", 4)
    damage(folder)
    with pytest.raises(error, match=message) as raised:
        open_images(folder, 24)
    assert "python -m data_gen" in str(raised.value)


def test_a_folder_of_photographs_lists_images_alone(photographs):
    (photographs / "notes.txt").write_text("hello")
    (photographs / ".hidden").write_text("hello")
    with pytest.warns(PhotoNotice, match=r"photographs: 5 images; passed over: 1 \.txt$"):
        assert len(PhotoFolder(photographs, 24)) == 5
    assert json.dumps(PhotoFolder(photographs, 24).identity)


# Model files


def test_a_truncated_model(wallcheck, model):
    truncated(model)
    status, line, out = wallcheck()
    assert status == 2
    assert line.startswith(f"wallcheck audit: {model} is truncated or no safetensors file (")
    assert line.endswith("; copy or train it again\n")
    assert not out.exists()

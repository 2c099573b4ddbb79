"""STACK-MIX from a tree of photographs."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data_gen import stack_mix_from_folder
from data_gen.photographs import photographs, read_square
from wallcheck.photos import PhotoNotice


@pytest.fixture
def tree(tmp_path) -> Path:
    """Three classes of plain images, each of its own colour; the third has one image only."""
    for label, (name, images) in enumerate({"ant": 4, "bee": 2, "cat": 1}.items()):
        for i in range(images):
            path = tmp_path / "tree" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40 + 8 * i, 50), (100 * label, 40 * i, 255)).save(path)
    return tmp_path / "tree"


def test_top_and_bottom_are_two_images_of_one_class(tree, tmp_path):
    folder = stack_mix_from_folder(tree, tmp_path, count=12, size=32, wall_row=20)
    images, labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
    table = pd.read_parquet(folder / "scenes.parquet")
    assert sorted(set(labels.tolist())) == [0, 1]
    assert (np.bincount(labels) == 6).all()
    assert (table["top"] != table["bottom"]).all()
    for image, label, top, bottom in zip(images, labels, table["top"], table["bottom"], strict=True):
        assert Path(top).parent == Path(bottom).parent
        assert (image[:20] == (100 * label, 40 * int(Path(top).stem), 255)).all()
        assert (image[20:] == (100 * label, 40 * int(Path(bottom).stem), 255)).all()
    assert not np.load(folder / "masks.npy").any()


def test_every_image_of_a_class_is_used_before_one_is_used_again(tree, tmp_path):
    folder = stack_mix_from_folder(tree, tmp_path, count=4, size=32)
    table = pd.read_parquet(folder / "scenes.parquet")
    ants = table[table["label"] == 0]
    assert len({*ants["top"], *ants["bottom"]}) == 4


def test_the_bottom_shows_the_first_rows(tmp_path):
    """Rows below the wall are rows 0, 1, ... of the second image, as in the paper's figures."""
    ramp = np.repeat(np.arange(32, dtype=np.uint8)[:, None], 32, 1)
    for i in range(2):
        (tmp_path / "tree" / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(ramp + 100 * i).save(tmp_path / "tree" / "a" / f"{i}.png")
    folder = stack_mix_from_folder(tmp_path / "tree", tmp_path, count=1, size=32, wall_row=20)
    rows = np.load(folder / "images.npy")[0, :, 0, 0].astype(int) % 100
    assert rows.tolist() == [*range(20), *range(12)]


def test_the_shorter_side_is_resized_and_the_centre_is_cut_out(tmp_path):
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, 64:128] = 255  # the middle third is the square
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert read_square(tmp_path / "wide.png", 32)[:, 1:-1].min() == 255


def test_the_same_tree_and_seed_give_the_same_bytes_and_a_changed_tree_is_noticed(tree, tmp_path):
    one, two = (stack_mix_from_folder(tree, tmp_path / part, count=6, size=32) for part in "ab")
    assert (one / "images.npy").read_bytes() == (two / "images.npy").read_bytes()
    Image.new("RGB", (64, 64)).save(tree / "cat" / "second.png")
    with pytest.raises(FileExistsError, match="holds another set"):
        stack_mix_from_folder(tree, tmp_path / "a", count=6, size=32)


def test_grey_and_transparent_images_are_read_as_colour(tmp_path):
    for mode in ("L", "RGBA", "P", "CMYK"):
        Image.new(mode, (40, 40)).save(tmp_path / f"{mode}.tif")
        assert read_square(tmp_path / f"{mode}.tif", 32).shape == (32, 32, 3)


def test_what_lies_about_in_a_tree_is_no_class_and_no_photograph(tree, tmp_path):
    """Hidden folders and files, pipes; linked class folders are classes."""
    store = tmp_path / "store"
    store.mkdir()
    for i in range(2):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(store / f"{i}.png")
        (tree / "ant" / f"._{i}.png").write_bytes(b"\0")
    (tree / ".ipynb_checkpoints").symlink_to(store)
    (tree / "dog").symlink_to(store)
    os.mkfifo(tree / "bee" / "pipe.png")
    with pytest.warns(PhotoNotice, match=r"tree: 9 images; passed over: 1 pipe\(s\), socket\(s\) or device\(s\)$"):
        found = photographs(tree)
    assert {name: len(paths) for name, paths in found.items()} == {"ant": 4, "bee": 2, "cat": 1, "dog": 2}


def test_names_that_are_no_utf8_are_kept_in_letters(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/tree/caf\xe9"))
    folder.mkdir(parents=True)
    for name in (b"\xe8.png", b"\xe9.png"):
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            Image.new("RGB", (40, 40)).save(file, "PNG")
    made = stack_mix_from_folder(tmp_path / "tree", tmp_path / "out", count=2, size=32)
    tops = set(pd.read_parquet(made / "scenes.parquet")["top"])
    assert tops <= {f"{tmp_path}/tree/caf\\xe9/\\xe8.png", f"{tmp_path}/tree/caf\\xe9/\\xe9.png"}
    assert json.loads((made / "set.json").read_text())["classes"] == ["caf\\xe9"]


def test_a_damaged_photograph_that_is_not_used_does_not_matter(tree, tmp_path):
    (tree / "cat" / "0.png").write_bytes(b"")  # a class with one photograph has no pairs
    assert (stack_mix_from_folder(tree, tmp_path / "out", count=4, size=32) / "set.json").is_file()


def test_other_bytes_in_a_photograph_used_are_noticed(tree, tmp_path):
    stack_mix_from_folder(tree, tmp_path / "out", count=6, size=32)
    data = bytearray((tree / "bee" / "0.png").read_bytes())
    data[-1] ^= 1  # of the same size
    (tree / "bee" / "0.png").write_bytes(bytes(data))
    with pytest.raises(FileExistsError, match="source_digest"):
        stack_mix_from_folder(tree, tmp_path / "out", count=6, size=32)


@pytest.mark.parametrize("damage", ["not an image", "cut short"])
def test_a_corrupted_image_is_named_and_nothing_is_left(tree, tmp_path, damage):
    path = tree / "bee" / "1.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(b"no picture" if damage == "not an image" else path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"bee/1.png is no readable image .*; remove or repair it"):
        stack_mix_from_folder(tree, tmp_path / "out", count=10, size=32)
    assert list((tmp_path / "out").iterdir()) == []


def test_trees_without_pairs_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="one folder of images per class"):
        stack_mix_from_folder(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty" / "class").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"has 1 class folders and none with two images.*TREE/CLASS/IMAGE"):
        stack_mix_from_folder(tmp_path / "empty", tmp_path)

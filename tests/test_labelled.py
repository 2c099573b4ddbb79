"""Labelled images as users have them: class folders, CIFAR's layout, our sets; and the augmentations."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from tests.sets import pixels, write_cifar, write_class_folders, write_set
from wallcheck.labelled import AREA, ASPECT, AUGMENTATIONS, Arrays, augmented, class_names, open_labelled, random_part
from wallcheck.lit.sets import Batches


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_class_folders(tmp_path_factory.mktemp("tree"), train=12, val=6)


def test_class_folders_are_labels_in_alphabetical_order(tree):
    train, val = (open_labelled(tree, part) for part in ("train", "val"))
    assert train.classes == val.classes == class_names(tree) == ("ant", "bee", "cow", "dog")
    assert (len(train), len(val)) == (12, 6)
    for images in (train, val):
        assert [images.classes[label] for label in images.labels] == [path.parent.name for path in images.paths]
    assert train.whole(0).dtype == np.uint8
    assert train.whole(0).shape[2] == 3
    assert train.squares([0, 3], 24).shape == (2, 24, 24, 3)


def test_a_class_that_val_lacks_keeps_its_place(tree, tmp_path):
    tree = write_class_folders(tmp_path, train=12, val=6)
    for path in (tree / "val" / "bee").iterdir():
        path.unlink()
    (tree / "val" / "bee").rmdir()
    val = open_labelled(tree, "val")
    assert val.classes == ("ant", "bee", "cow", "dog")
    assert {val.classes[label] for label in val.labels} == {"ant", "cow", "dog"}


def test_hidden_names_do_not_count(tree, tmp_path):
    tree = write_class_folders(tmp_path, train=8, val=4)
    (tree / "train" / ".ipynb_checkpoints").mkdir()
    (tree / "train" / "ant" / "._twin.png").write_bytes(b"no image")
    (tree / "train" / "ant" / "notes.txt").write_text("no image")
    images = open_labelled(tree, "train")
    assert len(images) == 8
    assert images.classes == ("ant", "bee", "cow", "dog")


def test_what_is_no_tree_says_so(tree, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder at .*train; give a folder with train/ and val/"):
        open_labelled(tmp_path / "nowhere", "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match=r"no class folders; lay the images out as train/CLASS/IMAGE"):
        open_labelled(tmp_path, "train")
    (tmp_path / "train" / "ant").mkdir()
    with pytest.raises(ValueError, match=r"ant.*put images there or remove the folder"):
        open_labelled(tmp_path, "train")
    odd = write_class_folders(tmp_path / "odd", train=8, val=4)
    (odd / "val" / "ant").rename(odd / "val" / "eel")
    with pytest.raises(ValueError, match="has folders eel that are no class of train"):
        open_labelled(odd, "val")


def test_a_damaged_photograph_is_named(tmp_path):
    tree = write_class_folders(tmp_path, train=8, val=4)
    images = open_labelled(tree, "train")
    images.paths[2].write_bytes(b"half a file")
    for read in (lambda: images.whole(2), lambda: images.squares([1, 2], 24)):
        with pytest.raises(ValueError, match=f"{images.paths[2].name} is no readable image .*remove or repair it"):
            read()


def test_our_sets_are_read_as_they_are(tmp_path):
    write_set(tmp_path / "train", 9, seed=3)
    images = open_labelled(tmp_path, "train")
    wanted, labels = pixels(9, seed=3)
    assert np.array_equal(images.squares(range(9), 24), wanted)
    assert np.array_equal(images.labels, labels)
    assert images.classes == class_names(tmp_path) == ("a", "b", "c", "d")
    with pytest.raises(ValueError, match=r"has images of 24 px, the net takes 32; .*--model.image_size 24"):
        images.squares([0], 32)
    with pytest.raises(ValueError, match="the net takes 32"):
        Batches(images, 32, "flip")


# CIFAR's layout


@pytest.mark.parametrize(("kind", "count"), [("cifar10", 20), ("cifar100", 8)])
def test_cifars_layout_is_read_through_torchvision(tmp_path, kind, count):
    drawn, labels, names = write_cifar(tmp_path, kind)
    train, val = (open_labelled(tmp_path, part) for part in ("train", "val"))
    assert (len(train), len(val)) == (count, 4)
    assert train.classes == class_names(tmp_path) == tuple(names)
    assert np.array_equal(np.concatenate([train.squares(range(count), 32), val.squares(range(4), 32)]), drawn)
    assert np.array_equal(np.concatenate([train.labels, val.labels]), labels)


def test_a_pickle_that_would_run_something_is_not_opened(tmp_path):
    write_cifar(tmp_path, "cifar10")

    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    batch = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(pickle.dumps({"data": Trap(), "labels": []}))
    with pytest.raises(ValueError, match=r"data_batch_3 is no file of CIFAR's .*unpack the archive again"):
        open_labelled(tmp_path, "train")
    assert not (tmp_path / "sprung").exists()
    batch.unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_3 is missing"):
        open_labelled(tmp_path, "train")


# Augmentation


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_random_area_shows_parts_of_the_areas_and_aspects_asked_for():
    """On an image whose red is the row and green the column, a part's first and last values tell its box."""
    rows, columns = np.mgrid[:200, :240]
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    areas, aspects = [], []
    for seed in range(300):
        part = random_part(image, 8, generator(seed)).astype(float)
        assert part.shape == (8, 8, 3)
        height, width = 8 / 7 * (part[-1, 0, 0] - part[0, 0, 0]), 8 / 7 * (part[0, -1, 1] - part[0, 0, 1])
        areas.append(height * width / (200 * 240))
        aspects.append(width / height)
    assert AREA[0] - 0.02 < min(areas) < 0.2
    assert 0.8 < max(areas) < AREA[1] + 0.05
    assert ASPECT[0] - 0.05 < min(aspects) < 0.85
    assert 1.2 < max(aspects) < ASPECT[1] + 0.05
    share, aspect = np.meshgrid(np.linspace(*AREA, 500), np.exp(np.linspace(*np.log(ASPECT), 500)))
    fits = (share * aspect <= 240 / 200) & (share / aspect <= 200 / 240)  # what does not fit is drawn again
    assert np.mean(areas) == pytest.approx(share[fits].mean(), abs=0.04)  # 300 draws: a standard error of 0.013


def test_random_area_follows_from_its_generator_and_leaves_the_global_one_alone():
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (random_part(image, 16, generator(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_does_what_its_name_says(name):
    drawn, labels = pixels(40)
    images = Arrays("here", drawn, labels, "abcd")
    found = augmented(images, list(range(40)), 24, AUGMENTATIONS[name], generator(1)).numpy()
    same = [np.array_equal(a, b) for a, b in zip(found, drawn, strict=True)]
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(found, drawn, strict=True)]
    assert found.dtype == np.uint8
    if name == "none":
        assert all(same)
    elif name == "flip":
        assert all(s != m for s, m in zip(same, mirrored, strict=True))
        assert 10 < sum(mirrored) < 30
    else:
        assert not any(same + mirrored)


def test_photographs_of_any_size_become_batches(tree):
    images = open_labelled(tree, "train")
    for name in AUGMENTATIONS:
        batch, labels = Batches(images, 20, name, seed=4)[[0, 5, 7]]
        assert batch.shape == (3, 3, 20, 20)
        assert labels.tolist() == images.labels[[0, 5, 7]].tolist()
        assert torch.equal(batch, Batches(images, 20, name, seed=4)[[0, 5, 7]][0])


def test_a_grey_or_transparent_photograph_is_three_channels(tmp_path):
    tree = write_class_folders(tmp_path, train=8, val=4)
    Image.fromarray(np.full((30, 30), 7, np.uint8)).save(tree / "train" / "ant" / "grey.png")
    images = open_labelled(tree, "train")
    grey = [path.name for path in images.paths].index("grey.png")
    assert np.array_equal(images.whole(grey), np.full((30, 30, 3), 7))

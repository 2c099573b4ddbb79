"""The image sets of data_gen: what is above and below the wall, what is stored, what a failure leaves behind."""

import json
import multiprocessing
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency

import data_gen
from data_gen import CLASSES, SETS, Scene, draw, make_set, making, stack_mix_from_folder
from data_gen.contact import class_sheet, set_sheet
from data_gen.recipes import RECIPES, Frame, plan, samples
from wallcheck.writing import HOST

ROOT = Path(__file__).parents[2]
CONTROLS = [name for name in SETS if name.startswith("mix_")]


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, Path]:
    """Every set with 40 images of 48 px."""
    out = tmp_path_factory.mktemp("sets")
    return {name: make_set(name, out, count=40, size=48) for name in SETS}


def arrays(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, pd.DataFrame]:
    loaded = (np.load(folder / f"{name}.npy") for name in ("images", "masks", "labels"))
    return *loaded, pd.read_parquet(folder / "scenes.parquet")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# What the sets hold


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_images_masks_labels_scenes_and_description(sets, name):
    images, masks, labels, table = arrays(sets[name])
    assert (images.dtype, images.shape) == (np.uint8, (40, 48, 48, 3))
    assert (masks.dtype, masks.shape) == (np.uint8, (40, 48, 48))
    assert (labels.dtype, labels.shape) == (np.int64, (40,))
    assert np.array_equal(table["label"], labels)
    assert np.array_equal(table["image"], np.arange(40))
    assert Counter(labels.tolist()) == dict.fromkeys(range(10), 4)
    description = json.loads((sets[name] / "set.json").read_text())
    assert {"name": name, "count": 40, "size": 48, "wall_row": 24, "seed": 0}.items() <= description.items()
    assert description["classes"] == list(CLASSES)


@pytest.mark.parametrize("name", SETS)
def test_masks_know_what_is_above_and_below(sets, name):
    _, masks, _, table = arrays(sets[name])
    assert set(np.unique(masks[:, :24])) == {0, 1}
    assert set(np.unique(masks[:, 24:])) <= {0, 2}
    assert np.array_equal((masks[:, 24:] == 2).any((1, 2)), table["below"] >= 0)
    for side, prefix in ((1, ""), (2, "below_")):
        for mask, (_, place) in zip(masks, table.iterrows(), strict=True):
            if (mask == side).any():
                middle = np.argwhere(mask == side).mean(0) + 0.5
                off = middle - (place[f"{prefix}row"], place[f"{prefix}column"])
                assert np.hypot(*off) < 0.35 * place[f"{prefix}radius"]


@pytest.mark.parametrize("name", SETS)
def test_the_stored_scenes_draw_the_stored_bytes(sets, name):
    images, masks, _, table = arrays(sets[name])
    again, again_masks = draw([Scene.from_json(line) for line in table["top"]])
    assert np.array_equal(images[:, :24], again[:, :24])
    assert np.array_equal(masks[:, :24], again_masks[:, :24])


def test_the_seam_of_stack_mix_is_the_wall(sets):
    images, _, _, table = arrays(sets["stack_mix"])
    tops, bottoms = ([Scene.from_json(line) for line in table[part]] for part in ("top", "bottom"))
    assert np.array_equal(images[:, :24], draw(tops)[0][:, :24])
    assert np.array_equal(images[:, 24:], draw(bottoms)[0][:, :24])
    assert [scene.label_on(1) for scene in tops] == [scene.label_on(1) for scene in bottoms]
    assert not set(tops) & set(bottoms)


def test_the_paper_geometry_shows_the_first_54_rows_below_the_wall(tmp_path):
    folder = make_set("stack_mix", tmp_path, count=3, size=224, wall_row=170)
    images, masks, _, table = arrays(folder)
    bottoms, bottom_masks = draw([Scene.from_json(line) for line in table["bottom"]])
    assert np.array_equal(images[:, 170:], bottoms[:, :54])
    assert np.array_equal(masks[:, 170:], 2 * bottom_masks[:, :54])
    assert not bottom_masks[:, 54:].any()  # nothing of the object is cut off


def test_stack_gen_is_one_scene_with_two_objects_of_one_class(sets):
    images, _, labels, table = arrays(sets["stack_gen"])
    scenes = [Scene.from_json(line) for line in table["top"]]
    assert np.array_equal(images, draw(scenes)[0])
    assert all(s.label_on(1) == s.label_on(2) == label for s, label in zip(scenes, labels, strict=True))


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_show_the_tops_of_stack_mix(sets, name):
    images, _, labels, _ = arrays(sets[name])
    mix, _, mix_labels, _ = arrays(sets["stack_mix"])
    assert np.array_equal(labels, mix_labels)
    assert np.array_equal(images[:, :24], mix[:, :24])
    assert (images[:, 24:] != mix[:, 24:]).any((1, 2, 3)).all()


def test_below_the_controls_lie_another_class_background_noise_and_a_constant(sets):
    _, _, labels, table = arrays(sets["mix_other_class"])
    assert ((table["below"] >= 0) & (table["below"] != labels)).all()
    for name in ("mix_background", "mix_noise", "mix_constant"):
        assert (arrays(sets[name])[3]["below"] == -1).all()
    assert (arrays(sets["mix_constant"])[0][:, 24:] == 128).all()
    noise = arrays(sets["mix_noise"])[0][:, 24:].astype(float)
    assert abs(noise.mean() - 127.5) < 1
    assert abs(np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]) < 0.02


# The label and what lies below the wall


@pytest.mark.parametrize("name", ["train", "val"])
def test_the_label_is_exactly_independent_of_what_lies_below(name):
    """Every label meets nothing and every class equally often: chi-square is 0, not merely small."""
    planned = plan(name, 1_000, seed=3)
    table = pd.crosstab(*zip(*planned, strict=True)).to_numpy()
    assert table.shape == (10, 11)
    assert (table[:, 0] == 50).all()
    assert (table[:, 1:] == 5).all()
    assert chi2_contingency(table).statistic == 0


@pytest.mark.parametrize("count", [37, 100, 450, 9_999])
def test_an_odd_count_is_as_balanced_as_it_can_be(count):
    labels, below = map(np.array, zip(*plan("train", count, seed=0), strict=True))
    assert np.ptp(np.bincount(labels, minlength=10)) <= 1
    assert abs((below < 0).mean() - 0.5) < 0.05
    table = pd.crosstab(labels, below).to_numpy()
    assert chi2_contingency(table).pvalue > 0.5 or count < 100


def test_another_class_is_every_other_class_equally_often():
    counts = Counter(plan("mix_other_class", 180, seed=0))
    assert set(counts.values()) == {2}
    assert len(counts) == 90


# Chance


def test_sets_share_no_scene_but_for_the_tops_of_the_controls():
    frame, seen = Frame(96, 48, 0), {}
    for name in SETS:
        scenes = {scene for s in samples(name, 60, frame) for scene in (s.top, s.bottom) if isinstance(scene, Scene)}
        if RECIPES[name].tops:
            scenes -= seen["stack_mix"]
        assert not any(scenes & other for other in seen.values())
        seen[name] = scenes


def test_a_set_is_the_same_to_the_byte_however_the_work_is_split(tmp_path, monkeypatch):
    whole = contents(make_set("train", tmp_path / "a", count=50, size=32))
    monkeypatch.setattr(making, "IMAGES_PER_TASK", 7)
    with ThreadPoolExecutor(2) as pool:
        split = contents(make_set("train", tmp_path / "b", count=50, size=32, pool=pool))
    assert whole == split


def test_seeds_make_different_sets(tmp_path):
    one, two = (make_set("val", tmp_path / str(seed), count=10, size=32, seed=seed) for seed in (0, 1))
    assert not (arrays(one)[0] == arrays(two)[0]).all((1, 2, 3)).any()


# Files: complete or absent, kept or refused


def test_a_finished_set_is_kept_and_another_is_refused(tmp_path):
    folder = make_set("val", tmp_path, count=4, size=32)
    before = (folder / "images.npy").stat().st_mtime_ns
    assert make_set("val", tmp_path, count=4, size=32) == folder
    assert (folder / "images.npy").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match=r"holds another set .count 4, wanted 5.; choose another folder or"):
        make_set("val", tmp_path, count=5, size=32)
    assert len(np.load(folder / "labels.npy")) == 4
    make_set("val", tmp_path, count=5, size=32, overwrite=True)
    assert len(np.load(folder / "labels.npy")) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["val"]


def test_a_folder_that_is_no_set_is_never_touched(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "thesis.tex").write_text("unsaved")
    with pytest.raises(FileExistsError, match="is no image set; choose another folder"):
        make_set("val", tmp_path, count=4, size=32, overwrite=True)
    assert (tmp_path / "val" / "thesis.tex").read_text() == "unsaved"


def test_an_interrupted_run_leaves_nothing_and_can_be_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(making, "IMAGES_PER_TASK", 3)

    def stop(images):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_set("val", tmp_path, count=9, size=32, on_progress=stop)
    assert list(tmp_path.iterdir()) == []
    make_set("val", tmp_path, count=9, size=32)


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    left = tmp_path / f".val.{HOST}-{process.pid}-0123abcd.partial"
    left.mkdir()
    (left / "images.npy").write_text("half")
    make_set("val", tmp_path, count=4, size=32)
    assert not left.exists()


def test_two_processes_that_make_one_set_at_once_both_end_well(tmp_path):
    alone = contents(make_set("val", tmp_path / "alone", count=6, size=32))
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    both = [context.Process(target=_make_beside, args=(barrier, tmp_path / "both")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert [path.name for path in (tmp_path / "both").iterdir()] == ["val"]
    assert contents(tmp_path / "both" / "val") == alone


def _make_beside(barrier, out) -> None:
    """Both are within the making before either goes on."""
    make_set("val", out, count=6, size=32, on_progress=lambda _: barrier.wait(30))


def test_a_set_that_another_process_put_there_meanwhile_is_kept_and_another_set_is_refused(tmp_path):
    def meanwhile(count):
        return lambda _: make_set("val", tmp_path, count=count, size=32)

    make_set("val", tmp_path, count=4, size=32, on_progress=meanwhile(4))
    with pytest.raises(FileExistsError, match=r"holds another set .count 4, wanted 5"):
        make_set("val", tmp_path, count=5, size=32)
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(FileExistsError, match=r"holds another set .count 5, wanted 4"):
        make_set("val", tmp_path, count=4, size=32, on_progress=meanwhile(5))
    assert [path.name for path in tmp_path.iterdir()] == ["val"]
    assert len(np.load(tmp_path / "val" / "labels.npy")) == 5


def test_bad_requests_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="no image set named 'stack'; choose from train, val"):
        make_set("stack", tmp_path)
    with pytest.raises(ValueError, match="at least one image, got a count of 0"):
        make_set("val", tmp_path, count=0)
    with pytest.raises(ValueError, match="use a row from 12 to 20"):
        make_set("val", tmp_path, count=4, size=32, wall_row=4)
    with pytest.raises(ValueError, match="seed -1"):
        make_set("val", tmp_path, count=4, seed=-1)
    for wrong in (dict(count=1.5), dict(count=True), dict(size="32"), dict(seed=0.5)):
        ((name, value),) = wrong.items()
        with pytest.raises(ValueError, match=f"{name} is {value!r}, expected a whole number"):
            make_set("val", tmp_path, **wrong)
        with pytest.raises(ValueError, match=f"{name} is {value!r}, expected a whole number"):
            stack_mix_from_folder(tmp_path, tmp_path, **wrong)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write image sets into .*choose another folder"):
        make_set("val", tmp_path / "file", count=4, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Pages and commands


def test_contact_sheets_are_drawn(sets, tmp_path):
    class_sheet(tmp_path / "classes.png", size=32)
    set_sheet(tmp_path / "sets.png", list(sets.values()))
    assert all((tmp_path / name).stat().st_size > 50_000 for name in ("classes.png", "sets.png"))
    with pytest.raises(ValueError, match="render the sets first"):
        set_sheet(tmp_path / "none.png", [tmp_path / "nowhere"])


def data_gen_command(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "data_gen", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_command_renders_sets_in_silence_and_gives_the_bytes_of_the_library(tmp_path):
    flags = ["--out", str(tmp_path / "a"), "--sets", "val", "mix_noise", "--size", "32", "--val-count", "6"]
    done = data_gen_command(*flags, "--count", "5", "--seed", "2", "--processes", "2", "--contact-sheet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    made = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert made == ["contact_classes.png", "contact_sets.png", "mix_noise", "val"]
    for name, count in (("val", 6), ("mix_noise", 5)):
        own = make_set(name, tmp_path / "b", count=count, size=32, seed=2)
        assert contents(own) == contents(tmp_path / "a" / name)


def test_the_command_ends_with_a_plain_message(tmp_path):
    done = data_gen_command("--out", str(tmp_path), "--sets", "val", "--size", "8")
    assert done.returncode == 1
    assert done.stderr == "data_gen: images of 8 px are too small to tell shapes; use 32 px or more\n"


def test_the_door_shows_what_others_use():
    assert len(CLASSES) == 10
    assert all(hasattr(data_gen, name) for name in data_gen.__all__)

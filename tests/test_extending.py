"""A run folder holds one study and grows: by methods, images and metrics, and whatever two processes do at once."""

import json
import multiprocessing
import os
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from tests.nets import tiny, trained_tiny
from tests.sets import write_photographs, write_set
from wallcheck.auditing import Incomplete, audit
from wallcheck.cams import cam_method
from wallcheck.data import ImageSet, PhotoFolder
from wallcheck.plots import Examples
from wallcheck.registry import Registry
from wallcheck.results import Header, Manifest, examples_of, merge, shards
from wallcheck.running import run
from wallcheck.study import Study

SOME = ("gradcam", "hirescam", "random")


@pytest.fixture(scope="module")
def mix(tmp_path_factory):
    return ImageSet(write_set(tmp_path_factory.mktemp("sets") / "mix", 9))


def study(mix, methods=SOME, count=9, **changes):
    return Study(
        **dict(nets={"net": trained_tiny()}, image_sets=[mix], methods=methods, count=count, batch_size=3) | changes
    )


@pytest.fixture(scope="module")
def whole(mix, tmp_path_factory):
    return run(study(mix), tmp_path_factory.mktemp("runs") / "whole")


def same(one, two):
    pd.testing.assert_frame_equal(one.drop(columns="value"), two.drop(columns="value"))
    np.testing.assert_allclose(two["value"], one["value"], rtol=0, atol=5e-6)


STEPS = {
    "methods": [dict(methods=["gradcam"]), dict(methods=["hirescam", "random"])],
    "images": [dict(count=4), dict(count=9)],
    "metrics": [dict(metrics=["leak_mass"]), dict(metrics=None)],
    "all at once": [
        dict(methods=["random"], count=2, metrics=["leak_any", "leak_l2"]),
        dict(methods=["gradcam"]),
        dict(),
    ],
    "less in between": [dict(count=5), dict(count=1), dict()],
}


@pytest.mark.parametrize("kind", STEPS)
def test_a_finished_audit_takes_more_without_doing_the_rest_again(mix, whole, tmp_path, kind):
    before = {}
    for step in STEPS[kind]:
        table = run(study(mix, **step), tmp_path)
        kept = {path.name: path.read_bytes() for path in shards(tmp_path)}
        assert before.items() <= kept.items()
        before = kept
    same(table, whole)
    assert sum(len(pd.read_parquet(path)) for path in shards(tmp_path)) == len(whole)  # nothing measured twice
    config = Manifest.load(tmp_path).config
    assert (set(config["methods"]["net"]), config["count"]) == (set(SOME), 9)
    assert set(Examples.load(examples_of(tmp_path, "net", "mix")).maps) == set(SOME)
    assert pd.read_csv(tmp_path / "leakage.csv")["count"].eq(9).all()


def test_examples_grow_with_the_images(mix, tmp_path):
    for count in (1, 5):
        run(study(mix, count=count), tmp_path)
        assert len(Examples.load(examples_of(tmp_path, "net", "mix")).pixels) == count
    examples_of(tmp_path, "net", "mix").write_bytes(b"damaged")
    run(study(mix, count=5), tmp_path)
    assert len(Examples.load(examples_of(tmp_path, "net", "mix")).pixels) == 5


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (dict(seed=1), "seed: 0 there, 1 here"),
        (dict(targets="label"), "targets: predicted there, label here"),
        (dict(nets={"net": tiny()}), "nets.net.weights: "),
        (dict(nets={"net": trained_tiny(), "other": tiny()}), "nets.other.weights: nothing there, "),
    ],
)
def test_another_study_is_refused_and_told_what_differs(mix, tmp_path, change, field):
    run(study(mix, count=1), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match="holds an audit of other nets, images or settings") as raised:
        run(study(mix, **change), tmp_path)
    assert field in str(raised.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_other_labels_are_other_images(tmp_path):
    folder = write_set(tmp_path / "mix", 4)
    run(study(ImageSet(folder), ["hirescam"]), tmp_path / "run")
    np.save(folder / "labels.npy", (np.load(folder / "labels.npy") + 1) % 4)
    with pytest.raises(FileExistsError, match=r"image_sets\.mix\.labels: "):
        run(study(ImageSet(folder), ["hirescam"]), tmp_path / "run")


def test_images_added_behind_the_others_are_an_extension_and_fewer_are_not(tmp_path):
    folder = write_photographs(tmp_path / "photos", 2)
    run(study(PhotoFolder(folder, 24), ["hirescam"], None), tmp_path / "run")
    shutil.copy(next(folder.rglob("00*")), folder / "zz.png")
    assert run(study(PhotoFolder(folder, 24), ["hirescam"], None), tmp_path / "run")["image"].nunique() == 3
    for path in PhotoFolder(folder, 24).paths[1:]:
        path.unlink()
    with pytest.raises(FileExistsError, match=r"image_sets\.photos\.count: 2 there, 1 here"):
        run(study(PhotoFolder(folder, 24), ["hirescam"], None), tmp_path / "run")


def _claims(folder, seed, start, ends):
    from wallcheck.data import ImageSet

    start.wait()
    try:
        run(Study({"net": trained_tiny()}, [ImageSet(folder)], ["hirescam"], seed=seed, examples=0), folder / "run")
        ends.put("ran")
    except FileExistsError:
        ends.put("refused")


def test_of_two_settings_at_once_one_has_the_folder(tmp_path):
    folder, spawn = write_set(tmp_path / "mix", 4), multiprocessing.get_context("spawn")
    start, ends = spawn.Barrier(2), spawn.Queue()
    both = [spawn.Process(target=_claims, args=(folder, seed, start, ends)) for seed in (0, 1)]
    for one in both:
        one.start()
    assert sorted(ends.get(timeout=120) for _ in both) == ["ran", "refused"]
    for one in both:
        one.join()
    assert {Header.read(path).study for path in shards(folder / "run")} == {Manifest.load(folder / "run").digest}


@pytest.mark.parametrize("moment", [1, 2])
def test_a_second_job_of_another_batch_size_at_once(mix, whole, tmp_path, moment):
    told = []

    def second(*_):
        told.append(1)
        if len(told) == moment:
            run(study(mix, batch_size=2), tmp_path)

    same(run(study(mix, batch_size=4), tmp_path, progress=second), whole)
    same(run(study(mix), tmp_path), whole)


def test_a_bad_method_costs_itself_alone_in_a_run_and_is_tried_again(mix, whole, tmp_path):
    kind = dict(family="local", source="mine", cost="0", verdict="may_leak", name="mine")

    def mine(repaired):
        def body(ev):
            maps = ev.activations[:, 0].clone()
            maps[:, 0, 0] = 1 if repaired else torch.nan
            return maps

        return cam_method(**kind, registry=Registry("method"))(body)

    bad, good = mine(False), mine(True)
    with pytest.warns(Incomplete, match="mine gave no map for 9 images of mix on net; image 0: "):
        table = run(study(mix, [*SOME, bad]), tmp_path)
    same(table, whole)
    assert [(one["method"], one["count"]) for one in table.attrs["failures"]] == [("mine", 9)]
    with pytest.warns(Incomplete, match="mine gave no map"):  # tried again, and nothing else
        same(run(study(mix, [*SOME, bad]), tmp_path), whole)
    missing = pd.read_csv(tmp_path / "leakage.csv").set_index("method")["missing"]
    assert missing["mine"] == 9
    assert set(missing[list(SOME)]) == {0}
    assert "mine" not in Examples.load(examples_of(tmp_path, "net", "mix")).maps
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(study(mix), tmp_path).attrs["failures"] == []  # of what is asked, nothing is missing
        table = run(study(mix, [*SOME, good]), tmp_path)
    assert merge(tmp_path).attrs["failures"] == []
    assert table[table["method"] == "mine"]["image"].nunique() == 9


@pytest.mark.parametrize("name", ["sets/mix", "../mix", "a b", "写真"])
def test_names_of_sets_and_nets_may_hold_any_letters(tmp_path, name):
    folder = write_set(tmp_path / "mix", 2)
    (folder / "set.json").write_text(json.dumps(json.loads((folder / "set.json").read_text()) | {"name": name}))
    images = ImageSet(folder)
    table = run(study(images, ["hirescam"], nets={name: trained_tiny()}), tmp_path / "deep" / "run")
    assert table["images"].unique().tolist() == table["net"].unique().tolist() == [name]
    assert examples_of(tmp_path / "deep" / "run", name, name).is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"mix", "deep"}


def test_damaged_shards_are_measured_again(mix, whole, tmp_path):
    run(study(mix), tmp_path)
    one, two, _ = shards(tmp_path)
    one.write_bytes(b"")
    two.write_bytes(two.read_bytes()[:500])
    with pytest.warns(UserWarning, match=r"is damaged; it is kept as .*\.aside, and measured again"):
        table = run(study(mix), tmp_path)
    same(table, whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(targets=[0] * 5), r"there are \(5,\) targets for 4 images; give one class for each image"),
        (dict(targets=[0] * 3), r"there are \(3,\) targets for 4 images"),
        (dict(targets=[0, 1, 2, 99]), "targets run from 99 to 99, the net has classes 0 .. 3"),
        (dict(targets=-1), "targets run from -1 to -1"),
        (dict(targets=[0.0, 1, 2, 3]), "targets are torch.float32, expected class indices"),
        (dict(indices=[0, 0, 1, 2]), "there are 4 indices, 3 of them different, for 4 images"),
        (dict(indices=range(9)), "there are 9 indices"),
        (dict(batch_size=0), "batch_size is 0; give a whole number from 1 on"),
        (dict(seed=-1), "seed is -1; give a whole number from 0 on"),
        (dict(budget_mb=0), "budget_mb is 0; give"),
        (dict(methods=[]), "no methods were asked for"),
        (dict(methods=["gradcam", 3]), "3 is no method"),
        (dict(methods=["gradcam", "cam"]), "cam is not defined on this net: .*; leave it out"),
        (dict(metrics=[]), "no metrics were asked for"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_any_work(arguments, message):
    told = []
    with pytest.raises(ValueError, match=message):
        audit(tiny(), torch.zeros(4, 3, 24, 24), **dict(methods=["gradcam"], progress=told.append) | arguments)
    assert told == []


def test_one_method_one_metric_and_one_class_need_no_list():
    table = audit(tiny(), torch.rand(3, 3, 24, 24), "gradcam", metrics="leak_mass", targets=2)
    assert table["method"].unique().tolist() == ["gradcam"]
    assert table["metric"].unique().tolist() == ["leak_mass"]
    assert table["target"].unique().tolist() == [2]


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_wrapped_nets_are_audited_as_what_they_wrap(wrap):
    images = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    pd.testing.assert_frame_equal(audit(wrap(tiny()), images, SOME), audit(tiny(), images, SOME), check_exact=True)


def test_a_process_that_goes_elsewhere_writes_and_reads_where_it_began(tmp_path, monkeypatch):
    write_photographs(tmp_path / "photos", 4)
    monkeypatch.chdir(tmp_path)
    photos = PhotoFolder("photos", 24)
    (tmp_path / "elsewhere").mkdir()

    def goes(*_):
        os.chdir(tmp_path / "elsewhere")

    state = torch.random.get_rng_state()
    rows = run(Study({"net": tiny()}, [photos], ["gradcam"], batch_size=2, examples=0), "run", progress=goes)
    assert rows["image"].nunique() == 4 and (tmp_path / "run" / "leakage.csv").is_file()
    assert not any((tmp_path / "elsewhere").iterdir())
    assert torch.equal(torch.random.get_rng_state(), state)  # nor is the caller's generator moved on
